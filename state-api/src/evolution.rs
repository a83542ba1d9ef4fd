//! Schema evolution: how values of older versions are read.

use std::fmt;
use std::sync::Arc;

use crate::format::StateMeta;
use crate::schema::Form;
use crate::ttl::{TIMED, split_stamp};
use crate::{Codec, Error, ReadableForm, Result, StateSchema, Timed};

type Decode<V> = Arc<dyn Fn(&[u8]) -> Result<V> + Send + Sync>;

/// How values of one older version become values of today.
struct Older<V> {
    version: u32,
    codec: String,
    self_describing: bool,
    decode: Decode<V>,
}

impl<V> Clone for Older<V> {
    fn clone(&self) -> Self {
        let Self { version, codec, self_describing, decode } = self;
        Self {
            version: *version,
            codec: codec.clone(),
            self_describing: *self_describing,
            decode: Arc::clone(decode),
        }
    }
}

/// The versions of a value's type, from the oldest that may still be stored to that of today: a chain of migrations, each
/// from one version to the next, so that state of any of them can be restored.
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
/// Restoring migrates what is stored, so it is done once; the first snapshot after it writes everything that migrated.
/// (Flink: `TypeSerializerSnapshot`, migration on restore.)
pub struct Evolution<V> {
    pub(crate) version: u32,
    pub(crate) codec: Arc<dyn Codec<V>>,
    older: Vec<Older<V>>,
}

impl<V: 'static> Evolution<V> {
    /// The oldest version that may still be stored.
    pub fn first(version: u32, codec: impl Codec<V>) -> Self {
        Self { version, codec: Arc::new(codec), older: Vec::new() }
    }

    /// The next version, and how values of the one before become such. Versions rise; a state whose versions do not is
    /// refused when it is registered.
    #[must_use]
    pub fn then<W: 'static>(
        self,
        version: u32,
        codec: impl Codec<W>,
        migrate: impl Fn(V) -> Result<W> + Send + Sync + 'static,
    ) -> Evolution<W> {
        let migrate = Arc::new(migrate);
        let Decoder { older, codec: before, version: version_before, .. } = self.into_decoder();
        let last = Older {
            version: version_before,
            codec: before.id(),
            self_describing: before.is_self_describing(),
            decode: Arc::new(move |bytes: &[u8]| before.decode(bytes)) as Decode<V>,
        };
        let chained = |step: Older<V>| {
            let migrate = Arc::clone(&migrate);
            let Older { version, codec, self_describing, decode } = step;
            let decode = Arc::new(move |bytes: &[u8]| migrate(decode(bytes)?)) as Decode<W>;
            Older { version, codec, self_describing, decode }
        };
        let older = older.into_iter().chain([last]).map(chained).collect();
        Evolution { version, codec: Arc::new(codec), older }
    }

    pub(crate) fn into_decoder(self) -> Decoder<V> {
        Decoder { version: self.version, codec: self.codec, older: self.older, renamed_from: Vec::new() }
    }
}

impl<V> fmt::Debug for Evolution<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let older: Vec<u32> = self.older.iter().map(|older| older.version).collect();
        f.debug_struct("Evolution").field("version", &self.version).field("older", &older).finish()
    }
}

/// For backends: which stored values a state can read, and how.
pub struct Decoder<V> {
    pub(crate) version: u32,
    pub(crate) codec: Arc<dyn Codec<V>>,
    older: Vec<Older<V>>,
    pub(crate) renamed_from: Vec<String>,
}

/// How the stored values of a state are read.
pub enum Reading<V> {
    /// With the codec of the state; the bytes may stay as they are.
    AsIs,
    /// With what this says. What is written from then on is in the form of today.
    Migrate(Migration<V>),
}

/// Reads values of an older form.
pub struct Migration<V>(Decode<V>);

impl<V> Migration<V> {
    /// Reads one value.
    ///
    /// # Errors
    /// Those of the older codec, and those of the migrations.
    pub fn decode(&self, bytes: &[u8]) -> Result<V> {
        (self.0)(bytes)
    }
}

impl<V> Clone for Migration<V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<V> fmt::Debug for Migration<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Migration")
    }
}

impl<V> fmt::Debug for Reading<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AsIs => "AsIs",
            Self::Migrate(_) => "Migrate",
        })
    }
}

impl<V: 'static> Decoder<V> {
    pub(crate) fn new(version: u32, codec: Arc<dyn Codec<V>>) -> Self {
        Self { version, codec, older: Vec::new(), renamed_from: Vec::new() }
    }

    /// The same for values with a time-to-live.
    pub(crate) fn timed(&self, codec: Arc<dyn Codec<Timed<V>>>) -> Decoder<Timed<V>> {
        let older = self.older.iter().cloned().map(|older| {
            let decode = older.decode;
            Older {
                version: older.version,
                codec: format!("{TIMED}{}", older.codec),
                self_describing: older.self_describing,
                decode: Arc::new(move |bytes: &[u8]| {
                    let (stamp, value) = split_stamp(bytes)?;
                    Ok(Timed { stamp, value: decode(value)? })
                }) as Decode<Timed<V>>,
            }
        });
        // Of the time before the state got its time-to-live.
        let (plain, version, codec_id) = (Arc::clone(&self.codec), self.version, self.codec.id());
        let today = Older {
            version,
            codec: codec_id,
            self_describing: plain.is_self_describing(),
            decode: Arc::new(move |bytes: &[u8]| plain.decode(bytes)) as Decode<V>,
        };
        let untimed = self.older.iter().cloned().chain([today]).map(|older| {
            let Older { version, codec, self_describing, decode } = older;
            let decode =
                Arc::new(move |bytes: &[u8]| decode(bytes).map(Timed::unstamped)) as Decode<Timed<V>>;
            Older { version, codec, self_describing, decode }
        });
        let older = older.chain(untimed).collect();
        Decoder { version: self.version, codec, older, renamed_from: self.renamed_from.clone() }
    }

    /// Whether the versions rise.
    pub(crate) fn check(&self) -> Result<()> {
        let plain = |older: &&Older<V>| !older.codec.starts_with(TIMED);
        let versions: Vec<u32> = self.older.iter().filter(plain).map(|older| older.version).collect();
        let rises = versions.is_sorted_by(|a, b| a < b)
            && versions.last().is_none_or(|last| *last < self.version || self.codec.id().starts_with(TIMED));
        if rises {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "the versions of a state must rise; these are {versions:?} and then {}",
            self.version
        )))
    }

    /// What there is to say before anything is read: see [`StateSchema`].
    pub(crate) fn schema(&self, meta: StateMeta) -> StateSchema {
        let reads = self.older.iter().map(|older| ReadableForm {
            version: older.version,
            codec: older.codec.clone(),
            self_describing: older.self_describing,
        });
        StateSchema {
            reads: reads.collect(),
            self_describing: self.codec.is_self_describing(),
            renamed_from: self.renamed_from.clone(),
            meta,
        }
    }

    /// How values that were stored under `stored` are read by the state `wanted`, which is that of this decoder.
    ///
    /// # Errors
    /// [`Incompatible`](crate::ErrorKind::Incompatible) with the state, what is stored and what is wanted.
    pub fn reading(&self, stored: &StateMeta, wanted: &StateMeta) -> Result<Reading<V>> {
        let found = self.schema(wanted.clone()).outcome(stored)?;
        let Some(form) = found.form else { return Ok(Reading::AsIs) };
        match form {
            Form::Older(index) => Ok(Reading::Migrate(Migration(Arc::clone(&self.older[index].decode)))),
            Form::WithoutStamp => {
                let codec = Arc::clone(&self.codec);
                Ok(Reading::Migrate(Migration(Arc::new(move |bytes| codec.decode(split_stamp(bytes)?.1)))))
            }
            Form::OlderWithoutStamp(index) => {
                let decode = Arc::clone(&self.older[index].decode);
                Ok(Reading::Migrate(Migration(Arc::new(move |bytes| decode(split_stamp(bytes)?.1)))))
            }
        }
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
