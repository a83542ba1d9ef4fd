//! What a segment says about the states whose entries it holds.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::entry::Op;
use crate::{Error, ErrorKind, Result};

/// Whether a segment holds what is, or what changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SegmentKind {
    /// Complete contents: only [`Op::Put`].
    Base,
    /// Changes to the parts before it. A base over older parts behaves like a delta: it hides nothing but what it
    /// names, so list no part before a base.
    Delta,
}

impl SegmentKind {
    pub(super) const fn code(self) -> u8 {
        match self {
            Self::Base => 1,
            Self::Delta => 2,
        }
    }

    pub(super) const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Base),
            2 => Some(Self::Delta),
            _ => None,
        }
    }
}

/// The kind of a state; it decides which parts and operations its entries have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum StateKind {
    /// One value for each key and namespace.
    Value,
    /// A list for each key and namespace, encoded by [`list`](super::list).
    List,
    /// A map for each key and namespace, one entry for each map key.
    Map,
    /// Event-time timers; their keys are packed by [`timer_key`](super::timer_key).
    EventTimers,
    /// Processing-time timers, packed likewise.
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

    /// Its number in the file.
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

    /// The kind with this number.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }

    /// Whether the keys of its entries start with a time.
    pub const fn is_timers(self) -> bool {
        matches!(self, Self::EventTimers | Self::ProcessingTimers)
    }

    /// Whether an entry of a delta may have this operation ([`Op::Put`] and [`Op::Delete`] always may).
    pub const fn allows(self, op: Op) -> bool {
        match op {
            Op::Put | Op::Delete => true,
            Op::Append => matches!(self, Self::List),
            Op::Clear => matches!(self, Self::Map),
        }
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

/// A state as a segment describes it. Codecs are named, never interpreted here.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StateMeta {
    /// Its name, unique within an operator; not empty.
    pub name: String,
    /// Its kind.
    pub kind: StateKind,
    /// How keys are encoded.
    pub key_codec: String,
    /// How namespaces are encoded; empty when there are none, and then no entry stores one.
    pub namespace_codec: String,
    /// How map keys are encoded; empty unless the kind is [`StateKind::Map`].
    pub sub_codec: String,
    /// How values, or the elements of a list, are encoded; empty when there are none (timers), and then no entry
    /// stores one.
    pub value_codec: String,
    /// The author's version of the value's schema.
    pub schema_version: u32,
}

impl StateMeta {
    /// A state without namespaces whose keys and values (where its kind has them) are uninterpreted `"bytes"`, at
    /// schema version 0; set the other fields as needed.
    pub fn new(name: impl Into<String>, kind: StateKind) -> Self {
        let bytes_if = |present: bool| if present { "bytes".into() } else { String::new() };
        Self {
            name: name.into(),
            kind,
            key_codec: bytes_if(true),
            namespace_codec: String::new(),
            sub_codec: bytes_if(kind == StateKind::Map),
            value_codec: bytes_if(!kind.is_timers()),
            schema_version: 0,
        }
    }

    /// Whether entries of the state have a namespace.
    pub fn has_namespace(&self) -> bool {
        !self.namespace_codec.is_empty()
    }

    /// Whether entries of the state have a map key.
    pub fn has_sub(&self) -> bool {
        self.kind == StateKind::Map
    }

    /// Whether [`Op::Put`] and [`Op::Append`] of the state have a value.
    pub fn has_value(&self) -> bool {
        !self.value_codec.is_empty()
    }

    /// Whether entries that were stored under this description can be read by a state that is registered as `wanted`.
    ///
    /// # Errors
    /// [`Incompatible`](ErrorKind::Incompatible) with the state and what differs.
    pub fn check_readable_as(&self, wanted: &Self) -> Result<()> {
        let fields = [
            ("kind", self.kind.to_string(), wanted.kind.to_string()),
            ("key codec", self.key_codec.clone(), wanted.key_codec.clone()),
            ("namespace codec", self.namespace_codec.clone(), wanted.namespace_codec.clone()),
            ("map key codec", self.sub_codec.clone(), wanted.sub_codec.clone()),
            ("value codec", self.value_codec.clone(), wanted.value_codec.clone()),
            ("schema version", self.schema_version.to_string(), wanted.schema_version.to_string()),
        ];
        for (what, stored_as, wanted_as) in fields {
            if stored_as != wanted_as {
                let message =
                    format!("the stored state has {what} {stored_as:?}, the job wants {wanted_as:?}");
                return Err(Error::new(ErrorKind::Incompatible, message).with("state", &self.name));
            }
        }
        Ok(())
    }
}
