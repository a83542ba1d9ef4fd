//! What a checkpoint holds of a source of files.
//!
//! A split that was begun, or whose file has others, has a position of its own. Files that are one split and
//! were not begun, or read whole, stand together in one list for each subtask, as most files of a large input
//! do: some 15 bytes each.

use std::fmt;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::ser::SerializeTuple;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use strandline_state_api::schema::{DataType, Description, Encoding, NamedType};
use strandline_state_api::{Codec, Result, SerdeCodec};

use super::identity::Stamp;
use super::split::Split;

/// A part of the position of a [`FileSource`](super::FileSource): where it stands in one byte range of a file,
/// or which files were not begun or read whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilePosition(pub(super) Stored);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stored {
    Split(Box<Split>),
    /// An encoded [`FileList`].
    Files(Vec<u8>),
}

/// The files of one subtask that were not begun or were read whole, and what is common to all its splits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FileList {
    /// What the positions of the source depend on; see [`FileFormat::layout`](super::FileFormat::layout).
    pub(super) layout: String,
    /// Where the input is, for people; empty in older checkpoints.
    pub(super) path: String,
    /// The subtask, and the parallelism.
    pub(super) owner: Option<(u32, u32)>,
    /// How many records of files that were read whole were left out.
    pub(super) skipped: u64,
    /// The greatest event time in files that were read whole, stored as that of a split.
    pub(super) greatest: i64,
    /// By name.
    pub(super) files: Vec<KnownFile>,
}

/// A file that was not begun or was read whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KnownFile {
    pub(super) name: String,
    pub(super) len: u64,
    pub(super) stamp: Stamp,
    /// The mark at its end; `None` where it was not begun.
    pub(super) read: Option<u32>,
}

/// The stored form of a [`KnownFile`]: the difference to the one before.
#[derive(Serialize, Deserialize)]
struct Entry {
    /// How many bytes at the beginning and at the end the names share.
    prefix: u32,
    suffix: u32,
    middle: String,
    len: i64,
    modified: i64,
    inode: i64,
    read: Option<[u8; 4]>,
}

/// The stored form of a [`FileList`].
#[derive(Serialize, Deserialize)]
struct List {
    /// Behind a zero byte, where there is one, is the path.
    layout: String,
    owner: Option<(u32, u32)>,
    skipped: u64,
    greatest: i64,
    files: Vec<Entry>,
}

impl FileList {
    pub(super) fn encode(&self) -> Result<Vec<u8>> {
        let none = KnownFile { name: String::new(), len: 0, stamp: Stamp::default(), read: None };
        let mut before = &none;
        let mut files = Vec::with_capacity(self.files.len());
        for file in &self.files {
            let prefix = shared(before.name.char_indices(), file.name.char_indices());
            let (tail, tail_before) =
                (file.name.get(prefix..).unwrap_or(""), before.name.get(prefix..).unwrap_or(""));
            let suffix = shared_end(tail_before, tail);
            files.push(Entry {
                prefix: prefix as u32,
                suffix: suffix as u32,
                middle: tail.get(..tail.len() - suffix).unwrap_or("").to_owned(),
                len: file.len.wrapping_sub(before.len) as i64,
                modified: file.stamp.modified.wrapping_sub(before.stamp.modified),
                inode: file.stamp.inode.wrapping_sub(before.stamp.inode) as i64,
                read: file.read.map(u32::to_le_bytes),
            });
            before = file;
        }
        let Self { layout, path, owner, skipped, greatest, .. } = self;
        let layout = if path.is_empty() { layout.clone() } else { format!("{layout}\0{path}") };
        let (owner, skipped, greatest) = (*owner, *skipped, *greatest);
        let mut bytes = Vec::new();
        SerdeCodec.encode(&List { layout, owner, skipped, greatest, files }, &mut bytes)?;
        Ok(bytes)
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        let List { layout, owner, skipped, greatest, files: entries } = SerdeCodec.decode(bytes)?;
        let mut files: Vec<KnownFile> = Vec::with_capacity(entries.len());
        let (mut name, mut len, mut stamp) = (String::new(), 0u64, Stamp::default());
        for entry in entries {
            let prefix = name.get(..entry.prefix as usize).unwrap_or("");
            let suffix = name.len().checked_sub(entry.suffix as usize).and_then(|from| name.get(from..));
            name = [prefix, &entry.middle, suffix.unwrap_or("")].concat();
            len = len.wrapping_add(entry.len as u64);
            stamp = Stamp {
                modified: stamp.modified.wrapping_add(entry.modified),
                inode: stamp.inode.wrapping_add(entry.inode as u64),
            };
            let read = entry.read.map(u32::from_le_bytes);
            files.push(KnownFile { name: name.clone(), len, stamp, read });
        }
        let (layout, path) = layout.split_once('\0').unwrap_or((&layout, ""));
        Ok(Self { layout: layout.to_owned(), path: path.to_owned(), owner, skipped, greatest, files })
    }
}

/// How many bytes at the beginning of two names are the same.
fn shared(a: std::str::CharIndices<'_>, b: std::str::CharIndices<'_>) -> usize {
    let same = a.zip(b).take_while(|((_, a), (_, b))| a == b);
    same.last().map_or(0, |((at, char), _)| at + char.len_utf8())
}

/// How many bytes at the end of two names are the same.
fn shared_end(a: &str, b: &str) -> usize {
    let same = a.chars().rev().zip(b.chars().rev()).take_while(|(a, b)| a == b);
    same.map(|(char, _)| char.len_utf8()).sum()
}

/// Positions of the first version began with the name of a file, which is never empty.
const VERSIONED: &str = "";
const SPLIT: u8 = 1;
const FILES: u8 = 2;
/// A [`SPLIT`] of a compressed file.
const PACKED: u8 = 3;
/// At least as many as a position has fields.
const FIELDS: usize = 16;

/// How a program reads positions that does not have this source.
///
/// A tuple of a text and a number with what follows it is, in the wire format, a text and an enum. The list of files is
/// one of bytes: a number, and then the fields of the list.
pub(super) fn description() -> Description {
    let int = |signed, bits| DataType::Int { signed, bits };
    let [u8, u32, u64, i64] = [int(false, 8), int(false, 32), DataType::U64, DataType::I64];
    let option = |of| DataType::Option(Box::new(of));
    let owner = option(DataType::of_fields([("subtask", u32.clone()), ("parallelism", u32.clone())]));
    let stamp = [("modified_us", i64.clone()), ("inode", u64.clone())];
    let split = DataType::of_fields([
        ("file", DataType::Text),
        ("start", u64.clone()),
        ("end", u64.clone()),
        ("offset", u64.clone()),
        ("skipped", u64.clone()),
        ("owner", owner.clone()),
        ("stamp", DataType::of_fields(stamp.clone())),
        ("mark", u32.clone()),
        ("before", DataType::Bytes),
        ("greatest_ms", i64.clone()),
    ]);
    let [modified, inode] = stamp;
    let entry = DataType::of_fields([
        ("name_prefix", u32.clone()),
        ("name_suffix", u32),
        ("name", DataType::Text),
        ("len", i64.clone()),
        modified,
        (inode.0, i64.clone()),
        ("read", option(DataType::Tuple(vec![u8; 4]))),
    ]);
    let files = DataType::of_fields([
        ("bytes", u64.clone()),
        ("layout", DataType::Text),
        ("owner", owner),
        ("skipped", u64),
        ("greatest_ms", i64),
        // Each is stored as the difference to the one before.
        ("files", DataType::List(Box::new(entry))),
    ]);
    let kinds =
        [("unversioned", DataType::Unit), ("split", split.clone()), ("files", files), ("packed", split)];
    let kinds = kinds.into_iter().map(|(name, of)| NamedType::new(name, of)).collect();
    let position = DataType::of_fields([("version", DataType::Text), ("position", DataType::Enum(kinds))]);
    Description::new(Encoding::Postcard, position)
}

impl Serialize for FilePosition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Stored::Split(split) => {
                let Split { file, start, end, offset, skipped, owner, stamp, mark, before, greatest, .. } =
                    &**split;
                let mut fields = serializer.serialize_tuple(9)?;
                fields.serialize_element(VERSIONED)?;
                fields.serialize_element(if split.packed { &PACKED } else { &SPLIT })?;
                fields.serialize_element(file)?;
                fields.serialize_element(&[*start, *end, *offset, *skipped])?;
                fields.serialize_element(owner)?;
                fields.serialize_element(stamp)?;
                fields.serialize_element(mark)?;
                fields.serialize_element(before)?;
                fields.serialize_element(greatest)?;
                fields.end()
            }
            Stored::Files(list) => {
                let mut fields = serializer.serialize_tuple(3)?;
                fields.serialize_element(VERSIONED)?;
                fields.serialize_element(&FILES)?;
                fields.serialize_element(list)?;
                fields.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for FilePosition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_tuple(FIELDS, PositionVisitor)
    }
}

struct PositionVisitor;

impl<'de> Visitor<'de> for PositionVisitor {
    type Value = FilePosition;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the position of a source of files")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut fields: A) -> Result<FilePosition, A::Error> {
        fn next<'de, T: Deserialize<'de>, A: SeqAccess<'de>>(fields: &mut A) -> Result<T, A::Error> {
            fields.next_element()?.ok_or_else(|| A::Error::custom("a position ends early"))
        }
        let mut file: String = next(&mut fields)?;
        let kind = if file == VERSIONED { next(&mut fields)? } else { 0 };
        if kind == FILES {
            return Ok(FilePosition(Stored::Files(next(&mut fields)?)));
        }
        if kind > PACKED {
            return Err(A::Error::custom("a newer version wrote this position"));
        }
        if matches!(kind, SPLIT | PACKED) {
            file = next(&mut fields)?;
        }
        let [start, end, offset, skipped] = next(&mut fields)?;
        let owner = next(&mut fields)?;
        let mut split =
            Split { file, start, end, offset, skipped, owner, greatest: i64::MIN, ..Split::default() };
        if matches!(kind, SPLIT | PACKED) {
            split.packed = kind == PACKED;
            split.stamp = next(&mut fields)?;
            split.mark = next(&mut fields)?;
            split.before = next(&mut fields)?;
            split.greatest = next(&mut fields)?;
        }
        Ok(FilePosition(Stored::Split(Box::new(split))))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(position: &FilePosition) -> Vec<u8> {
        let mut bytes = Vec::new();
        SerdeCodec.encode(position, &mut bytes).unwrap();
        bytes
    }

    /// The bytes of both versions, which checkpoints hold.
    #[test]
    fn the_stored_forms_stay() {
        let first = |owner| Split {
            file: "a.csv".into(),
            end: 300,
            offset: 128,
            skipped: 2,
            owner,
            greatest: i64::MIN,
            ..Split::default()
        };
        let second = Split {
            stamp: Stamp { modified: 70, inode: 3 },
            mark: 5,
            before: b"x\n".to_vec(),
            greatest: -1,
            ..first(Some((1, 3)))
        };
        let of = |split| FilePosition(Stored::Split(Box::new(split)));
        for (stored, split) in [
            (&b"\x05a.csv\x00\xAC\x02\x80\x01\x02\x00"[..], first(None)),
            (b"\x05a.csv\x00\xAC\x02\x80\x01\x02\x01\x01\x03", first(Some((1, 3)))),
            (
                b"\x00\x01\x05a.csv\x00\xAC\x02\x80\x01\x02\x01\x01\x03\x8C\x01\x03\x05\x02x\n\x01",
                second.clone(),
            ),
        ] {
            assert_eq!(Codec::<FilePosition>::decode(&SerdeCodec, stored).unwrap(), of(split));
        }
        let stored = b"\x00\x01\x05a.csv\x00\xAC\x02\x80\x01\x02\x01\x01\x03\x8C\x01\x03\x05\x02x\n\x01";
        assert_eq!(encoded(&of(second.clone())), stored);
        let packed = of(Split { packed: true, ..second });
        let stored = [&b"\x00\x03"[..], &stored[2..]].concat();
        assert_eq!(encoded(&packed), stored);
        assert_eq!(Codec::<FilePosition>::decode(&SerdeCodec, &stored).unwrap(), packed);
        let list = FilePosition(Stored::Files(vec![7, 8]));
        assert_eq!(encoded(&list), b"\x00\x02\x02\x07\x08");
        assert_eq!(Codec::<FilePosition>::decode(&SerdeCodec, b"\x00\x02\x02\x07\x08").unwrap(), list);
        assert!(Codec::<FilePosition>::decode(&SerdeCodec, b"\x00\x04\x02\x07\x08").is_err());
    }

    #[test]
    fn a_list_of_many_files_is_small() {
        let files = (0..10_000u64).map(|i| KnownFile {
            name: format!("orders-2026-11-{i:06}.csv"),
            len: 80 + i % 40,
            stamp: Stamp { modified: 1_764_000_000_000_000 + i as i64 * 200, inode: 9_000 + i },
            read: Some(i.wrapping_mul(0x9E37_79B9) as u32),
        });
        let list = FileList { layout: "lines".into(), files: files.collect(), ..FileList::default() };
        let bytes = list.encode().unwrap();
        assert!(bytes.len() < 16 * 10_000, "{} bytes", bytes.len());
        assert_eq!(FileList::decode(&bytes).unwrap(), list);
    }

    proptest! {
        #[test]
        fn every_list_comes_back(
            files in proptest::collection::vec(
                ("[aä1]{1,6}", any::<u64>(), any::<(i64, u64)>(), any::<Option<u32>>()),
                0..20,
            ),
            (skipped, greatest, owner) in any::<(u64, i64, Option<(u32, u32)>)>(),
            path in "[a/]{0,3}",
        ) {
            let files = files.into_iter().map(|(name, len, (modified, inode), read)| {
                KnownFile { name, len, stamp: Stamp { modified, inode }, read }
            });
            let list = FileList { layout: "x".into(), path, owner, skipped, greatest, files: files.collect() };
            let decoded = FileList::decode(&list.encode().unwrap()).unwrap();
            prop_assert_eq!(decoded, list);
        }
    }
}
