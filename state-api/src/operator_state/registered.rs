//! States of any type under their names.

use std::any::Any;
use std::fmt;

use super::{ARROW, OperatorStateEntry, Redistribution};
use crate::schema::{
    Decoder, Description, FormVersion, StateKind, StateMeta, StateSchema, StateTypes, shown,
};
use crate::{Error, ErrorKind, Result};

/// The description of a wanted or a registered state, for comparison.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) redistribution: Redistribution,
    /// The state as that of a backend: the forms of elements, and the map keys of a broadcast state.
    pub(super) schema: StateSchema,
    /// The Rust types, for errors.
    pub(super) types: &'static str,
}

impl Meta {
    /// Describes a state. `sub_codec` is the codec of the map keys, which is empty for a list, and the
    /// description of them.
    pub(super) fn new<V: 'static>(
        (name, redistribution): (&str, Redistribution),
        (sub_codec, map_key): (String, Option<Description>),
        decoder: &Decoder<V>,
        types: &'static str,
    ) -> Self {
        let kind = if redistribution == Redistribution::Broadcast { StateKind::Map } else { StateKind::List };
        let meta = StateMeta {
            sub_codec,
            value_codec: decoder.codec.id(),
            schema_version: decoder.version,
            ..StateMeta::new(name, kind)
        };
        let value_codec = meta.value_codec.clone();
        let of_state = StateTypes { state: name.to_owned(), map_key, value_codec, ..StateTypes::default() };
        let schema = StateSchema { types: decoder.types(&of_state), ..decoder.schema(meta) };
        Self { redistribution, schema, types }
    }

    pub(super) fn name(&self) -> &str {
        &self.schema.meta.name
    }

    /// Returns whether the state has this name or had it before.
    pub(super) fn is_called(&self, name: &str) -> bool {
        self.schema.is_called(name)
    }

    fn stored_codec(&self) -> String {
        let StateMeta { sub_codec, value_codec, .. } = &self.schema.meta;
        if sub_codec.is_empty() { value_codec.clone() } else { format!("{sub_codec}{ARROW}{value_codec}") }
    }

    pub(super) fn entry(&self, elements: Vec<Vec<u8>>) -> OperatorStateEntry {
        OperatorStateEntry {
            name: self.name().to_owned(),
            redistribution: self.redistribution,
            codec: self.stored_codec(),
            schema_version: self.schema.meta.schema_version,
            elements,
        }
    }

    /// Returns the version in which the elements of an entry are stored.
    ///
    /// # Errors
    /// [`Incompatible`](ErrorKind::Incompatible) when the state cannot read them.
    pub(super) fn version_of(&self, entry: &OperatorStateEntry) -> Result<FormVersion> {
        let (sub_codec, value_codec) = entry.codecs();
        let sub_codec = sub_codec.unwrap_or_default();
        let advice = if entry.redistribution != self.redistribution || sub_codec != self.schema.meta.sub_codec
        {
            "ask for what was stored, or use another name".to_owned()
        } else {
            match self.schema.version_of(entry.schema_version, value_codec) {
                Ok(version) => return Ok(version),
                Err(difference) => {
                    let stored = StateMeta {
                        value_codec: value_codec.to_owned(),
                        schema_version: entry.schema_version,
                        ..self.schema.meta.clone()
                    };
                    self.schema.advice(&stored, difference)
                }
            }
        };
        let message = format!(
            "the operator state was stored as {} (codec {}, schema version {}), wanted is {self}; {advice}",
            entry.redistribution,
            shown(&entry.codec),
            entry.schema_version
        );
        Err(Error::new(ErrorKind::Incompatible, message).with("operator state", self.name()))
    }
}

impl fmt::Display for Meta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { redistribution, schema, types } = self;
        let (codec, version) = (self.stored_codec(), schema.meta.schema_version);
        write!(f, "{redistribution} of {types} (codec {}, schema version {version})", shown(&codec))
    }
}

/// A state whose types are hidden.
pub(super) trait AnyState: Any + Send {
    fn meta(&self) -> &Meta;

    /// Encodes the state as a checkpoint stores it.
    fn entry(&self) -> Result<OperatorStateEntry>;

    /// Adds the elements of a checkpoint.
    fn restore(&mut self, entry: &OperatorStateEntry) -> Result<()>;
}

/// States in the order of registration; a handle holds an index into them.
#[derive(Default)]
pub(super) struct Registered(Vec<Box<dyn AnyState>>);

impl Registered {
    pub(super) fn position(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|state| state.meta().name() == name)
    }

    pub(super) fn metas(&self) -> impl Iterator<Item = &Meta> {
        self.0.iter().map(|state| state.meta())
    }

    pub(super) fn push(&mut self, state: impl AnyState) -> usize {
        self.0.push(Box::new(state));
        self.0.len() - 1
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut dyn AnyState> {
        self.0.iter_mut().map(|state| &mut **state as &mut dyn AnyState)
    }

    pub(super) fn get<S: AnyState>(&self, index: usize) -> Result<&S> {
        let state = self.0.get(index).map(|state| state.as_ref() as &dyn Any);
        state.and_then(|state| state.downcast_ref()).ok_or_else(foreign_handle)
    }

    pub(super) fn get_mut<S: AnyState>(&mut self, index: usize) -> Result<&mut S> {
        let state = self.0.get_mut(index).map(|state| state.as_mut() as &mut dyn Any);
        state.and_then(|state| state.downcast_mut()).ok_or_else(foreign_handle)
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = Result<OperatorStateEntry>> {
        let entry = |state: &dyn AnyState| {
            state.entry().map_err(|error| error.with("operator state", state.meta().name()))
        };
        self.0.iter().map(move |state| entry(state.as_ref()))
    }
}

impl fmt::Debug for Registered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.metas().map(Meta::name)).finish()
    }
}

fn foreign_handle() -> Error {
    Error::invalid(
        "the handle belongs to another operator state store: use the one that the store returned at \
         registration",
    )
}
