//! Schema evolution: decoders of older versions of a value.

use std::fmt;
use std::sync::Arc;

use super::{Description, FormVersion, ReadableForm, StateMeta, StateSchema, StateTypes};
use crate::{Codec, Error, Result};

/// Decodes one value.
pub(crate) type Decode<V> = Arc<dyn Fn(&[u8]) -> Result<V> + Send + Sync>;

/// An older version of a value, and the decoder that migrates it to the current one.
pub(crate) struct Older<V> {
    form: ReadableForm,
    description: Option<Description>,
    decode: Decode<V>,
}

impl<V> Clone for Older<V> {
    fn clone(&self) -> Self {
        Self {
            form: self.form.clone(),
            description: self.description.clone(),
            decode: Arc::clone(&self.decode),
        }
    }
}

/// The versions of a value's type, from the oldest that may still be stored to the current one. A chain of
/// migrations, each from one version to the next, restores state of any of them.
///
/// ```
/// use strandline_state_api::{Evolution, SerdeCodec, ValueDescriptor};
/// # use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct V1 { cents: u32 }
/// #[derive(Serialize, Deserialize)]
/// struct V2 { cents: u64 }
/// #[derive(Serialize, Deserialize)]
/// struct V3 { cents: u64, currency: String }
///
/// let account = Evolution::<V1>::first(1, SerdeCodec)
///     .then(2, SerdeCodec, |v1| Ok(V2 { cents: v1.cents.into() }))
///     .then(3, SerdeCodec, |v2: V2| Ok(V3 { cents: v2.cents, currency: "EUR".into() }));
/// let accounts = ValueDescriptor::evolving("accounts", account);
/// assert_eq!(accounts.version(), 3);
/// ```
///
/// A restore migrates the stored values, once each. Snapshots after it write what changed; what does not
/// change may keep its stored form, so keep the older versions as long as a checkpoint has them. The plan of
/// a restore and `strandline checkpoints compat` list them; a full snapshot or a savepoint has the current
/// version only. (Flink: `TypeSerializerSnapshot`, migration on restore.)
pub struct Evolution<V>(pub(crate) Decoder<V>);

impl<V: 'static> Evolution<V> {
    /// Starts with the oldest version that may still be stored.
    pub fn first(version: u32, codec: impl Codec<V>) -> Self {
        Self(Decoder::new(version, Arc::new(codec)))
    }

    /// Adds the next version; `migrate` turns a value of the previous version into one of this version. A
    /// registration refuses versions that do not rise.
    #[must_use]
    pub fn then<W: 'static>(
        self,
        version: u32,
        codec: impl Codec<W>,
        migrate: impl Fn(V) -> Result<W> + Send + Sync + 'static,
    ) -> Evolution<W> {
        let migrate = Arc::new(migrate);
        let Decoder { older, codec: before, version: version_before, renamed_from } = self.0;
        let form = ReadableForm {
            version: version_before,
            codec: before.id(),
            self_describing: before.is_self_describing(),
        };
        let description = before.description();
        let last = Older {
            form,
            description,
            decode: Arc::new(move |bytes: &[u8]| before.decode(bytes)) as Decode<V>,
        };
        let chained = |Older { form, description, decode }: Older<V>| {
            let migrate = Arc::clone(&migrate);
            let decode = Arc::new(move |bytes: &[u8]| migrate(decode(bytes)?)) as Decode<W>;
            Older { form, description, decode }
        };
        let older = older.into_iter().chain([last]).map(chained).collect();
        Evolution(Decoder { version, codec: Arc::new(codec), older, renamed_from })
    }
}

impl<V> fmt::Debug for Evolution<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let older: Vec<u32> = self.0.older.iter().map(|older| older.form.version).collect();
        f.debug_struct("Evolution").field("version", &self.0.version).field("older", &older).finish()
    }
}

/// The current codec of a state's values, without a stamp, and the older forms that it reads.
pub(crate) struct Decoder<V> {
    pub(crate) version: u32,
    pub(crate) codec: Arc<dyn Codec<V>>,
    pub(crate) older: Vec<Older<V>>,
    pub(crate) renamed_from: Vec<String>,
}

impl<V: 'static> Decoder<V> {
    pub(crate) fn new(version: u32, codec: Arc<dyn Codec<V>>) -> Self {
        Self { version, codec, older: Vec::new(), renamed_from: Vec::new() }
    }

    /// Checks that the versions rise.
    pub(crate) fn check(&self) -> Result<()> {
        let mut versions: Vec<u32> = self.older.iter().map(|older| older.form.version).collect();
        versions.push(self.version);
        if versions.is_sorted_by(|a, b| a < b) {
            return Ok(());
        }
        Err(Error::invalid(format!("the versions of a state must rise; these are {versions:?}")))
    }

    /// Returns the decoder of one version.
    pub(crate) fn of_version(&self, version: FormVersion) -> Decode<V> {
        if let FormVersion::Older(index) = version
            && let Some(older) = self.older.get(index)
        {
            return Arc::clone(&older.decode);
        }
        let codec = Arc::clone(&self.codec);
        Arc::new(move |bytes: &[u8]| codec.decode(bytes))
    }

    pub(crate) fn schema(&self, meta: StateMeta) -> StateSchema {
        StateSchema {
            reads: self.older.iter().map(|older| older.form.clone()).collect(),
            self_describing: self.codec.is_self_describing(),
            renamed_from: self.renamed_from.clone(),
            meta,
            types: Vec::new(),
        }
    }

    /// Returns the descriptions of the values of all versions; `of_state` has those of keys, and the current
    /// codec of values.
    pub(crate) fn types(&self, of_state: &StateTypes) -> Vec<StateTypes> {
        let older = self.older.iter().map(|older| StateTypes {
            value_codec: older.form.codec.clone(),
            schema_version: older.form.version,
            value: older.description.clone(),
            ..of_state.clone()
        });
        let current =
            StateTypes { schema_version: self.version, value: self.codec.description(), ..of_state.clone() };
        older.chain([current]).map(StateTypes::concise).collect()
    }
}

impl<V> Clone for Decoder<V> {
    fn clone(&self) -> Self {
        Self {
            version: self.version,
            codec: Arc::clone(&self.codec),
            older: self.older.clone(),
            renamed_from: self.renamed_from.clone(),
        }
    }
}

impl<V> fmt::Debug for Decoder<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Decoder(v{})", self.version)
    }
}
