//! The states that a program declares, and their compatibility with stored ones, known before anything is
//! read.

use serde::{Deserialize, Serialize};

use super::form::Form;
use super::plan::Refusal;
use super::{StateMeta, StateTypes};
use crate::{Error, ErrorKind, Result};

/// A state as a program declares it, and the stored forms of it that the program reads.
///
/// This is plain data: a build can write it to a file and compare it with a checkpoint before the program is
/// deployed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StateSchema {
    /// The current form.
    #[serde(flatten)]
    pub meta: StateMeta,
    /// The older forms that migrate. Each is readable with and without a stamp.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reads: Vec<ReadableForm>,
    /// Whether the codec reads what it wrote for older versions of the type.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub self_describing: bool,
    /// The former names of the state.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub renamed_from: Vec<String>,
    /// The types of its keys and values, in every form that it reads, for programs that do not have the job. They
    /// are no part of the schema: schemas are compared without them.
    #[serde(skip)]
    pub types: Vec<StateTypes>,
}

impl PartialEq for StateSchema {
    fn eq(&self, other: &Self) -> bool {
        let Self { meta, reads, self_describing, renamed_from, types: _ } = self;
        *meta == other.meta
            && *reads == other.reads
            && *self_describing == other.self_describing
            && *renamed_from == other.renamed_from
    }
}

impl Eq for StateSchema {}

/// An older form of a value that a state can read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadableForm {
    /// The schema version.
    pub version: u32,
    /// The codec of that version, without a stamp.
    pub codec: String,
    /// Whether that codec reads what it wrote for other versions of the type.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub self_describing: bool,
}

/// How a restore reads a stored state (Flink: `TypeSerializerSchemaCompatibility`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compatibility {
    /// The stored bytes are those that the program writes.
    AsIs,
    /// The restore turns the stored values into values of the current form.
    Migrated,
}

/// The readable form in which a state is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StoredForm {
    pub(crate) version: FormVersion,
    pub(crate) stamp: StampChange,
}

impl StoredForm {
    fn compatibility(self) -> Compatibility {
        match self {
            Self { version: FormVersion::Current, stamp: StampChange::Keep } => Compatibility::AsIs,
            _ => Compatibility::Migrated,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FormVersion {
    Current,
    /// An index into [`StateSchema::reads`].
    Older(usize),
}

/// How the stamp of a stored value changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StampChange {
    Keep,
    /// The state got its time-to-live after the value was stored.
    Add,
    /// The state lost its time-to-live after the value was stored.
    Strip,
}

impl StateSchema {
    /// Describes a state that reads only what it writes.
    pub fn plain(meta: StateMeta) -> Self {
        Self { meta, reads: Vec::new(), self_describing: false, renamed_from: Vec::new(), types: Vec::new() }
    }

    /// Returns whether the state has this name or had it before.
    pub fn is_called(&self, name: &str) -> bool {
        self.meta.name == name || self.renamed_from.iter().any(|old| old == name)
    }

    /// Returns how the state reads values stored as `stored`, whose name must be [one of its
    /// names](Self::is_called).
    ///
    /// # Errors
    /// [`Incompatible`](ErrorKind::Incompatible) when the state cannot; the error names the state, the stored
    /// form and the wanted one.
    pub fn compatibility(&self, stored: &StateMeta) -> Result<Compatibility> {
        self.stored_form(stored).map(StoredForm::compatibility)
    }

    /// As [`compatibility`](Self::compatibility); why it is impossible, in parts.
    pub(super) fn checked(&self, stored: &StateMeta) -> Result<Compatibility, Refusal> {
        self.form_of(stored).map(StoredForm::compatibility)
    }

    pub(crate) fn stored_form(&self, stored: &StateMeta) -> Result<StoredForm> {
        self.form_of(stored).map_err(|refusal| {
            Error::new(ErrorKind::Incompatible, refusal.to_string()).with("state", &stored.name)
        })
    }

    fn form_of(&self, stored: &StateMeta) -> Result<StoredForm, Refusal> {
        // A former name makes no difference.
        let addressed = StateMeta { name: self.meta.name.clone(), ..stored.clone() };
        addressed.check_addressed_as(&self.meta).map_err(|error| Refusal::new(error.message(), ""))?;
        let stamp = match (stored.stamped, self.meta.stamped) {
            (false, true) => StampChange::Add,
            (true, false) => StampChange::Strip,
            (false, false) | (true, true) => StampChange::Keep,
        };
        match self.version_of(stored.schema_version, &stored.value_codec) {
            Ok(version) => Ok(StoredForm { version, stamp }),
            Err(difference) => Err(self.refusal(stored, difference)),
        }
    }

    /// Returns the readable version in which a value is stored.
    ///
    /// # Errors
    /// Returns the difference between the stored form and the one that comes closest, where both are known.
    pub(crate) fn version_of(&self, version: u32, codec: &str) -> Result<FormVersion, Option<String>> {
        let mut difference = None;
        let mut fits = |wanted: &str, self_describing: bool, drops: bool| {
            let checked = check_form(codec, wanted, self_describing, drops);
            checked.map_err(|found| difference = difference.take().or(found)).is_ok()
        };
        let current = &self.meta;
        if version == current.schema_version && fits(&current.value_codec, self.self_describing, false) {
            return Ok(FormVersion::Current);
        }
        let exact = |older: &ReadableForm| {
            older.version == version && fits(&older.codec, older.self_describing, true)
        };
        if let Some(index) = self.reads.iter().position(exact) {
            return Ok(FormVersion::Older(index));
        }
        let may_grow = self.self_describing && version < current.schema_version;
        if may_grow && fits(&current.value_codec, true, true) {
            return Ok(FormVersion::Current);
        }
        Err(difference)
    }

    /// Returns why the state cannot read values stored as `stored`, and what to do about it.
    pub(crate) fn advice(&self, stored: &StateMeta, difference: Option<String>) -> String {
        let current = &self.meta;
        let (was, is) = (stored.schema_version, current.schema_version);
        let advice = if was > is {
            "a newer program wrote it: run that one, or restore an older checkpoint".to_owned()
        } else if was == is && self.self_describing && difference.is_some() {
            "its schema version did not change: raise it, and declare how values of the previous version migrate \
             (`Evolution`) where the type cannot read them, or give the type its old form back"
                .to_owned()
        } else if was == is && name(&stored.value_codec) == name(&current.value_codec) {
            "the type of its values changed, its schema version did not: raise it and \
             declare how values of the previous version migrate (`Evolution`), or give the type its old form back"
                .to_owned()
        } else {
            let mut read: Vec<String> =
                self.reads.iter().map(|form| format!("{} ({})", form.version, shown(&form.codec))).collect();
            read.push(format!("{is} ({})", shown(&current.value_codec)));
            format!("the job reads version {}: add a migration from what is stored", read.join(", "))
        };
        difference.map(|difference| difference + "; ").unwrap_or_default() + &advice
    }

    fn refusal(&self, stored: &StateMeta, difference: Option<String>) -> Refusal {
        let current = &self.meta;
        let found = format!(
            "the state is stored in schema version {} with value codec {:?}, the job wants version {} with {:?}",
            stored.schema_version,
            shown(&stored.stored_value_codec()),
            current.schema_version,
            shown(&current.stored_value_codec()),
        );
        Refusal::new(found, self.advice(stored, difference))
    }
}

/// Returns the codec without the fingerprint of the type.
fn name(codec: &str) -> &str {
    codec.split_once('#').map_or(codec, |(name, _)| name)
}

/// Returns the codec as errors name it: without the form of a type, which is long.
pub(crate) fn shown(codec: &str) -> &str {
    if Form::of_codec(codec).is_some() { name(codec) } else { codec }
}

/// Checks whether one codec reads bytes of another: they must be equal, for types of which one reads the other
/// as far as is known. `drops` is whether the type may lack stored fields.
///
/// # Errors
/// Returns the difference of the forms, where both are known.
fn check_form(stored: &str, wanted: &str, self_describing: bool, drops: bool) -> Result<(), Option<String>> {
    if name(stored) != name(wanted) {
        return Err(None);
    }
    if !self_describing {
        let fingerprint = |codec: &str| codec.split_once('#').map(|(_, fingerprint)| fingerprint.to_owned());
        return match (fingerprint(stored), fingerprint(wanted)) {
            (Some(a), Some(b)) if a != b => Err(None),
            // They are equal, or at least one of the codecs has no fingerprint.
            _ => Ok(()),
        };
    }
    match (Form::of_codec(stored), Form::of_codec(wanted)) {
        (Some(stored), Some(wanted)) => wanted.reads(&stored, drops).map_err(Some),
        // At least one was stored before forms were, or does not reveal its form.
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::StateKind;

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
        // This state was written before types had fingerprints.
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
