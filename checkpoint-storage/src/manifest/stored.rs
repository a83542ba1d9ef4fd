//! The manifest as it lies in the store.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use strandline_state_api::{Error, Result, SegmentRef};

use super::Manifest;
use crate::envelope::Envelope;

const MANIFEST: Envelope =
    Envelope { what: "manifest", magic: *b"STRLMANI", version: 1, limit: 256 * 1024 * 1024 };

const OPERATOR_STATE: Envelope = Envelope {
    what: "file of operator state",
    magic: *b"STRLOPST",
    version: 1,
    limit: 4 * 1024 * 1024 * 1024,
};

/// A manifest, and what was taken out of it because it is large.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredManifest {
    pub(crate) manifest: Manifest,
    #[serde(default)]
    pub(crate) external: Vec<External>,
}

/// The elements of one operator state in a file of their own; positions are indices into the lists of the manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct External {
    pub(crate) operator: usize,
    pub(crate) subtask: usize,
    pub(crate) entry: usize,
    pub(crate) file: SegmentRef,
}

impl StoredManifest {
    /// No file that is longer is a manifest.
    pub(crate) const LIMIT: u64 = MANIFEST.limit;

    pub(crate) fn encode(&self) -> Result<Bytes> {
        let json = serde_json::to_vec(self)
            .map_err(|e| Error::invalid("the manifest cannot be written as JSON").caused_by(e))?;
        MANIFEST.seal(&json)
    }

    pub(crate) fn decode(file: &[u8], name: &str) -> Result<Self> {
        let json = MANIFEST.open(file, name)?;
        let stored: Self = serde_json::from_slice(json).map_err(|e| {
            Error::corrupt("this is no manifest, although its checksum is right")
                .with("file", name)
                .caused_by(e)
        })?;
        for external in &stored.external {
            if stored.manifest.elements(external).is_none() {
                return Err(
                    Error::corrupt("the manifest refers to operator state it lacks").with("file", name)
                );
            }
        }
        Ok(stored)
    }
}

impl Manifest {
    /// The elements that were taken out; they are empty here.
    fn elements(&self, external: &External) -> Option<&Vec<Vec<u8>>> {
        let subtask = self.operators.get(external.operator)?.subtasks.get(external.subtask)?;
        Some(&subtask.operator_state.get(external.entry)?.elements)
    }

    pub(crate) fn elements_mut(&mut self, external: &External) -> Option<&mut Vec<Vec<u8>>> {
        let subtask = self.operators.get_mut(external.operator)?.subtasks.get_mut(external.subtask)?;
        Some(&mut subtask.operator_state.get_mut(external.entry)?.elements)
    }
}

/// A file of operator state: each element with its length before it, 8 bytes, little-endian.
pub(crate) fn encode_elements(elements: &[Vec<u8>]) -> Result<Bytes> {
    let mut payload = Vec::with_capacity(elements.iter().map(|e| e.len() + 8).sum());
    for element in elements {
        payload.extend_from_slice(&(element.len() as u64).to_le_bytes());
        payload.extend_from_slice(element);
    }
    OPERATOR_STATE.seal(&payload)
}

pub(crate) fn decode_elements(file: &[u8], name: &str) -> Result<Vec<Vec<u8>>> {
    let mut rest = OPERATOR_STATE.open(file, name)?;
    let mut elements = Vec::new();
    while !rest.is_empty() {
        let element = rest.split_first_chunk::<8>().and_then(|(len, tail)| {
            let len = usize::try_from(u64::from_le_bytes(*len)).ok()?;
            tail.split_at_checked(len)
        });
        let Some((element, tail)) = element else {
            return Err(Error::corrupt("an element of operator state ends too late").with("file", name));
        };
        elements.push(element.to_vec());
        rest = tail;
    }
    Ok(elements)
}

/// Operator state in JSON: the elements in base64.
pub(super) mod entries {
    use std::borrow::Cow;

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use strandline_state_api::{OperatorStateEntry, Redistribution};

    #[derive(Serialize, Deserialize)]
    struct Entry<'a> {
        name: Cow<'a, str>,
        redistribution: Redistribution,
        codec: Cow<'a, str>,
        #[serde(default = "first_version", skip_serializing_if = "is_first_version")]
        schema_version: u32,
        elements: Vec<String>,
    }

    /// What a manifest without a version means.
    fn first_version() -> u32 {
        1
    }

    fn is_first_version(version: &u32) -> bool {
        *version == first_version()
    }

    pub(in crate::manifest) fn serialize<S: Serializer>(
        entries: &[OperatorStateEntry],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(entries.iter().map(|entry| Entry {
            name: Cow::Borrowed(&entry.name),
            redistribution: entry.redistribution,
            codec: Cow::Borrowed(&entry.codec),
            schema_version: entry.schema_version,
            elements: entry.elements.iter().map(|e| STANDARD.encode(e)).collect(),
        }))
    }

    pub(in crate::manifest) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<OperatorStateEntry>, D::Error> {
        let entries = Vec::<Entry<'_>>::deserialize(deserializer)?;
        let decode = |entry: Entry<'_>| {
            let elements: Result<_, _> = entry.elements.iter().map(|e| STANDARD.decode(e)).collect();
            Ok(OperatorStateEntry {
                name: entry.name.into_owned(),
                redistribution: entry.redistribution,
                codec: entry.codec.into_owned(),
                schema_version: entry.schema_version,
                elements: elements.map_err(D::Error::custom)?,
            })
        };
        entries.into_iter().map(decode).collect()
    }
}
