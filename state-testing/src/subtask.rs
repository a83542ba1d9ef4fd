//! One subtask of a harness: its operator with the backend, and the second phase of its snapshots.

use strandline_snapshot_format::MemorySegments;
use strandline_state_api::backend::{BackendFactory, Progress, SnapshotKind, SnapshotSource, SnapshotWriter};
use strandline_state_api::host::{KeyedProcess, OperatorStateEntry};
use strandline_state_api::snapshot::KeyedSnapshot;
use strandline_state_api::{CheckpointId, Error, ErrorKind, KeyGroupRange, Operator, OperatorId, Result};

use crate::wait::block_on;

/// The number of entries that a snapshot advances by in one step.
const STEP: usize = 1 << 16;

/// The operator of a subtask with its backend.
pub(crate) type Process<F, O> = KeyedProcess<O, <F as BackendFactory>::Backend<<O as Operator>::Key>>;

type Writer<F, O> = <<F as BackendFactory>::Backend<<O as Operator>::Key> as SnapshotSource>::Writer;

pub(crate) struct Subtask<F: BackendFactory, O: Operator> {
    pub(crate) number: u32,
    pub(crate) key_groups: KeyGroupRange,
    pub(crate) process: Process<F, O>,
    pub(crate) writer: Writer<F, O>,
}

/// The state of one subtask in a snapshot.
#[derive(Clone, Debug)]
pub(crate) struct SubtaskState {
    pub(crate) key_groups: KeyGroupRange,
    pub(crate) keyed: KeyedSnapshot,
    pub(crate) operator_state: Vec<OperatorStateEntry>,
}

impl<F: BackendFactory, O: Operator> Subtask<F, O> {
    /// Adds operator and subtask to an error.
    pub(crate) fn located(&self, error: Error, operator: &OperatorId) -> Error {
        located(error, operator, self.number)
    }

    /// Takes a snapshot from the barrier to the stored files.
    pub(crate) fn snapshot(
        &mut self,
        checkpoint: CheckpointId,
        kind: SnapshotKind,
        store: &MemorySegments,
    ) -> Result<SubtaskState> {
        let operator_state = self.process.operator_state().snapshot()?;
        let backend = self.process.backend_mut();
        backend.prepare(checkpoint, kind)?;
        let prepared = loop {
            match backend.advance(STEP)? {
                Progress::Ready(_, prepared) => break prepared,
                Progress::More => {}
                Progress::Idle => {
                    let message = "the backend lost a snapshot that was under way";
                    return Err(Error::new(ErrorKind::Internal, message));
                }
            }
        };
        let keyed = block_on(self.writer.commit(prepared, store))?;
        Ok(SubtaskState { key_groups: self.key_groups, keyed, operator_state })
    }
}

/// Adds operator and subtask to an error, unless the backend has added them.
pub(crate) fn located(error: Error, operator: &OperatorId, subtask: u32) -> Error {
    error.with("operator", operator).with("subtask", subtask)
}
