//! A barrier on its way through a task, and the acknowledgement of its checkpoint.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use strandline_checkpoint_protocol::{DeclineReason, TaskId};
use strandline_checkpoint_storage::SubtaskSnapshot;
use strandline_state_api::{CheckpointId, Error, ErrorKind, KeyGroupRange, OperatorId, Timestamp};

use crate::barrier::{Barrier, OperatorPart};
use crate::mailbox::{Events, TaskEvent};
use crate::metrics::{Tally, micros};
use crate::sync::lock;

/// A barrier while it passes through the steps of one task.
#[derive(Debug)]
pub(crate) struct PassingBarrier {
    pub(crate) barrier: Barrier,
    start_delay: Duration,
    alignment: Duration,
    assigners: Vec<AssignerTime>,
    ack: Arc<Ack>,
}

/// The greatest timestamp that an assigner has seen.
#[derive(Debug)]
struct AssignerTime {
    /// The head of its chain, whose snapshot holds it.
    owner: OperatorId,
    /// Which assigner behind that head it is.
    index: u32,
    greatest: Option<Timestamp>,
}

impl PassingBarrier {
    /// A barrier whose first copy arrived at `first`, and that was aligned after `alignment`.
    pub(crate) fn new(
        barrier: Barrier,
        first: Instant,
        alignment: Duration,
        task: TaskId,
        events: Events,
    ) -> Self {
        let start_delay = first.saturating_duration_since(barrier.triggered);
        let state = AckState { open: 1, ..AckState::default() };
        let ack = Arc::new(Ack { task, checkpoint: barrier.checkpoint, events, state: Mutex::new(state) });
        Self { barrier, start_delay, alignment, assigners: Vec::new(), ack }
    }

    /// Returns a snapshot without state, with the delays of the barrier in its trace.
    pub(crate) fn snapshot(&self, subtask: u32, key_groups: KeyGroupRange) -> SubtaskSnapshot {
        let mut snapshot = SubtaskSnapshot::new(subtask, key_groups);
        snapshot.trace.start_delay_us = micros(self.start_delay);
        snapshot.trace.alignment_us = micros(self.alignment);
        snapshot
    }

    /// Adds the snapshot of an operator that is complete already.
    pub(crate) fn add(&mut self, operator: &OperatorId, mut snapshot: SubtaskSnapshot, pause: Duration) {
        snapshot.trace.pause_us = micros(pause);
        let (operator, statistics) = (operator.clone(), Vec::new());
        lock(&self.ack.state).parts.push(OperatorPart { operator, snapshot, statistics });
    }

    /// Adds the greatest timestamp that an assigner behind `owner` has seen.
    pub(crate) fn add_assigner(&mut self, owner: &OperatorId, index: u32, greatest: Option<Timestamp>) {
        self.assigners.push(AssignerTime { owner: owner.clone(), index, greatest });
    }

    /// Remembers a count at the barrier, for a job that goes back to it: so not at one of no checkpoint.
    pub(crate) fn cut(&self, tally: &Tally) {
        if self.barrier.live.is_none() {
            tally.cut(self.barrier.checkpoint);
        }
    }

    /// Makes the acknowledgement wait for one more part.
    pub(crate) fn expect_snapshot(&mut self) -> Arc<Ack> {
        lock(&self.ack.state).open += 1;
        Arc::clone(&self.ack)
    }

    /// Fails the checkpoint: a part of the snapshot could not be taken.
    pub(crate) fn fail(&mut self, error: Error) {
        self.ack.fail_part(error);
    }

    /// Ends the pass: all steps have seen the barrier.
    pub(crate) fn close(self) {
        self.ack.settle(|state| state.assigners = self.assigners);
    }
}

/// The acknowledgement of one checkpoint by one task: sent once the snapshots of all its operators are
/// stored, or as a refusal as soon as one fails.
#[derive(Debug)]
pub(crate) struct Ack {
    task: TaskId,
    checkpoint: CheckpointId,
    events: Events,
    state: Mutex<AckState>,
}

#[derive(Debug, Default)]
struct AckState {
    parts: Vec<OperatorPart>,
    /// What the barrier has overtaken on its way into an operator.
    overtaken: Option<(OperatorId, Overtaken)>,
    assigners: Vec<AssignerTime>,
    /// Parts that are expected, and one more until the barrier has passed the task.
    open: usize,
    failed: Option<Error>,
    sent: bool,
}

/// What a barrier has overtaken in the channels of a task.
#[derive(Debug, Default)]
pub(crate) struct Overtaken {
    /// As a [`SubtaskSnapshot`] holds it.
    pub(crate) elements: Vec<Vec<u8>>,
    pub(crate) records: u64,
}

impl AckState {
    /// Takes the parts, each with the times of the assigners behind its operator, and what was overtaken on
    /// the way into it.
    fn take_parts(&mut self) -> Vec<OperatorPart> {
        let mut parts = std::mem::take(&mut self.parts);
        if let Some((operator, Overtaken { elements, records })) = self.overtaken.take()
            && let Some(part) = parts.iter_mut().find(|part| part.operator == operator)
        {
            let trace = &mut part.snapshot.trace;
            trace.in_flight_records = records;
            trace.in_flight_bytes = elements.iter().map(|element| element.len() as u64).sum();
            part.snapshot.in_flight = elements;
        }
        for AssignerTime { owner, index, greatest } in self.assigners.drain(..) {
            if let Some(part) = parts.iter_mut().find(|part| part.operator == owner) {
                let (assigners, index) = (&mut part.snapshot.assigners, index as usize);
                assigners.resize(assigners.len().max(index + 1), None);
                assigners[index] = greatest;
            }
        }
        parts
    }
}

impl Ack {
    /// The checkpoint that it acknowledges.
    pub(crate) fn checkpoint(&self) -> CheckpointId {
        self.checkpoint
    }

    /// Adds what the barrier has overtaken on its way into `operator`: it has arrived on all channels.
    pub(crate) fn complete_overtaken(&self, operator: &OperatorId, overtaken: Overtaken) {
        self.settle(|state| state.overtaken = Some((operator.clone(), overtaken)));
    }

    /// Drops the acknowledgement: the checkpoint was aborted, or is declined otherwise.
    pub(crate) fn abandon(&self) {
        lock(&self.state).sent = true;
    }

    /// Adds a snapshot that is stored.
    pub(crate) fn complete(&self, part: OperatorPart) {
        self.settle(|state| state.parts.push(part));
    }

    /// Fails the checkpoint: a snapshot that was expected will not come.
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
                let error = match error.context("checkpoint") {
                    Some(_) => error,
                    None => error.with("checkpoint", checkpoint),
                };
                let reason = DeclineReason::SnapshotFailed;
                TaskEvent::Decline { task, checkpoint, reason, error: Some(error) }
            }
        };
        // Once the attempt is over the coordinator has dropped its end.
        self.events.send(event);
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

#[cfg(test)]
mod tests {
    use crossbeam_channel::unbounded;
    use strandline_state_api::backend::SnapshotKind;

    use super::*;

    fn barrier(checkpoint: CheckpointId, triggered: Instant) -> Barrier {
        let kind = SnapshotKind::Full;
        Barrier { checkpoint, kind, stop: false, triggered, overtake: None, live: None }
    }

    #[test]
    fn the_times_of_assigners_reach_the_snapshot_of_their_head() {
        let (events, received) = unbounded();
        let task = TaskId { vertex: 0, subtask: 3, attempt: 1 };
        let (checkpoint, triggered) = (CheckpointId::FIRST, Instant::now());
        let barrier = barrier(checkpoint, triggered);
        let [source, count] = ["source", "count"].map(|id| OperatorId::new(id).unwrap());
        let mut passing =
            PassingBarrier::new(barrier, triggered, Duration::ZERO, task, Events::Coordinator(events));
        let snapshot = passing.snapshot(3, KeyGroupRange::EMPTY);
        passing.add(&source, snapshot.clone(), Duration::ZERO);
        passing.add_assigner(&count, 1, Some(Timestamp::EPOCH));
        passing.add_assigner(&source, 0, None);
        let ack = passing.expect_snapshot();
        passing.close();
        assert!(received.is_empty(), "one snapshot is missing");
        ack.complete(OperatorPart { operator: count, snapshot, statistics: Vec::new() });
        let Ok(TaskEvent::Ack { parts, .. }) = received.try_recv() else { panic!("no acknowledgement") };
        let assigners: Vec<_> =
            parts.iter().map(|part| (part.operator.as_str(), &part.snapshot.assigners[..])).collect();
        assert_eq!(assigners, [("source", &[None][..]), ("count", &[None, Some(Timestamp::EPOCH)])]);
    }

    #[test]
    fn a_snapshot_that_never_comes_declines_the_checkpoint() {
        let (events, received) = unbounded();
        let task = TaskId { vertex: 0, subtask: 0, attempt: 1 };
        let (checkpoint, triggered) = (CheckpointId::FIRST, Instant::now());
        let barrier = barrier(checkpoint, triggered);
        let mut passing =
            PassingBarrier::new(barrier, triggered, Duration::ZERO, task, Events::Coordinator(events));
        let ack = passing.expect_snapshot();
        passing.close();
        drop(ack);
        assert!(matches!(received.try_recv(), Ok(TaskEvent::Decline { error: Some(_), .. })));
    }
}
