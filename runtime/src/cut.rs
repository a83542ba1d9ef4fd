//! A barrier on its way through a task, and the acknowledgement that comes of it.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use strandline_checkpoint_protocol::{DeclineReason, TaskId};
use strandline_checkpoint_storage::SubtaskSnapshot;
use strandline_state_api::{
    CheckpointId, Error, ErrorKind, KeyGroupRange, OperatorId, OperatorStateEntry, Redistribution,
};

use crate::channel::Barrier;
use crate::mailbox::TaskEvent;
use crate::metrics::micros;
use crate::reserved::{ASSIGNERS, encode_assigner};
use crate::sync::lock;

/// A barrier while it passes through the steps of one task.
#[derive(Debug)]
pub(crate) struct Cut {
    pub(crate) barrier: Barrier,
    start_delay: Duration,
    alignment: Duration,
    assigners: Vec<(OperatorId, Vec<u8>)>,
    ack: Arc<Ack>,
}

impl Cut {
    /// A barrier that is aligned now; the first one came at `first`.
    pub(crate) fn new(barrier: Barrier, first: Instant, task: TaskId, events: Sender<TaskEvent>) -> Self {
        let start_delay = first.saturating_duration_since(barrier.triggered);
        let state = AckState { parts: Vec::new(), open: 1, failed: None, sent: false };
        let ack = Arc::new(Ack { task, checkpoint: barrier.checkpoint, events, state: Mutex::new(state) });
        Self { barrier, start_delay, alignment: first.elapsed(), assigners: Vec::new(), ack }
    }

    /// An empty snapshot, with what is known of its costs.
    pub(crate) fn snapshot(&self, subtask: u32, key_groups: KeyGroupRange) -> SubtaskSnapshot {
        let mut snapshot = SubtaskSnapshot::new(subtask, key_groups);
        snapshot.trace.start_delay_us = micros(self.start_delay);
        snapshot.trace.alignment_us = micros(self.alignment);
        snapshot
    }

    /// The snapshot of an operator that is complete already.
    pub(crate) fn add(&mut self, operator: &OperatorId, mut snapshot: SubtaskSnapshot, pause: Duration) {
        snapshot.trace.pause_us = micros(pause);
        lock(&self.ack.state).parts.push((operator.clone(), snapshot));
    }

    /// How far an assigner of timestamps behind `owner` came.
    pub(crate) fn assigner(&mut self, owner: &OperatorId, place: u32, greatest: i64) {
        self.assigners.push((owner.clone(), encode_assigner(place, greatest)));
    }

    /// A snapshot follows later; the acknowledgement waits for it.
    pub(crate) fn owed(&mut self) -> Arc<Ack> {
        lock(&self.ack.state).open += 1;
        Arc::clone(&self.ack)
    }

    /// A part of the snapshot could not be taken.
    pub(crate) fn fail(&mut self, error: Error) {
        self.ack.fail_part(error);
    }

    /// The barrier has passed all steps.
    pub(crate) fn close(self) {
        self.ack.settle(|state| {
            for (owner, element) in self.assigners {
                state.extra(owner, element);
            }
        });
    }
}

/// The acknowledgement of one checkpoint by one task: sent once all its operators have their snapshots stored, or as
/// a refusal as soon as one cannot.
#[derive(Debug)]
pub(crate) struct Ack {
    task: TaskId,
    checkpoint: CheckpointId,
    events: Sender<TaskEvent>,
    state: Mutex<AckState>,
}

#[derive(Debug)]
struct AckState {
    parts: Vec<(OperatorId, SubtaskSnapshot)>,
    /// Operators that owe a snapshot, and one for the task until the barrier has passed it.
    open: usize,
    failed: Option<Error>,
    sent: bool,
}

impl AckState {
    /// Adds to the operator state of an operator under [`ASSIGNERS`]; the part may follow later.
    fn extra(&mut self, owner: OperatorId, element: Vec<u8>) {
        let at = self.parts.iter().position(|(operator, part)| *operator == owner && is_extra(part));
        let at = at.unwrap_or_else(|| {
            let mut part = SubtaskSnapshot::new(u32::MAX, KeyGroupRange::EMPTY);
            part.operator_state.push(OperatorStateEntry {
                name: ASSIGNERS.to_owned(),
                redistribution: Redistribution::Union,
                codec: "bytes".to_owned(),
                schema_version: 1,
                elements: Vec::new(),
            });
            self.parts.push((owner, part));
            self.parts.len() - 1
        });
        self.parts[at].1.operator_state[0].elements.push(element);
    }

    /// The parts, with what [`extra`](Self::extra) added moved to where it belongs.
    fn take_parts(&mut self) -> Vec<(OperatorId, SubtaskSnapshot)> {
        let (extra, mut parts): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.parts).into_iter().partition(|(_, part)| is_extra(part));
        for (owner, part) in extra {
            if let Some((_, of)) = parts.iter_mut().find(|(operator, _)| *operator == owner) {
                of.operator_state.extend(part.operator_state);
            }
        }
        parts
    }
}

/// Whether a part only carries what belongs to another one.
fn is_extra(part: &SubtaskSnapshot) -> bool {
    part.subtask == u32::MAX
}

impl Ack {
    /// The snapshot of `operator` is stored.
    pub(crate) fn complete(&self, operator: &OperatorId, snapshot: SubtaskSnapshot) {
        self.settle(|state| state.parts.push((operator.clone(), snapshot)));
    }

    /// A snapshot that was owed will not come.
    pub(crate) fn fail(&self, error: Error) {
        self.fail_part(error);
        self.settle(|_| {});
    }

    fn fail_part(&self, error: Error) {
        lock(&self.state).failed.get_or_insert(error);
    }

    fn settle(&self, change: impl FnOnce(&mut AckState)) {
        let mut state = lock(&self.state);
        change(&mut state);
        state.open = state.open.saturating_sub(1);
        if state.sent || (state.open > 0 && state.failed.is_none()) {
            return;
        }
        self.send(&mut state);
    }

    fn send(&self, state: &mut AckState) {
        state.sent = true;
        let (task, checkpoint) = (self.task, self.checkpoint);
        let event = match state.failed.take() {
            None => TaskEvent::Ack { task, checkpoint, parts: state.take_parts() },
            Some(error) => {
                let error = error.with("checkpoint", checkpoint);
                TaskEvent::Decline {
                    task,
                    checkpoint,
                    reason: DeclineReason::SnapshotFailed,
                    error: Some(error),
                }
            }
        };
        // Nobody listens any more once the attempt is over.
        let _ = self.events.send(event);
    }
}

impl Drop for Ack {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        if !state.sent {
            let error = Error::new(ErrorKind::Internal, "the writer of a snapshot is gone");
            state.failed.get_or_insert(error);
            drop(state);
            self.settle(|_| {});
        }
    }
}
