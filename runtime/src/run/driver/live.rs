//! Live state: a barrier that belongs to no checkpoint.
//!
//! The coordinator never learns of it but for the id. So it holds up no checkpoint, counts for no failure, and is in
//! no log. One is under way at a time; whoever asks meanwhile shares the next.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use strandline_checkpoint_protocol::{CheckpointKind, CommitParts, TaskId};
use strandline_checkpoint_storage::CheckpointStart;
use strandline_state_api::backend::SnapshotKind;
use strandline_state_api::{CheckpointId, Error, ErrorKind, Result};

use super::{AttemptPhase, Driver, TaskHandle};
use crate::barrier::{Barrier, OperatorPart};
use crate::live::{LiveState, LiveStore};
use crate::mailbox::Control;
use crate::request::{Requester, no_longer_live};
use crate::run::commit::Parts;

/// Who waits for live state.
#[derive(Default)]
pub(super) struct LiveRequests {
    waiting: Vec<Requester<LiveState>>,
    open: Option<OpenBarrier>,
}

/// A barrier that tasks have not all answered.
struct OpenBarrier {
    checkpoint: CheckpointId,
    start: CheckpointStart,
    /// When it is given up.
    deadline: Option<Instant>,
    missing: BTreeSet<TaskId>,
    acks: BTreeMap<TaskId, Parts>,
    store: Arc<LiveStore>,
    requesters: Vec<Requester<LiveState>>,
}

impl LiveRequests {
    /// Whether a barrier is under way.
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Whether a task answers this barrier.
    pub(super) fn is_of(&self, checkpoint: CheckpointId) -> bool {
        self.open.as_ref().is_some_and(|open| open.checkpoint == checkpoint)
    }

    /// When the barrier under way is given up.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.open.as_ref()?.deadline
    }
}

impl Driver<'_, '_> {
    /// Takes on what was asked for, and sends a barrier if none is under way.
    pub(super) fn take_live_requests(&mut self) {
        self.live.waiting.extend(self.run.control.take_live_requests());
        self.live.waiting.retain(|requester| !requester.is_dropped());
        if self.live.waiting.is_empty() || self.live.is_open() {
            return;
        }
        let requesters = std::mem::take(&mut self.live.waiting);
        if self.final_requested {
            return answer_all(requesters, &Err(no_longer_live()));
        }
        if self.is_hosted() {
            return answer_all(requesters, &Err(self.not_on_this_host()));
        }
        let (Some(config), Some(storage)) = (&self.run.config.checkpointing, &self.committer.storage) else {
            let message = "the job takes no checkpoints, and live state is taken as those are: configure \
                           `checkpointing`";
            let error = Error::invalid(message).with("job", &self.run.job.name);
            return answer_all(requesters, &Err(error));
        };
        let checkpoint = self.coordinator.take_id();
        let at = self.run.threads.now();
        let (term, behind) = (self.committer.term(), Arc::new(storage.reader()));
        let store = Arc::new(LiveStore::new(term, checkpoint, config.live_bytes, Some(behind)));
        let clock = Arc::new(self.run.threads.clone());
        let open = OpenBarrier {
            checkpoint,
            start: CheckpointStart::now_by(clock, storage),
            deadline: at.checked_add(config.timeout),
            missing: self.tasks.iter().map(|task| task.id).collect(),
            acks: BTreeMap::new(),
            store: Arc::clone(&store),
            requesters,
        };
        // As checkpoints do: an aligned one would keep those behind it from overtaking.
        let overtake = self.run.config.unaligned().after(CheckpointKind::Api).map(|after| at + after);
        let live = Some(store);
        self.live.open = Some(open);
        let kind = SnapshotKind::View;
        self.inject(&Barrier { checkpoint, kind, stop: false, triggered: at, overtake, live });
    }

    /// Passes on what is looked up: the subtask that has the key answers, between two batches.
    pub(super) fn take_look_ups(&self) {
        for look_up in self.run.control.take_look_ups() {
            let known = &self.run.job.ids;
            if self.is_hosted() {
                look_up.answer(Err(self.not_on_this_host()));
            } else if known.contains(look_up.operator()) {
                let look_up = Arc::new(look_up);
                self.tasks.iter().for_each(|task| task.send(Control::LookUp(Arc::clone(&look_up))));
            } else {
                let known: Vec<_> = known.iter().map(ToString::to_string).collect();
                let message = format!("the job has no such operator; there are {}", known.join(", "));
                let error = Error::new(ErrorKind::NotFound, message).with("operator", look_up.operator());
                look_up.answer(Err(error));
            }
        }
    }

    /// Whether a host runs the tasks: it cuts at checkpoints alone.
    fn is_hosted(&self) -> bool {
        self.tasks.iter().any(TaskHandle::is_hosted)
    }

    fn not_on_this_host(&self) -> Error {
        let message = "there is no live state on this host: read a checkpoint of the job";
        Error::new(ErrorKind::Unsupported, message).with("job", &self.run.job.name)
    }

    /// A task has answered the barrier under way.
    pub(super) fn live_ack(&mut self, task: TaskId, parts: Parts) {
        let Some(open) = &mut self.live.open else { return };
        if open.missing.remove(&task) {
            open.acks.insert(task, parts);
        }
        if !open.missing.is_empty() {
            return;
        }
        let Some(open) = self.live.open.take() else { return };
        let OpenBarrier { checkpoint, start, acks, store, requesters, .. } = open;
        let parts = CommitParts {
            checkpoint,
            kind: CheckpointKind::Api,
            triggered_at: self.now(),
            acks,
            finished: BTreeSet::new(),
        };
        let parts = parts.map(|parts| parts.into_iter().map(OperatorPart::into_stored));
        let manifest = self.committer.layout.manifest(parts, &start, self.run.threads.now());
        let state = manifest.map(|manifest| LiveState::new(manifest, store));
        if let Ok(state) = &state {
            self.run.pins.add(state);
        }
        answer_all(requesters, &state);
        self.live_barrier_is_over();
    }

    /// A task cannot answer the barrier under way.
    pub(super) fn live_decline(&mut self, task: TaskId, error: Option<Error>) {
        let error = error.unwrap_or_else(|| {
            let message = "live state could not be taken: a newer barrier overtook its own; ask again";
            Error::new(ErrorKind::Unavailable, message).with("subtask", self.task_name(task))
        });
        self.give_up_live(&error);
    }

    /// Gives up a barrier that takes too long.
    pub(super) fn expire_live(&mut self) {
        if self.live.deadline().is_none_or(|deadline| deadline > self.run.threads.now()) {
            return;
        }
        let missing = self.live.open.iter().flat_map(|open| &open.missing).next().copied();
        let message = "live state took longer than a checkpoint may";
        let mut error = Error::new(ErrorKind::Unavailable, message);
        if let Some(task) = missing {
            error = error.with("subtask", self.task_name(task));
        }
        self.give_up_live(&error);
    }

    /// Answers with an error whoever waits for the barrier under way, and withdraws that.
    fn give_up_live(&mut self, error: &Error) {
        let Some(OpenBarrier { checkpoint, requesters, .. }) = self.live.open.take() else { return };
        self.tasks.iter().for_each(|task| task.send(Control::DropLive(checkpoint)));
        answer_all(requesters, &Err(error.clone()));
        self.live_barrier_is_over();
    }

    /// The job ends, or the attempt does: there is no live state any more.
    pub(super) fn end_live(&mut self) {
        self.give_up_live(&no_longer_live());
        answer_all(std::mem::take(&mut self.live.waiting), &Err(no_longer_live()));
    }

    fn live_barrier_is_over(&mut self) {
        if std::mem::take(&mut self.sweep_deferred) {
            self.sweep(false);
        }
        if self.phase == AttemptPhase::Running {
            self.take_live_requests();
        }
    }
}

fn answer_all(requesters: Vec<Requester<LiveState>>, answer: &Result<LiveState>) {
    for requester in requesters {
        requester.answer(answer.clone());
    }
}
