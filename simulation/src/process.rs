//! A process of a simulation: the threads that die, sleep and wake together.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use strandline_runtime::{Clock, Ready, Scheduler};
use strandline_state_api::{Result, Timestamp};

use crate::baton::Baton;
use crate::state::ProcessId;

/// A process of a simulation. All its threads die, sleep and wake together. A cheap handle.
///
/// It is the [`Scheduler`] of the job that runs in it, and the [`Clock`] of its processing time.
#[derive(Clone)]
pub struct Process {
    pub(crate) baton: Baton,
    pub(crate) id: ProcessId,
}

impl Process {
    /// A step of the calling thread: others may run, the process may sleep here, or die. Put it between any two
    /// effects of a source or sink of your own on the outer world.
    pub fn step(&self) {
        self.baton.pass();
    }

    /// Blocks the calling thread for so long, in the time of the simulation.
    pub fn sleep(&self, time: Duration) {
        self.baton.sleep(time);
    }

    /// Runs a future on the calling thread.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.baton.block_on(future)
    }

    /// Starts a thread in this process.
    ///
    /// # Errors
    /// [`Unavailable`](strandline_state_api::ErrorKind::Unavailable) when the system has no thread for it.
    pub fn spawn(&self, name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
        self.baton.spawn(self.id, name, Box::new(work))
    }

    /// Returns a random number, as the seed decides: for tokens and names that must differ.
    pub fn random(&self) -> u128 {
        self.baton.random(|random| random.u128(..))
    }

    /// Returns a number below `bound`, as the seed decides; zero for a bound of zero.
    pub fn random_below(&self, bound: u64) -> u64 {
        self.baton.random(|random| random.u64(..bound.max(1)))
    }

    /// Returns the time since the simulation began.
    pub fn elapsed(&self) -> Duration {
        self.baton.elapsed()
    }

    /// Returns the process as what steps a job.
    pub fn scheduler(&self) -> Arc<dyn Scheduler> {
        Arc::new(self.clone())
    }

    /// Adds a line to the trace. The text is part of the trace's hash: nothing that differs between two runs of
    /// one seed belongs in it.
    pub fn note(&self, text: impl FnOnce() -> String) {
        self.baton.note(text);
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Process({})", self.id)
    }
}

impl Scheduler for Process {
    fn spawn(&self, name: &str, work: Box<dyn FnOnce() + Send>) -> Result<()> {
        self.baton.spawn(self.id, name, work)
    }

    fn wait(&self, ready: Ready, deadline: Option<Instant>) {
        self.baton.wait(ready, deadline.map(|deadline| self.baton.since_base(deadline)));
    }

    fn pass(&self) {
        self.baton.pass();
    }

    fn now(&self) -> Instant {
        self.baton.instant()
    }

    fn wall(&self) -> SystemTime {
        self.baton.wall()
    }

    fn random(&self) -> u128 {
        Self::random(self)
    }

    fn process(&self) -> String {
        self.id.to_string()
    }
}

impl Clock for Process {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.baton.wall_millis())
    }
}
