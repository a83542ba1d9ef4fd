//! The directory of a native snapshot: which files make up the database, where they are, and what the keys in
//! them mean.
//!
//! Specified in `docs/rocksdb.md`. A frame with magic, version and checksum around Zstandard around Postcard.

use serde::{Deserialize, Serialize};
use strandline_state_api::schema::{StateKind, StateMeta};
use strandline_state_api::snapshot::{PartFormat, SegmentRef, SnapshotPart};
use strandline_state_api::{Error, ErrorKind, KeyGroupRange, Result};
use xxhash_rust::xxh3::xxh3_64;

use crate::NATIVE_FORMAT;
use crate::layout::Addressing;

const MAGIC: [u8; 8] = *b"\x89SLRDB\r\n";
const VERSION: u32 = 1;
const HEAD: usize = 12;
const CHECKSUM: usize = 8;
/// A directory is never larger; the manifest of the database, which is in it, is kept to a few MiB.
const MAX_BYTES: usize = 256 << 20;

/// See the [module](self).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Directory {
    /// The key groups of the subtask. The files may hold entries of others, which were deleted.
    pub(crate) key_groups: KeyGroupRange,
    /// By name.
    pub(crate) states: Vec<StoredState>,
    /// The objects that the files are packed into.
    pub(crate) packs: Vec<SegmentRef>,
    pub(crate) files: Vec<StoredFile>,
    /// Name and bytes of the manifest of the database.
    pub(crate) manifest: (String, Vec<u8>),
}

/// A table file of the database.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct StoredFile {
    /// Its name in the database, for example `000012.sst`.
    pub(crate) name: String,
    /// Which pack it is in, and where.
    pub(crate) pack: u32,
    pub(crate) offset: u64,
    pub(crate) len: u64,
    /// XXH3-128 of its bytes.
    pub(crate) hash: u128,
}

/// What the keys of one state mean.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct StoredState {
    pub(crate) addressing: Addressing,
    #[serde(with = "stored_meta")]
    pub(crate) meta: StateMeta,
}

mod stored_meta {
    use serde::de::Error as _;
    use serde::{Deserializer, Serializer};

    use super::{Deserialize, Serialize, StateKind, StateMeta};

    type Stored = (u8, u32, [String; 5]);

    pub(super) fn serialize<S: Serializer>(meta: &StateMeta, serializer: S) -> Result<S::Ok, S::Error> {
        let StateMeta { name, key_codec, namespace_codec, sub_codec, .. } = meta.clone();
        let texts = [name, key_codec, namespace_codec, sub_codec, meta.stored_value_codec()];
        let stored: Stored = (meta.kind.code(), meta.schema_version, texts);
        stored.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<StateMeta, D::Error> {
        let (kind, schema_version, texts) = Stored::deserialize(deserializer)?;
        let [name, key_codec, namespace_codec, sub_codec, value_codec] = texts;
        let kind = StateKind::from_code(kind).ok_or_else(|| D::Error::custom("unknown kind of state"))?;
        let meta = StateMeta::new(name, kind);
        let meta = StateMeta { key_codec, namespace_codec, sub_codec, schema_version, ..meta };
        Ok(meta.with_stored_value_codec(&value_codec))
    }
}

impl Directory {
    pub(crate) fn encode(&self) -> Result<Vec<u8>> {
        let internal = |what: &str, error: String| {
            Error::new(ErrorKind::Internal, format!("the directory of a snapshot cannot be {what}"))
                .caused_by(error)
        };
        let plain = postcard::to_stdvec(self).map_err(|e| internal("encoded", e.to_string()))?;
        let packed = zstd::bulk::compress(&plain, 1).map_err(|e| internal("compressed", e.to_string()))?;
        let mut bytes = Vec::with_capacity(HEAD + packed.len() + CHECKSUM);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&packed);
        let checksum = xxh3_64(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        Ok(bytes)
    }

    /// Reads back what [`encode`](Self::encode) wrote; checks everything.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        let (head, rest) = bytes.split_at_checked(HEAD).ok_or_else(|| damaged("it is too short"))?;
        let (magic, version) = head.split_at(MAGIC.len());
        if magic != MAGIC {
            return Err(damaged("it does not start like one"));
        }
        if version != VERSION.to_le_bytes() {
            let version = version.try_into().map(u32::from_le_bytes).unwrap_or_default();
            let message = format!(
                "the snapshot has version {version} of the format {NATIVE_FORMAT}; \
                 this program reads version {VERSION}"
            );
            return Err(Error::new(ErrorKind::Incompatible, message));
        }
        let end = rest.len().checked_sub(CHECKSUM).ok_or_else(|| damaged("it is too short"))?;
        let (packed, checksum) = rest.split_at(end);
        if xxh3_64(&bytes[..HEAD + end]).to_le_bytes() != checksum {
            return Err(damaged("its checksum differs"));
        }
        let plain = zstd::bulk::decompress(packed, MAX_BYTES.min(packed.len().saturating_mul(1 << 12)))
            .map_err(|e| damaged("it cannot be decompressed").caused_by(e))?;
        let directory: Self =
            postcard::from_bytes(&plain).map_err(|e| damaged("it cannot be decoded").caused_by(e))?;
        directory.check()?;
        Ok(directory)
    }

    /// Checks the names, which become paths, and the numbers, which become positions in files.
    fn check(&self) -> Result<()> {
        let digits =
            |text: &str| !text.is_empty() && text.len() <= 20 && text.bytes().all(|b| b.is_ascii_digit());
        if !self.manifest.0.strip_prefix("MANIFEST-").is_some_and(digits) {
            return Err(damaged("the name of the manifest is none"));
        }
        for file in &self.files {
            if !file.name.strip_suffix(".sst").is_some_and(digits) {
                return Err(damaged("the name of a file is none"));
            }
            let pack = self.packs.get(file.pack as usize);
            let inside =
                pack.is_some_and(|pack| file.offset.checked_add(file.len).is_some_and(|end| end <= pack.len));
            if !inside {
                return Err(damaged("a file is not inside of its pack"));
            }
        }
        if self.states.windows(2).any(|pair| pair[0].meta.name >= pair[1].meta.name) {
            return Err(damaged("its states are not in order"));
        }
        Ok(())
    }

    /// The parts of the snapshot whose directory is stored as `directory`.
    pub(crate) fn parts(&self, directory: SegmentRef) -> Vec<SnapshotPart> {
        let all = self.packs.iter().cloned().chain([directory]);
        let format = PartFormat::Native(NATIVE_FORMAT.into());
        all.map(|segment| SnapshotPart { segment, key_groups: self.key_groups, format: format.clone() })
            .collect()
    }
}

fn damaged(what: &str) -> Error {
    Error::corrupt(format!("the directory of a RocksDB snapshot is damaged: {what}"))
}

#[cfg(test)]
mod tests {
    use strandline_state_api::snapshot::SegmentName;

    use super::*;
    use crate::layout::Layout;

    fn directory() -> Directory {
        let meta = StateMeta { key_codec: "u64".into(), ..StateMeta::new("count", StateKind::Value) };
        let addressing = Addressing { id: 1, layout: Layout::new(Some(8), Some(0), Some(0)) };
        Directory {
            key_groups: KeyGroupRange::new(3, 900),
            states: vec![StoredState { addressing, meta }],
            packs: vec![SegmentRef { name: SegmentName("a".into()), len: 100 }],
            files: vec![StoredFile { name: "000012.sst".into(), pack: 0, offset: 10, len: 90, hash: 7 }],
            manifest: ("MANIFEST-000004".into(), vec![1, 2, 3]),
        }
    }

    #[test]
    fn a_directory_is_read_as_it_was_written() {
        assert_eq!(Directory::decode(&directory().encode().unwrap()).unwrap(), directory());
    }

    #[test]
    fn states_are_stored_as_before_stamps_had_a_field() {
        let mut stamped = directory();
        stamped.states[0].meta.stamped = true;
        assert_eq!(Directory::decode(&stamped.encode().unwrap()).unwrap(), stamped);
        let StoredState { addressing: Addressing { id, layout }, .. } = stamped.states[0];
        let texts = ["count", "u64", "", "", "ttl8+bytes"];
        let before = postcard::to_stdvec(&(id, layout, StateKind::Value.code(), 0u32, texts)).unwrap();
        assert_eq!(postcard::to_stdvec(&stamped.states[0]).unwrap(), before);
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_is_an_error() {
        let bytes = directory().encode().unwrap();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                assert!(Directory::decode(&damaged).is_err(), "bit {bit} of byte {at}");
            }
            assert_eq!(Directory::decode(&bytes[..at]).unwrap_err().kind(), ErrorKind::Corrupt);
        }
    }

    #[test]
    fn a_newer_version_is_incompatible_and_not_damaged() {
        let mut bytes = directory().encode().unwrap();
        bytes[8] = 2;
        assert_eq!(Directory::decode(&bytes).unwrap_err().kind(), ErrorKind::Incompatible);
    }

    #[test]
    fn hostile_names_and_positions_are_refused() {
        let hostile: [fn(&mut Directory); 5] = [
            |d| d.files[0].name = "../000012.sst".into(),
            |d| d.manifest.0 = "MANIFEST-1/../../x".into(),
            |d| d.files[0].pack = 1,
            |d| d.files[0].offset = u64::MAX,
            |d| d.files[0].len = 91,
        ];
        for change in hostile {
            let mut directory = directory();
            change(&mut directory);
            let error = Directory::decode(&directory.encode().unwrap()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        }
    }
}
