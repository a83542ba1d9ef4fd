//! A stored keyed state, as the checkpoint describes it.

use std::collections::HashSet;

use strandline_state_api::schema::{DataType, StateKind, StateMeta, StateTypes};
use strandline_state_api::{Error, OperatorId, Result};

use crate::decode::Decoder;
use crate::{Decoders, Value};

/// The keys, namespaces, map keys or values of a state: their codec and their type.
#[derive(Clone, Debug)]
pub struct StatePart {
    codec: String,
    decoder: Decoder,
}

impl StatePart {
    pub(crate) fn new(codec: impl Into<String>, decoder: Decoder) -> Self {
        Self { codec: codec.into(), decoder }
    }

    /// Returns the name of the codec.
    pub fn codec(&self) -> &str {
        &self.codec
    }

    /// Returns the type; [`DataType::Bytes`] where nothing describes the bytes.
    pub fn data_type(&self) -> &DataType {
        self.decoder.data_type()
    }

    /// Returns the decoder.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// Returns the columns that the part has in a table, where it is called `part`: one for each field of a struct, or
    /// one for the whole. A window has its start and its end, and a field whose name is one of the `taken` has that of
    /// its part before it.
    pub fn columns(&self, part: &str, taken: impl IntoIterator<Item = String>) -> Vec<PartColumn> {
        let mut taken: HashSet<String> = taken.into_iter().collect();
        let fields = match self.data_type() {
            DataType::Struct(fields) if !fields.is_empty() => fields,
            whole => {
                let name = free(part.to_owned(), &taken);
                return vec![PartColumn { name, field: None, data_type: whole.clone() }];
            }
        };
        let is_window = *self.data_type() == DataType::window();
        let mut columns = Vec::with_capacity(fields.len());
        for (index, field) in fields.iter().enumerate() {
            let name = match (is_window, taken.contains(&field.name)) {
                (true, _) => format!("window_{}", field.name),
                (false, true) => format!("{part}_{}", field.name),
                (false, false) => field.name.clone(),
            };
            let name = free(name, &taken);
            taken.insert(name.clone());
            columns.push(PartColumn { name, field: Some(index), data_type: field.data_type.clone() });
        }
        columns
    }
}

/// A column of a part of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartColumn {
    /// The name, which no other column has.
    pub name: String,
    /// Which field of a struct it shows; `None` for the whole.
    pub field: Option<usize>,
    /// The type of its values.
    pub data_type: DataType,
}

fn free(mut name: String, taken: &HashSet<String>) -> String {
    while taken.contains(&name) {
        name.push('_');
    }
    name
}

/// One keyed state or timer service of an operator.
#[derive(Clone, Debug)]
pub struct StoredState {
    operator: OperatorId,
    name: String,
    kind: StateKind,
    key: StatePart,
    namespace: Option<StatePart>,
    map_key: Option<StatePart>,
    value: Option<StatePart>,
    /// Each form of the values, the one that the program wrote last at the end.
    forms: Vec<(StateMeta, Decoder)>,
    ttl_ms: Option<i64>,
}

impl StoredState {
    /// Puts a state together from its forms, which are not empty.
    pub(crate) fn new(
        operator: &OperatorId,
        mut forms: Vec<StateMeta>,
        types: &[StateTypes],
        decoders: &Decoders,
    ) -> Option<Self> {
        // Of forms of one version, the first is the one that the program writes.
        forms.reverse();
        forms.sort_by_key(|meta| meta.schema_version);
        let newest = forms.last()?.clone();
        let of_state = || types.iter().filter(|types| types.state == newest.name);
        // Where one form of a state, or one state of an operator, has no description, another's is as good: they
        // have the same keys.
        let with_key = types.iter().filter(|types| types.key.is_some());
        let key = of_state().chain(with_key).find_map(|types| types.key.as_ref());
        let namespace = of_state().find_map(|types| types.namespace.as_ref());
        let map_key = of_state().find_map(|types| types.map_key.as_ref());
        let key = StatePart::new(&newest.key_codec, decoders.of_key(&newest.key_codec, key));
        let part = |is_there: bool, codec: &String, described| {
            is_there.then(|| StatePart::new(codec, decoders.of_key(codec, described)))
        };
        let value_of = |meta: &StateMeta| {
            let is_it = |types: &&StateTypes| {
                types.value_codec == meta.value_codec && types.schema_version == meta.schema_version
            };
            let described = of_state().find(is_it).and_then(|types| types.value.as_ref());
            decoders.of_value(&meta.value_codec, described)
        };
        let ttl_ms = of_state().filter(|_| newest.stamped).find_map(|types| types.ttl_ms);
        let value = newest.has_value().then(|| StatePart::new(&newest.value_codec, value_of(&newest)));
        Some(Self {
            operator: operator.clone(),
            kind: newest.kind,
            key,
            namespace: part(newest.has_namespace(), &newest.namespace_codec, namespace),
            map_key: part(newest.has_sub(), &newest.sub_codec, map_key),
            value,
            forms: forms.into_iter().map(|meta| (meta.clone(), value_of(&meta))).collect(),
            name: newest.name,
            ttl_ms,
        })
    }

    /// Returns the operator.
    pub fn operator(&self) -> &OperatorId {
        &self.operator
    }

    /// Returns the name, unique within the operator.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns `operator/name`.
    pub fn path(&self) -> String {
        format!("{}/{}", self.operator, self.name)
    }

    /// Returns the kind.
    pub fn kind(&self) -> StateKind {
        self.kind
    }

    /// Returns the keys.
    pub fn key(&self) -> &StatePart {
        &self.key
    }

    /// Returns the namespaces, if the state has them.
    pub fn namespace(&self) -> Option<&StatePart> {
        self.namespace.as_ref()
    }

    /// Returns the map keys, if the state is a map.
    pub fn map_key(&self) -> Option<&StatePart> {
        self.map_key.as_ref()
    }

    /// Returns the values, the elements of lists, or the accumulators, in the form that was written last; `None`
    /// for timers and for sets.
    pub fn value(&self) -> Option<&StatePart> {
        self.value.as_ref()
    }

    /// Returns whether each value has a stamp, because the state has a time-to-live.
    pub fn is_stamped(&self) -> bool {
        self.forms.iter().any(|(meta, _)| meta.stamped)
    }

    /// Returns for how many milliseconds a value lives behind its stamp, where the snapshot holds that.
    pub fn ttl_ms(&self) -> Option<i64> {
        self.ttl_ms
    }

    /// Returns the schema version that was written last.
    pub fn schema_version(&self) -> u32 {
        self.forms.last().map_or(0, |(meta, _)| meta.schema_version)
    }

    /// Returns each form in which values are stored, by schema version: a job that migrates a state keeps values
    /// that do not change in their old form.
    pub fn forms(&self) -> impl ExactSizeIterator<Item = &StateMeta> {
        self.forms.iter().map(|(meta, _)| meta)
    }

    /// Returns the number of a stored form; a chain may have one that its manifest does not list.
    pub(crate) fn form_of(&self, meta: &StateMeta) -> Option<usize> {
        self.forms.iter().position(|(known, _)| known == meta)
    }

    /// Returns whether entries of a part of a snapshot are of this state.
    pub(crate) fn is_of(&self, meta: &StateMeta) -> bool {
        self.name == meta.name
    }

    /// Decodes a value that is stored in a [form](Self::forms), and returns it in the type of the
    /// [newest](Self::value): a field that the old form lacks is null where it may be missing.
    ///
    /// # Errors
    /// Those of [`Decoder::decode`]; [`Incompatible`](strandline_state_api::ErrorKind::Incompatible) when only
    /// the job can turn the old form into the new one.
    pub fn decode_value(&self, form: usize, bytes: &[u8]) -> Result<Value> {
        let Some((meta, decoder)) = self.forms.get(form) else {
            return Err(Error::invalid("the state has no such form").with("state", &self.name));
        };
        let value = decoder.decode(bytes)?;
        let Some(newest) = &self.value else { return Ok(value) };
        if form + 1 == self.forms.len() || decoder.data_type() == newest.data_type() {
            return Ok(value);
        }
        crate::value::adapt(value, decoder.data_type(), newest.data_type()).ok_or_else(|| {
            let message = format!(
                "a value is stored in schema version {} as {}, and only the job can turn it into {}, the type of \
                 version {}: take a savepoint, which has one version only",
                meta.schema_version,
                decoder.data_type(),
                newest.data_type(),
                self.schema_version(),
            );
            Error::new(strandline_state_api::ErrorKind::Incompatible, message)
        })
    }
}
