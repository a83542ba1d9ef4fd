//! Commands to a running job.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};

/// A handle to a job that runs elsewhere, for example in the thread that called [`run`](crate::run). Clones
/// control the same job. A job that has not started yet follows its commands once it has.
#[derive(Clone, Debug)]
pub struct JobControl(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    stop: AtomicBool,
    cancel: AtomicBool,
    triggers: AtomicU32,
    wake: Sender<()>,
    woken: Receiver<()>,
}

impl JobControl {
    /// A handle to hand to [`run`](crate::run).
    pub fn new() -> Self {
        let (wake, woken) = bounded(1);
        let (stop, cancel) = (AtomicBool::new(false), AtomicBool::new(false));
        Self(Arc::new(Shared { stop, cancel, triggers: AtomicU32::new(0), wake, woken }))
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

    /// Takes a checkpoint soon, whatever the interval. [`JobEvent`](crate::JobEvent)s report the outcome.
    pub fn trigger_checkpoint(&self) {
        self.0.triggers.fetch_add(1, Ordering::AcqRel);
        self.wake();
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

    pub(crate) fn take_triggers(&self) -> u32 {
        self.0.triggers.swap(0, Ordering::AcqRel)
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
