//! The names of files: who wrote them, for which checkpoint, and what they contain.

use std::fmt;

use strandline_checkpoint_protocol::Term;
use strandline_state_api::CheckpointId;
use xxhash_rust::xxh3::xxh3_128;

/// The directory of the commit log.
pub const LOG_DIR: &str = "log";

/// What an immutable file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileKind {
    /// Keyed state: `segments/….seg`.
    Segment,
    /// Operator state too large for a manifest: `operator/….state`.
    OperatorState,
    /// What a checkpoint consists of: `manifest/….manifest`.
    Manifest,
    /// The savepoints whose slots the log has no more: `savepoints/….list`.
    Savepoints,
}

impl FileKind {
    /// All of them, those first that no others refer to.
    pub const ALL: [Self; 4] = [Self::Savepoints, Self::Manifest, Self::OperatorState, Self::Segment];

    /// The directory that holds them.
    pub const fn dir(self) -> &'static str {
        match self {
            Self::Segment => "segments",
            Self::OperatorState => "operator",
            Self::Manifest => "manifest",
            Self::Savepoints => "savepoints",
        }
    }

    const fn extension(self) -> &'static str {
        match self {
            Self::Segment => "seg",
            Self::OperatorState => "state",
            Self::Manifest => "manifest",
            Self::Savepoints => "list",
        }
    }
}

/// The name of an immutable file: `<term>-<checkpoint>-<hash>.<extension>`.
///
/// Term and checkpoint are decimal with 20 digits, so that names sort by age. The hash is the XXH3-128 (seed
/// 0) of the bytes in 32 hexadecimal digits: one name can never mean two contents. Term and checkpoint show a
/// sweep whether a running checkpoint can still need the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileName {
    /// What it is.
    pub kind: FileKind,
    /// The term of the coordinator on whose behalf it was written.
    pub term: Term,
    /// The checkpoint that it was written for; later ones may refer to it.
    pub checkpoint: CheckpointId,
    /// The hash of its bytes.
    pub hash: u128,
}

impl FileName {
    /// The name for a file with these bytes.
    pub fn of(kind: FileKind, term: impl Into<Term>, checkpoint: CheckpointId, bytes: &[u8]) -> Self {
        Self { kind, term: term.into(), checkpoint, hash: xxh3_128(bytes) }
    }

    /// Reads a name back; `None` unless it is exactly what [`Display`](fmt::Display) writes.
    pub fn parse(kind: FileKind, name: &str) -> Option<Self> {
        let stem = name.strip_suffix(kind.extension())?.strip_suffix('.')?;
        let mut parts = stem.split('-');
        let (term, checkpoint, hash) = (parts.next()?, parts.next()?, parts.next()?);
        let parsed = Self {
            kind,
            term: Term(term.parse().ok()?),
            checkpoint: CheckpointId(checkpoint.parse().ok()?),
            hash: u128::from_str_radix(hash, 16).ok()?,
        };
        (parsed.to_string() == name).then_some(parsed)
    }

    /// Where it is, from the root of the storage.
    pub fn path(&self) -> String {
        format!("{}/{self}", self.kind.dir())
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:020}-{:020}-{:032x}.{}", self.term, self.checkpoint.0, self.hash, self.kind.extension())
    }
}

/// The path of a slot of the commit log: `log/` and 20 digits.
pub fn slot_path(slot: u64) -> String {
    format!("{LOG_DIR}/{slot:020}")
}

/// Exists once the first slot of the log may have been deleted.
pub(crate) const CUT_MARK: &str = "log.cut";

/// The object by which a store on a network shows that it creates only what does not exist; empty, and stays.
pub(crate) const PROBE: &str = "log.probe";

/// The slot that a file in the directory of the log is, if it is one. One after which there could be no other
/// is none.
pub(crate) fn parse_slot(name: &str) -> Option<u64> {
    let slot: u64 = name.parse().ok()?;
    (slot <= NUMBERS && format!("{slot:020}") == name).then_some(slot)
}

/// No term, slot or checkpoint comes near it, so that one can always be added.
pub(crate) const NUMBERS: u64 = u64::MAX / 2;

/// The directory of the marks of savepoints that were removed.
pub(crate) const REMOVED_DIR: &str = "removed";

/// The name of the mark of a savepoint that was removed: its term and number.
pub(crate) fn removed_name(term: Term, checkpoint: CheckpointId) -> String {
    format!("{term:020}-{:020}", checkpoint.0)
}

/// Reads such a name back.
pub(crate) fn parse_removed(name: &str) -> Option<(Term, CheckpointId)> {
    let (term, checkpoint) = name.split_once('-')?;
    let (term, checkpoint) = (Term(term.parse().ok()?), CheckpointId(checkpoint.parse().ok()?));
    (removed_name(term, checkpoint) == name).then_some((term, checkpoint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exact_names_are_taken() {
        let name = FileName::of(FileKind::Segment, 3, CheckpointId(12), b"x");
        let text = name.to_string();
        assert!(text.starts_with("00000000000000000003-00000000000000000012-"));
        assert_eq!(FileName::parse(FileKind::Segment, &text), Some(name));
        assert_eq!(FileName::parse(FileKind::Manifest, &text), None);
        for bad in [
            text.replacen('0', "", 1),
            text.replacen('0', "+", 1),
            text.to_uppercase(),
            format!("../{text}"),
            format!("{text} "),
            text.replace('-', "_"),
        ] {
            assert_eq!(FileName::parse(FileKind::Segment, &bad), None, "{bad}");
        }
    }

    #[test]
    fn slots_sort_as_text() {
        assert_eq!(slot_path(7), "log/00000000000000000007");
        assert_eq!(parse_slot("00000000000000000007"), Some(7));
        let last = u64::MAX.to_string();
        for bad in ["7", "+0000000000000000007", "", "99999999999999999999", &last] {
            assert_eq!(parse_slot(bad), None, "{bad}");
        }
    }
}
