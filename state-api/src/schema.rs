//! What a program says of its states, and what becomes of stored ones under it: known before anything is read.

use serde::{Deserialize, Serialize};

use crate::format::StateMeta;
use crate::ttl::TIMED;
use crate::{Error, ErrorKind, Result};

/// A state as a program declares it, and which stored forms of it the program reads.
///
/// Plain data, so that a build can write it to a file and compare it with a checkpoint before it is deployed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateSchema {
    /// What it is today.
    #[serde(flatten)]
    pub meta: StateMeta,
    /// Older forms that migrate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reads: Vec<ReadableForm>,
    /// Whether the codec reads what older versions of the type wrote with it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub self_describing: bool,
    /// Names that it had before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub renamed_from: Vec<String>,
}

/// An older form of a value that a state can read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadableForm {
    /// The schema version.
    pub version: u32,
    /// The codec of it.
    pub codec: String,
    /// Whether that codec reads what other versions of the type wrote with it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub self_describing: bool,
}

/// How a stored state is read (Flink: `TypeSerializerSchemaCompatibility`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compatibility {
    /// The stored bytes are those that the program writes.
    AsIs,
    /// The stored values become values of today when they are restored.
    Migrated,
}

pub(crate) struct Found {
    /// Where it is not the form of today.
    pub(crate) form: Option<Form>,
}

/// Which of its readable forms a state was stored in.
pub(crate) enum Form {
    Older(usize),
    /// That of today, but with a time-to-live.
    WithoutStamp,
    /// An older one, with a time-to-live.
    OlderWithoutStamp(usize),
}

impl StateSchema {
    /// A state that reads what it writes, and nothing else.
    pub fn plain(meta: StateMeta) -> Self {
        Self { meta, reads: Vec::new(), self_describing: false, renamed_from: Vec::new() }
    }

    /// Whether a stored state of this name is this state.
    pub fn is_called(&self, name: &str) -> bool {
        self.meta.name == name || self.renamed_from.iter().any(|old| old == name)
    }

    /// What becomes of `stored`, which is [called](Self::is_called) as this is.
    ///
    /// # Errors
    /// [`Incompatible`](ErrorKind::Incompatible), with the state, what is stored and what is wanted, when it cannot be read.
    pub fn compatibility(&self, stored: &StateMeta) -> Result<Compatibility> {
        Ok(match self.outcome(stored)?.form {
            None => Compatibility::AsIs,
            Some(_) => Compatibility::Migrated,
        })
    }

    pub(crate) fn outcome(&self, stored: &StateMeta) -> Result<Found> {
        // A rename is no difference, and the form of the values is looked at below.
        let as_wanted = StateMeta {
            name: self.meta.name.clone(),
            value_codec: self.meta.value_codec.clone(),
            schema_version: self.meta.schema_version,
            ..stored.clone()
        };
        as_wanted.check_readable_as(&self.meta)?;
        let (version, codec) = (stored.schema_version, stored.value_codec.as_str());
        if let Some(form) = self.form(version, codec) {
            return Ok(Found { form });
        }
        let untimed = codec.strip_prefix(TIMED).filter(|_| !self.meta.value_codec.starts_with(TIMED));
        if let Some(form) = untimed.and_then(|codec| self.form(version, codec)) {
            let form = match form {
                None => Form::WithoutStamp,
                Some(Form::Older(index)) => Form::OlderWithoutStamp(index),
                Some(other) => other,
            };
            return Ok(Found { form: Some(form) });
        }
        Err(self.refusal(stored))
    }

    /// `Some(None)` is the form of today.
    fn form(&self, version: u32, codec: &str) -> Option<Option<Form>> {
        let today = &self.meta;
        if version == today.schema_version && same_form(codec, &today.value_codec, self.self_describing) {
            return Some(None);
        }
        let exact = |older: &ReadableForm| {
            older.version == version && same_form(codec, &older.codec, older.self_describing)
        };
        if let Some(index) = self.reads.iter().position(exact) {
            return Some(Some(Form::Older(index)));
        }
        let grown = self.self_describing
            && version < today.schema_version
            && same_form(codec, &today.value_codec, true);
        grown.then_some(None)
    }

    fn refusal(&self, stored: &StateMeta) -> Error {
        let today = &self.meta;
        let (was, is) = (stored.schema_version, today.schema_version);
        let advice = if was > is {
            "a newer program wrote it: run that one, or restore an older checkpoint".to_owned()
        } else if was == is && name(&stored.value_codec) == name(&today.value_codec) {
            "the type of its values changed, its schema version did not: raise it and say how values of the version before \
             migrate (`Evolution`), or give the type its old form back"
                .to_owned()
        } else {
            let mut read: Vec<String> =
                self.reads.iter().map(|form| format!("{} ({})", form.version, form.codec)).collect();
            read.push(format!("{is} ({})", today.value_codec));
            format!("the job reads version {}: add a migration from what is stored", read.join(", "))
        };
        let message = format!(
            "the state is stored in schema version {was} with value codec {:?}, the job wants version {is} with {:?}; {advice}",
            stored.value_codec, today.value_codec
        );
        Error::new(ErrorKind::Incompatible, message).with("state", &stored.name)
    }
}

/// The codec without the fingerprint of the type.
fn name(codec: &str) -> &str {
    codec.split_once('#').map_or(codec, |(name, _)| name)
}

/// Whether bytes of one codec can be read with another: the same, for the same type as far as is known.
fn same_form(stored: &str, wanted: &str, self_describing: bool) -> bool {
    let fingerprint = |codec: &str| codec.split_once('#').map(|(_, fingerprint)| fingerprint.to_owned());
    name(stored) == name(wanted)
        && (self_describing
            || match (fingerprint(stored), fingerprint(wanted)) {
                (Some(a), Some(b)) => a == b,
                // Of one of them nothing is known.
                _ => true,
            })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::StateKind;

    fn stored(version: u32, codec: &str) -> StateMeta {
        StateMeta {
            value_codec: codec.into(),
            schema_version: version,
            ..StateMeta::new("s", StateKind::Value)
        }
    }

    fn schema(version: u32, codec: &str) -> StateSchema {
        StateSchema::plain(stored(version, codec))
    }

    #[test]
    fn another_type_under_the_same_version_is_refused() {
        let error = schema(1, "postcard#aa").compatibility(&stored(1, "postcard#bb")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Incompatible);
        let text = error.to_string();
        assert!(text.contains("raise it") && text.contains("state") && text.contains("version 1"), "{text}");
        // Written before types had fingerprints.
        assert!(schema(1, "postcard#aa").compatibility(&stored(1, "postcard")).is_ok());
    }

    #[test]
    fn a_newer_version_is_refused_even_by_a_codec_that_describes_itself() {
        let schema = StateSchema { self_describing: true, ..schema(2, "msgpack#aa") };
        assert_eq!(schema.compatibility(&stored(1, "msgpack#bb")).unwrap(), Compatibility::AsIs);
        assert_eq!(schema.compatibility(&stored(2, "msgpack#bb")).unwrap(), Compatibility::AsIs);
        let error = schema.compatibility(&stored(3, "msgpack#aa")).unwrap_err().to_string();
        assert!(error.contains("newer program"), "{error}");
    }

    #[test]
    fn the_kind_and_the_keys_must_be_the_same() {
        let other = StateMeta { kind: StateKind::Reducing, ..stored(1, "u64-le") };
        assert!(schema(1, "u64-le").compatibility(&other).is_err());
        let other = StateMeta { key_codec: "str".into(), ..stored(1, "u64-le") };
        assert!(schema(1, "u64-le").compatibility(&other).is_err());
    }
}
