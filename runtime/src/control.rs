//! Commands to a running job.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crossbeam_channel::{Receiver, Sender, bounded};
use strandline_checkpoint_protocol::CheckpointKind;
use strandline_state_api::{OperatorId, StateKey};

use crate::live::LiveState;
use crate::look_up::LookUp;
use crate::report::CheckpointReport;
use crate::request::{CheckpointRequest, LiveStateRequest, Request, Requester, job_over, no_longer_live};
use crate::sync::lock;

/// A handle to a job that runs elsewhere, for example in the thread that called [`run`](crate::run). Clones
/// control the same job. A job that has not started yet follows its commands once it has.
#[derive(Clone, Debug)]
pub struct JobControl(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    stop: AtomicBool,
    cancel: AtomicBool,
    requests: Mutex<Requests>,
    wake: Sender<()>,
    woken: Receiver<()>,
}

/// What was asked for and no attempt has taken on.
#[derive(Debug, Default)]
struct Requests {
    waiting: Vec<(CheckpointKind, Requester<CheckpointReport>)>,
    live: Vec<Requester<LiveState>>,
    look_ups: Vec<LookUp>,
    /// The job is over: nobody will.
    over: bool,
}

impl JobControl {
    /// A handle to hand to [`run`](crate::run).
    pub fn new() -> Self {
        let (wake, woken) = bounded(1);
        let (stop, cancel) = (AtomicBool::new(false), AtomicBool::new(false));
        Self(Arc::new(Shared { stop, cancel, requests: Mutex::default(), wake, woken }))
    }

    /// Stops gracefully: sources stop reading, a final checkpoint is taken, sinks commit, the job ends. A
    /// later start resumes exactly there.
    pub fn stop(&self) {
        self.0.stop.store(true, Ordering::Release);
        self.wake();
    }

    /// Stops at once; what came after the last checkpoint is done again by a later start.
    pub fn cancel(&self) {
        self.0.cancel.store(true, Ordering::Release);
        self.wake();
    }

    /// Takes a checkpoint soon, whatever the interval. The request is answered once the checkpoint is
    /// complete, or when it is sure that it will not be; [`JobEvent`](crate::JobEvent)s report the same. A
    /// request is for one attempt: when the job restarts meanwhile, it is refused.
    pub fn trigger_checkpoint(&self) -> CheckpointRequest {
        self.request(CheckpointKind::Api)
    }

    /// Takes a savepoint soon: a checkpoint that stays until somebody removes it, and shares no file with
    /// others. It holds up no other checkpoint, and may complete after newer ones; one that is not stored
    /// when the job ends is given up. The request is answered as that of
    /// [`trigger_checkpoint`](Self::trigger_checkpoint).
    pub fn trigger_savepoint(&self) -> CheckpointRequest {
        self.request(CheckpointKind::Savepoint)
    }

    /// Takes the state of all operators as it is at one instant soon, to be read in memory; the job goes on.
    ///
    /// A barrier flows through the job as that of a checkpoint does, and its cut is as consistent, but it belongs to
    /// none: nothing is committed, sinks make nothing visible and close no file, and what checkpoints store stays
    /// what it is. In a job whose barriers [overtake records](crate::Unaligned) this one does, too: what was in flight
    /// then is in the [manifest](LiveState::manifest), and not in the states.
    ///
    /// In memory are the changes since the last checkpoint, or all state where the backend has that in a form of its
    /// own: at most [`live_bytes`](crate::CheckpointConfig::live_bytes). Requests that come while a barrier is under
    /// way share the next. The job must take checkpoints.
    ///
    /// The crate `strandline-state-reader` reads the answer, and `strandline-state-sql` queries it.
    pub fn live_state(&self) -> LiveStateRequest {
        let (request, requester) = Request::new();
        let mut requests = lock(&self.0.requests);
        if requests.over {
            drop(requests);
            requester.answer(Err(no_longer_live()));
        } else {
            requests.live.push(requester);
            drop(requests);
            self.wake();
        }
        request
    }

    /// Looks up one key of one keyed state, between two batches (Flink: queryable state). No barrier: the answer is
    /// what the subtask holds that owns the key, at some moment after the call, whatever other subtasks and operators
    /// hold at that moment; what a restart takes back may be in it. It works without checkpoints, too.
    ///
    /// The answer has the entries of that key alone: none where the state has none.
    pub fn look_up(&self, operator: &OperatorId, state: &str, key: &impl StateKey) -> LiveStateRequest {
        let mut encoded = Vec::new();
        key.encode(&mut encoded);
        self.look_up_encoded(operator, state, encoded)
    }

    /// As [`look_up`](Self::look_up), for whoever does not have the type of the key: its
    /// [bytes](StateKey::encode).
    pub fn look_up_encoded(&self, operator: &OperatorId, state: &str, key: Vec<u8>) -> LiveStateRequest {
        let (request, requester) = Request::new();
        let look_up = LookUp::new(operator.clone(), state.to_owned(), key, requester);
        let mut requests = lock(&self.0.requests);
        if requests.over {
            drop(requests);
            look_up.answer(Err(no_longer_live()));
        } else {
            requests.look_ups.push(look_up);
            drop(requests);
            self.wake();
        }
        request
    }

    fn request(&self, kind: CheckpointKind) -> CheckpointRequest {
        let (request, requester) = Request::new();
        let mut requests = lock(&self.0.requests);
        if requests.over {
            drop(requests);
            requester.answer(Err(job_over()));
        } else {
            requests.waiting.push((kind, requester));
            drop(requests);
            self.wake();
        }
        request
    }

    /// A job runs under this control until the returned value is dropped.
    pub(crate) fn running(&self) -> RunningJob {
        lock(&self.0.requests).over = false;
        RunningJob(self.clone())
    }

    fn wake(&self) {
        // When the slot is full, the job is awake already and sees this flag, too.
        let _ = self.0.wake.try_send(());
    }

    pub(crate) fn stop_requested(&self) -> bool {
        self.0.stop.load(Ordering::Acquire)
    }

    /// Returns whether [`cancel`](Self::cancel) was called.
    pub fn cancel_requested(&self) -> bool {
        self.0.cancel.load(Ordering::Acquire)
    }

    pub(crate) fn take_requests(&self) -> Vec<(CheckpointKind, Requester<CheckpointReport>)> {
        std::mem::take(&mut lock(&self.0.requests).waiting)
    }

    pub(crate) fn take_live_requests(&self) -> Vec<Requester<LiveState>> {
        std::mem::take(&mut lock(&self.0.requests).live)
    }

    pub(crate) fn take_look_ups(&self) -> Vec<LookUp> {
        std::mem::take(&mut lock(&self.0.requests).look_ups)
    }

    pub(crate) fn woken(&self) -> &Receiver<()> {
        &self.0.woken
    }
}

impl Default for JobControl {
    fn default() -> Self {
        Self::new()
    }
}

/// Refuses what is asked for after the end of the job.
#[derive(Debug)]
pub(crate) struct RunningJob(JobControl);

impl Drop for RunningJob {
    fn drop(&mut self) {
        let Requests { waiting, live, look_ups, .. } = {
            let mut requests = lock(&self.0.0.requests);
            std::mem::replace(&mut *requests, Requests { over: true, ..Requests::default() })
        };
        waiting.into_iter().for_each(|(_, requester)| requester.answer(Err(job_over())));
        live.into_iter().for_each(|requester| requester.answer(Err(no_longer_live())));
        look_ups.into_iter().for_each(|look_up| look_up.answer(Err(no_longer_live())));
    }
}
