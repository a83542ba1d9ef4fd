//! Deletes in the background what no checkpoint needs any more, one sweep at a time.

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use strandline_checkpoint_storage::SweepReport;
use strandline_state_api::{Error, ErrorKind, Result};
use tokio::sync::oneshot;

use super::Driver;
use crate::event::JobEvent;
use crate::sync::guarded_async;

/// The sweep under way, if there is one.
pub(super) struct Sweeper {
    done: Sender<Result<SweepReport>>,
    pub(super) results: Receiver<Result<SweepReport>>,
    /// There while one is under way, which stops when this goes.
    stop: Option<oneshot::Sender<()>>,
    /// When the one before did.
    ended: Option<Instant>,
    /// When the one under way began, and how many checkpoints have completed since.
    begun: Option<Instant>,
    completed: u32,
    /// Whether the one under way began before the final checkpoint, so that it may leave what only the one
    /// before that needed.
    last_follows: bool,
}

impl Default for Sweeper {
    fn default() -> Self {
        let (done, results) = unbounded();
        Self { done, results, stop: None, ended: None, begun: None, completed: 0, last_follows: false }
    }
}

impl Sweeper {
    fn running(&self) -> bool {
        self.stop.is_some()
    }
}

/// How long the end of an attempt waits for a sweep before it stops it. That may be anywhere, but it is
/// better done.
const SWEEP_WAIT: Duration = Duration::from_secs(5);

impl Driver<'_, '_> {
    /// Starts a sweep, unless one was just now or is under way; then the `last` one follows it.
    pub(super) fn sweep(&mut self, last: bool) {
        let Some(config) = &self.run.config.checkpointing else { return };
        let (pause, storage) = (config.cleanup_pause, config.storage.clone());
        let due = last || self.sweeper.ended.is_none_or(|ended| self.run.threads.since(ended) >= pause);
        if self.sweeper.running() {
            self.sweeper.completed += 1;
            self.sweeper.last_follows |= last;
            return;
        }
        if !due {
            return;
        }
        if self.live.is_open() && !last {
            self.sweep_deferred = true;
            return;
        }
        let pinned = self.run.pins.segments();
        let (stop, stopped) = oneshot::channel();
        self.sweeper.stop = Some(stop);
        (self.sweeper.begun, self.sweeper.completed) = (Some(self.run.threads.now()), 0);
        let done = self.sweeper.done.clone();
        let sweep = async move {
            let ended = || Error::new(ErrorKind::Unavailable, "the job ended before the sweep did");
            tokio::select! {
                biased;
                swept = storage.sweep_but(&pinned) => swept,
                // Also when the driver that could stop it is gone.
                _ = stopped => Err(ended()),
            }
        };
        let spawned = self.run.threads.spawn_future("sweep", async move {
            let swept = guarded_async(sweep).await;
            // When the job has ended meanwhile, the driver has dropped its end.
            let _ = done.send(swept);
        });
        if let Err(error) = spawned {
            self.swept(Err(error));
        }
    }

    /// Lets periodic checkpoints wait while a sweep cannot keep up with them.
    pub(super) fn hold_back(&mut self) {
        let Some(config) = &self.run.config.checkpointing else { return };
        let is_late = self.sweeper.running() && self.sweeper.completed >= config.cleanup_lag;
        // Not for ever: what hangs must not keep the job from its checkpoints.
        let hangs = self.sweeper.begun.is_some_and(|begun| self.run.threads.since(begun) >= config.timeout);
        let actions = self.coordinator.hold(self.now(), is_late && !hangs);
        self.act(actions);
    }

    /// Waits for the sweep under way and for the last one that follows it, and stops them if that takes too
    /// long: none must go on when the runtime is gone.
    pub(super) fn end_sweep(&mut self) {
        let threads = self.run.threads.clone();
        let deadline = threads.now() + SWEEP_WAIT;
        while self.sweeper.running() {
            let mut swept = threads.recv(&self.sweeper.results, Some(deadline));
            if swept.is_err() {
                self.sweeper.stop = None;
                self.sweeper.last_follows = false;
                swept = threads.recv_within(&self.sweeper.results, Some(SWEEP_WAIT));
            }
            match swept {
                Ok(swept) => self.swept(swept),
                Err(_) => break,
            }
        }
    }

    pub(super) fn swept(&mut self, swept: Result<SweepReport>) {
        self.sweeper.stop = None;
        (self.sweeper.ended, self.sweeper.begun) = (Some(self.run.threads.now()), None);
        let (removed, error) = match swept {
            Ok(report) => (report.deleted.len() as u64, None),
            Err(error) => (0, Some(error)),
        };
        if removed > 0 || error.is_some() {
            self.run.notify(&JobEvent::Cleaned { removed, error });
        }
        if std::mem::take(&mut self.sweeper.last_follows) {
            self.sweep(true);
        }
    }
}
