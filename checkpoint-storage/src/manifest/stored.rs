//! The manifest as it lies in the store.
//!
//! | version | what changed |
//! | --- | --- |
//! | 1 | the first |
//! | 2 | positions, committables and timestamp assigners have fields of their own; statistics name their scope |
//! | 3 | records in flight; a manifest without any is written as version 2, which older programs read |

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use strandline_state_api::snapshot::SegmentRef;
use strandline_state_api::{Error, Result};

use super::{Manifest, SubtaskSnapshot, version1};
use crate::envelope::Envelope;

const MANIFEST: Envelope =
    Envelope { what: "manifest", magic: *b"STRLMANI", version: 3, limit: 256 * 1024 * 1024 };
/// The version of a manifest without records in flight.
const WITHOUT_IN_FLIGHT: u32 = 2;

const OPERATOR_STATE: Envelope = Envelope {
    what: "file of operator state",
    magic: *b"STRLOPST",
    version: 1,
    limit: 4 * 1024 * 1024 * 1024,
};

/// A manifest, and the lists that lie in files of their own because they are large.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredManifest {
    pub(crate) manifest: Manifest,
    #[serde(default)]
    pub(crate) external: Vec<External>,
    /// The version of the format that it was written in.
    #[serde(skip)]
    version: u32,
}

/// A list in a file of its own. Operator and subtask are indices into the lists of the manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct External {
    pub(crate) operator: usize,
    pub(crate) subtask: usize,
    #[serde(rename = "entry")]
    pub(crate) list: ElementList,
    pub(crate) file: SegmentRef,
}

/// A list of encoded elements of a subtask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ElementList {
    Positions,
    Committables,
    #[serde(rename = "in_flight")]
    InFlight,
    /// The operator state with this index.
    #[serde(untagged)]
    OperatorState(usize),
}

impl StoredManifest {
    /// No file that is longer is a manifest.
    pub(crate) const LIMIT: u64 = MANIFEST.limit;

    pub(crate) fn new(manifest: Manifest) -> Self {
        Self { manifest, external: Vec::new(), version: MANIFEST.version }
    }

    /// Encodes it in the oldest version that holds all of it.
    pub(crate) fn encode(&self) -> Result<Bytes> {
        let subtasks = self.manifest.operators.iter().flat_map(|operator| &operator.subtasks);
        let is_in_flight = subtasks.into_iter().any(|subtask| !subtask.in_flight.is_empty())
            || self.external.iter().any(|external| external.list == ElementList::InFlight);
        let version = if is_in_flight { MANIFEST.version } else { WITHOUT_IN_FLIGHT };
        Envelope { version, ..MANIFEST }.seal(&self.json()?)
    }

    fn json(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self)
            .map_err(|e| Error::invalid("the manifest cannot be written as JSON").caused_by(e))
    }

    /// Encodes it as a file of another version.
    #[cfg(test)]
    pub(super) fn encode_as(&self, version: u32) -> Result<Bytes> {
        Envelope { version, ..MANIFEST }.seal(&self.json()?)
    }

    pub(crate) fn decode(file: &[u8], name: &str) -> Result<Self> {
        let (version, json) = MANIFEST.open_version(file, name)?;
        let mut stored: Self = serde_json::from_slice(json).map_err(|e| {
            Error::corrupt("this is no manifest, although its checksum is right")
                .with("file", name)
                .caused_by(e)
        })?;
        stored.version = version;
        for external in &stored.external {
            if stored.manifest.elements(external).is_none() {
                return Err(
                    Error::corrupt("the manifest refers to operator state it lacks").with("file", name)
                );
            }
        }
        Ok(stored)
    }

    /// The manifest as this version has it; the contents of all files must be back in their lists.
    pub(crate) fn into_manifest(self) -> Result<Manifest> {
        let mut manifest = self.manifest;
        if self.version == 1 {
            let checkpoint = manifest.checkpoint;
            version1::upgrade(&mut manifest).map_err(|error| error.with("checkpoint", checkpoint))?;
        }
        Ok(manifest)
    }
}

impl Manifest {
    /// The elements that a file holds; none are here.
    fn elements(&self, external: &External) -> Option<&Vec<Vec<u8>>> {
        let subtask = self.operators.get(external.operator)?.subtasks.get(external.subtask)?;
        match external.list {
            ElementList::Positions => Some(&subtask.positions),
            ElementList::Committables => Some(&subtask.committables),
            ElementList::InFlight => Some(&subtask.in_flight),
            ElementList::OperatorState(index) => Some(&subtask.operator_state.get(index)?.elements),
        }
    }

    pub(crate) fn elements_mut(&mut self, external: &External) -> Option<&mut Vec<Vec<u8>>> {
        let subtask = self.operators.get_mut(external.operator)?.subtasks.get_mut(external.subtask)?;
        match external.list {
            ElementList::Positions => Some(&mut subtask.positions),
            ElementList::Committables => Some(&mut subtask.committables),
            ElementList::InFlight => Some(&mut subtask.in_flight),
            ElementList::OperatorState(index) => Some(&mut subtask.operator_state.get_mut(index)?.elements),
        }
    }
}

impl SubtaskSnapshot {
    /// All lists of encoded elements.
    pub(crate) fn element_lists(&mut self) -> impl Iterator<Item = (ElementList, &mut Vec<Vec<u8>>)> {
        let states = self.operator_state.iter_mut().enumerate();
        let states = states.map(|(index, entry)| (ElementList::OperatorState(index), &mut entry.elements));
        let own = [
            (ElementList::Positions, &mut self.positions),
            (ElementList::Committables, &mut self.committables),
            (ElementList::InFlight, &mut self.in_flight),
        ];
        states.chain(own)
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
