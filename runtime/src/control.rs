//! Commands to a running job.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crossbeam_channel::{Receiver, Sender, bounded};
use strandline_checkpoint_protocol::CheckpointKind;

use crate::request::{CheckpointRequest, Requester, job_over};
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

/// The checkpoints that were asked for and that no attempt has taken on.
#[derive(Debug, Default)]
struct Requests {
    waiting: Vec<(CheckpointKind, Requester)>,
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

    fn request(&self, kind: CheckpointKind) -> CheckpointRequest {
        let (request, requester) = CheckpointRequest::new();
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

    pub(crate) fn cancel_requested(&self) -> bool {
        self.0.cancel.load(Ordering::Acquire)
    }

    pub(crate) fn take_requests(&self) -> Vec<(CheckpointKind, Requester)> {
        std::mem::take(&mut lock(&self.0.requests).waiting)
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
        let waiting = {
            let mut requests = lock(&self.0.0.requests);
            requests.over = true;
            std::mem::take(&mut requests.waiting)
        };
        waiting.into_iter().for_each(|(_, requester)| requester.answer(Err(job_over())));
    }
}
