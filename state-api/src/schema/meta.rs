//! The description of a state in a snapshot.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Error, ErrorKind, Result};

/// The kind of a state, which decides the parts and operations of its entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum StateKind {
    /// One value for each key and namespace.
    Value,
    /// A list for each key and namespace.
    List,
    /// A map for each key and namespace, one entry for each map key.
    Map,
    /// Event-time timers.
    EventTimers,
    /// Processing-time timers.
    ProcessingTimers,
    /// One value for each key and namespace, combined by a reduce function.
    Reducing,
    /// One accumulator for each key and namespace.
    Aggregating,
}

impl StateKind {
    /// All kinds, in the order of their codes.
    pub const ALL: [Self; 7] = [
        Self::Value,
        Self::List,
        Self::Map,
        Self::EventTimers,
        Self::ProcessingTimers,
        Self::Reducing,
        Self::Aggregating,
    ];

    /// Returns the code of the kind in snapshots.
    pub const fn code(self) -> u8 {
        match self {
            Self::Value => 1,
            Self::List => 2,
            Self::Map => 3,
            Self::EventTimers => 4,
            Self::ProcessingTimers => 5,
            Self::Reducing => 6,
            Self::Aggregating => 7,
        }
    }

    /// Returns the kind with this code.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }

    /// Returns whether the keys of the state's entries start with a time.
    pub const fn is_timers(self) -> bool {
        matches!(self, Self::EventTimers | Self::ProcessingTimers)
    }
}

impl fmt::Display for StateKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Value => "value",
            Self::List => "list",
            Self::Map => "map",
            Self::EventTimers => "event-time timers",
            Self::ProcessingTimers => "processing-time timers",
            Self::Reducing => "reducing",
            Self::Aggregating => "aggregating",
        })
    }
}

/// A state as a snapshot describes it. The description names codecs and never interprets them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "StoredMeta", into = "StoredMeta")]
pub struct StateMeta {
    /// The name, unique within an operator; not empty.
    pub name: String,
    /// The kind.
    pub kind: StateKind,
    /// The name of the key codec.
    pub key_codec: String,
    /// The name of the namespace codec; empty when the state has no namespaces, and then no entry stores one.
    pub namespace_codec: String,
    /// The name of the map key codec; empty unless the kind is [`StateKind::Map`].
    pub sub_codec: String,
    /// The name of the codec of values, or of list elements; empty when the state has none (timers), and then
    /// no entry stores one.
    pub value_codec: String,
    /// Whether an eight-byte stamp precedes each value, because the state has a time-to-live.
    pub stamped: bool,
    /// The author's version of the value's schema.
    pub schema_version: u32,
}

/// The prefix that marks the codec of a stamped value in stored bytes.
const STAMPED: &str = "ttl8+";

impl StateMeta {
    /// Describes a state without namespaces whose keys and values (where its kind has them) are uninterpreted
    /// `"bytes"`, at schema version 0; set the other fields as needed.
    pub fn new(name: impl Into<String>, kind: StateKind) -> Self {
        let bytes_if = |present: bool| if present { "bytes".into() } else { String::new() };
        Self {
            name: name.into(),
            kind,
            key_codec: bytes_if(true),
            namespace_codec: String::new(),
            sub_codec: bytes_if(kind == StateKind::Map),
            value_codec: bytes_if(!kind.is_timers()),
            stamped: false,
            schema_version: 0,
        }
    }

    /// Returns whether entries of the state have a namespace.
    pub fn has_namespace(&self) -> bool {
        !self.namespace_codec.is_empty()
    }

    /// Returns whether entries of the state have a map key.
    pub fn has_sub(&self) -> bool {
        self.kind == StateKind::Map
    }

    /// Returns whether entries of the state have a value.
    pub fn has_value(&self) -> bool {
        !self.value_codec.is_empty()
    }

    /// Returns the name of the value codec in stored bytes; that of a stamped value starts with `ttl8+`.
    pub fn stored_value_codec(&self) -> String {
        if self.stamped { format!("{STAMPED}{}", self.value_codec) } else { self.value_codec.clone() }
    }

    /// Sets the value codec and [`stamped`](Self::stamped) from what
    /// [`stored_value_codec`](Self::stored_value_codec) returned.
    #[must_use]
    pub fn with_stored_value_codec(self, stored: &str) -> Self {
        let (stamped, codec) = match stored.strip_prefix(STAMPED) {
            Some(codec) => (true, codec),
            None => (false, stored),
        };
        Self { stamped, value_codec: codec.to_owned(), ..self }
    }

    /// Checks that the entries stored under this description have the kind, key, namespace and map key that a
    /// state registered as `wanted` reads.
    ///
    /// # Errors
    /// [`Incompatible`](ErrorKind::Incompatible) with the state and the difference.
    pub fn check_addressed_as(&self, wanted: &Self) -> Result<()> {
        let fields = [
            ("kind", self.kind.to_string(), wanted.kind.to_string()),
            ("key codec", self.key_codec.clone(), wanted.key_codec.clone()),
            ("namespace codec", self.namespace_codec.clone(), wanted.namespace_codec.clone()),
            ("map key codec", self.sub_codec.clone(), wanted.sub_codec.clone()),
        ];
        let Some((what, stored, wanted)) = fields.iter().find(|(_, stored, wanted)| stored != wanted) else {
            return Ok(());
        };
        let message = format!("the stored state has {what} {stored:?}, the job wants {wanted:?}");
        Err(Error::new(ErrorKind::Incompatible, message).with("state", &self.name))
    }
}

/// The serialized form, in which a prefix of the codec marks a stamped value.
#[derive(Serialize, Deserialize)]
struct StoredMeta {
    name: String,
    kind: StateKind,
    key_codec: String,
    namespace_codec: String,
    sub_codec: String,
    value_codec: String,
    schema_version: u32,
}

impl From<StoredMeta> for StateMeta {
    fn from(stored: StoredMeta) -> Self {
        let StoredMeta { name, kind, key_codec, namespace_codec, sub_codec, value_codec, schema_version } =
            stored;
        let meta = Self { key_codec, namespace_codec, sub_codec, schema_version, ..Self::new(name, kind) };
        meta.with_stored_value_codec(&value_codec)
    }
}

impl From<StateMeta> for StoredMeta {
    fn from(meta: StateMeta) -> Self {
        let value_codec = meta.stored_value_codec();
        let StateMeta { name, kind, key_codec, namespace_codec, sub_codec, schema_version, .. } = meta;
        Self { name, kind, key_codec, namespace_codec, sub_codec, value_codec, schema_version }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_a_mark_of_the_stored_codec_only() {
        let plain = StateMeta { value_codec: "u64-le".into(), ..StateMeta::new("n", StateKind::Value) };
        let stamped = StateMeta { stamped: true, ..plain.clone() };
        assert_eq!(stamped.stored_value_codec(), "ttl8+u64-le");
        for meta in [plain, stamped] {
            let stored = StoredMeta::from(meta.clone());
            assert_eq!(stored.value_codec, meta.stored_value_codec());
            assert_eq!(StateMeta::from(stored), meta);
        }
    }
}
