//! What a checkpoint consists of.

mod json;
mod stored;
#[cfg(test)]
mod tests;
mod types;
mod version1;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use strandline_checkpoint_protocol::{CheckpointKind, Term};
use strandline_state_api::backend::{Scope, Statistic};
use strandline_state_api::host::OperatorStateEntry;
use strandline_state_api::snapshot::{KeyedSnapshot, SegmentRef};
use strandline_state_api::{CheckpointId, KeyGroupRange, OperatorId, Timestamp};

use crate::{FileKind, FileName};
pub(crate) use stored::{External, StoredManifest, decode_elements, encode_elements};
pub use types::OperatorTypes;

/// Everything that a checkpoint consists of; with the files that it names, enough to restore a job.
///
/// On disk: the frame that the crate documentation shows, with magic `STRLMANI`, around JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The checkpoint.
    pub checkpoint: CheckpointId,
    /// The term of the coordinator that wrote it.
    pub term: Term,
    /// The name of the job.
    pub job: String,
    /// When it was written: milliseconds since 1970, by the clock of the coordinator. For people.
    pub created_unix_ms: u64,
    /// Why it was taken. No sweep deletes a [`Savepoint`](CheckpointKind::Savepoint) that nobody
    /// [removed](crate::Storage::remove_savepoint).
    pub kind: CheckpointKind,
    /// The checkpoint that the job was restored from at the start of this term, if from one: from which its
    /// branch of the log grows.
    #[serde(default)]
    pub restored_from: Option<CheckpointId>,
    /// What each operator handed in.
    pub operators: Vec<OperatorSnapshot>,
    /// What it cost.
    #[serde(default)]
    pub trace: CheckpointTrace,
}

impl Manifest {
    /// A manifest of a periodic checkpoint without operators, for struct update syntax.
    pub fn new(checkpoint: CheckpointId, term: impl Into<Term>, job: impl Into<String>) -> Self {
        Self {
            checkpoint,
            term: term.into(),
            job: job.into(),
            created_unix_ms: 0,
            kind: CheckpointKind::Periodic,
            restored_from: None,
            operators: Vec::new(),
            trace: CheckpointTrace::default(),
        }
    }

    /// Every segment that it refers to; one may come several times.
    pub fn segments(&self) -> impl Iterator<Item = &SegmentRef> {
        let subtasks = self.operators.iter().flat_map(|operator| &operator.subtasks);
        subtasks.flat_map(|subtask| &subtask.keyed.parts).map(|part| &part.segment)
    }

    /// Whether all segments that it refers to were written for it.
    pub(crate) fn stands_alone(&self) -> bool {
        self.segments().all(|segment| {
            let name = FileName::parse(FileKind::Segment, &segment.name.0);
            name.is_some_and(|name| (name.term, name.checkpoint) == (self.term, self.checkpoint))
        })
    }

    /// What the operator with this id handed in.
    pub fn operator(&self, id: &OperatorId) -> Option<&OperatorSnapshot> {
        self.operators.iter().find(|operator| operator.id == *id)
    }
}

/// What the subtasks of one operator handed in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorSnapshot {
    /// The operator.
    pub id: OperatorId,
    /// How many subtasks it had.
    pub parallelism: u32,
    /// What each of them handed in.
    pub subtasks: Vec<SubtaskSnapshot>,
    /// The types of its state, for programs that do not have the job. Checkpoints of older versions have none,
    /// and no restore depends on them.
    #[serde(default, skip_serializing_if = "OperatorTypes::is_empty")]
    pub types: OperatorTypes,
}

/// What one subtask handed in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubtaskSnapshot {
    /// Its number, from 0.
    pub subtask: u32,
    /// The key groups that it owned.
    pub key_groups: KeyGroupRange,
    /// Its keyed state and timers.
    #[serde(default)]
    pub keyed: KeyedSnapshot,
    /// Its operator state.
    #[serde(default, with = "json::entries")]
    pub operator_state: Vec<OperatorStateEntry>,
    /// Of a source: its positions, one encoded element for each split.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "json::elements")]
    pub positions: Vec<Vec<u8>>,
    /// Of a sink: what it has yet to commit.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "json::elements")]
    pub committables: Vec<Vec<u8>>,
    /// What its barrier has overtaken in its channels, one element for each message, as
    /// [`InFlight::encode`](crate::InFlight::encode) returns it, in the order of each channel.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "json::elements")]
    pub in_flight: Vec<Vec<u8>>,
    /// The greatest timestamp that each timestamp assigner in front of the operator saw, by its place in the
    /// chain.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub assigners: Vec<Option<Timestamp>>,
    /// Its watermark at the barrier. `None` before the first.
    #[serde(default, deserialize_with = "json::watermark")]
    pub watermark: Option<Timestamp>,
    /// Whether it had ended before the barrier.
    #[serde(default)]
    pub finished: bool,
    /// What the checkpoint cost it.
    #[serde(default)]
    pub trace: SubtaskTrace,
    /// The measurements of its state backend; see
    /// [`KeyedBackend::statistics`](strandline_state_api::KeyedBackend::statistics).
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "json::statistics")]
    pub statistics: Vec<StoredStatistic>,
    /// The types of its state. They are stored once for the operator: [`JobLayout`](crate::JobLayout) takes them
    /// from here.
    #[serde(skip)]
    pub types: Arc<OperatorTypes>,
}

impl SubtaskSnapshot {
    /// A subtask without state, for struct update syntax.
    pub fn new(subtask: u32, key_groups: KeyGroupRange) -> Self {
        Self {
            subtask,
            key_groups,
            keyed: KeyedSnapshot::default(),
            operator_state: Vec::new(),
            positions: Vec::new(),
            committables: Vec::new(),
            in_flight: Vec::new(),
            assigners: Vec::new(),
            watermark: None,
            finished: false,
            trace: SubtaskTrace::default(),
            statistics: Vec::new(),
            types: Arc::default(),
        }
    }

    /// How many of the files of its keyed state were written for `checkpoint` in `term`, as opposed to those
    /// that earlier checkpoints wrote.
    pub fn written_objects(&self, term: Term, checkpoint: CheckpointId) -> u64 {
        let is_new = |name: &str| {
            FileName::parse(FileKind::Segment, name)
                .is_some_and(|name| name.term == term && name.checkpoint == checkpoint)
        };
        self.keyed.parts.iter().filter(|part| is_new(&part.segment.name.0)).count() as u64
    }
}

/// A [`Statistic`] as a checkpoint holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredStatistic {
    /// Its name, which holds the unit.
    pub name: String,
    /// Its value.
    pub value: u64,
    /// What it measures.
    pub scope: Scope,
}

impl From<Statistic> for StoredStatistic {
    fn from(Statistic { name, value, scope }: Statistic) -> Self {
        Self { name: name.into(), value, scope }
    }
}

/// What a checkpoint cost one subtask. Times in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SubtaskTrace {
    /// From the trigger to the first barrier.
    pub start_delay_us: u64,
    /// From the first barrier to the last.
    pub alignment_us: u64,
    /// How long processing stood still for the snapshot itself.
    pub pause_us: u64,
    /// How long encoding and uploading took, while processing went on.
    pub write_us: u64,
    /// Bytes that it added to the store.
    pub bytes_written: u64,
    /// Bytes of all files that its state consists of.
    pub full_bytes: u64,
    /// Files that it added to the store.
    pub objects: u64,
    /// Records that its barrier has overtaken in its channels.
    #[serde(skip_serializing_if = "is_zero")]
    pub in_flight_records: u64,
    /// Bytes of what its barrier has overtaken.
    #[serde(skip_serializing_if = "is_zero")]
    pub in_flight_bytes: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What a checkpoint cost in all. Times in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CheckpointTrace {
    /// When it was triggered: milliseconds since 1970.
    pub trigger_unix_ms: u64,
    /// From the trigger to the writing of the manifest.
    pub duration_us: u64,
    /// From the last acknowledgement to the writing of the manifest.
    pub commit_us: u64,
    /// Bytes that it added to the store.
    pub bytes: u64,
    /// Bytes of all files that it consists of.
    pub full_bytes: u64,
    /// Files that it added to the store.
    pub objects: u64,
    /// Operations on the store that were retried meanwhile.
    pub retries: u64,
}
