//! How a job runs, as opposed to what it computes.

mod checkpoints;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use strandline_state_api::{CheckpointId, OperatorId, Timestamp};

pub use self::checkpoints::{CheckpointConfig, Unaligned, WhenFinished};
use crate::event::Observer;

/// How to run a [`Pipeline`](crate::Pipeline). The default is one subtask, no checkpoints, no restarts.
///
/// ```
/// use strandline_runtime::{JobConfig, StartFrom};
///
/// let config = JobConfig::default().parallelism(4).start(StartFrom::Latest);
/// assert_eq!(config.parallelism, 4);
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct JobConfig {
    /// Into how many subtasks every source, operator and sink is split, from 1 to
    /// [`MAX_PARALLELISM`](Self::MAX_PARALLELISM).
    pub parallelism: u32,
    /// How many records a source reads at once, and a batch between threads holds at most.
    pub batch_size: usize,
    /// How many batches a channel between two subtasks holds before its writer waits.
    pub channel_capacity: usize,
    /// With parallelism 1: run keyed operators in the thread of what feeds them, without a channel.
    pub chain_keyed: bool,
    /// When and where checkpoints are taken; `None` for a job that starts over whenever it starts.
    pub checkpointing: Option<CheckpointConfig>,
    /// What happens after a failure. `None`: [`RestartStrategy::default`] with checkpoints, no restart
    /// without.
    pub restart: Option<RestartStrategy>,
    /// Where the first attempt starts.
    pub start: StartFrom,
    /// Start although the checkpoint has these, and the job does not: operators by their id, whose state is
    /// lost with the next checkpoint, and states as `operator/state`, which are kept as they are. (Flink:
    /// `allowNonRestoredState`, for all.)
    pub allow_orphans: BTreeSet<String>,
    /// Operators that had another id in the checkpoint: from the id there to that of today. Needed until a
    /// checkpoint has the new one; states are renamed by their descriptors.
    pub renamed_operators: BTreeMap<OperatorId, OperatorId>,
    /// The job whose checkpoint storage and outputs this one takes over: a job that had another name before,
    /// or the name of this job itself where its storage was moved or copied. Without this, what belongs to
    /// another job is refused.
    pub adopt: Option<String>,
    /// Receives the events of the job.
    pub observer: Option<Arc<dyn Observer>>,
    /// The clock of processing time.
    pub clock: Arc<dyn Clock>,
}

impl Default for JobConfig {
    fn default() -> Self {
        Self {
            parallelism: 1,
            batch_size: 1024,
            channel_capacity: 8,
            chain_keyed: false,
            checkpointing: None,
            restart: None,
            start: StartFrom::default(),
            allow_orphans: BTreeSet::new(),
            renamed_operators: BTreeMap::new(),
            adopt: None,
            observer: None,
            clock: Arc::new(SystemClock),
        }
    }
}

impl JobConfig {
    /// The greatest [`parallelism`](Self#structfield.parallelism): each subtask is a thread, and each exchange
    /// has a channel from every one to every other.
    pub const MAX_PARALLELISM: u32 = 1024;

    /// Whether and when barriers overtake records; off without checkpoints.
    pub(crate) fn unaligned(&self) -> Unaligned {
        self.checkpointing.as_ref().map(|checkpointing| checkpointing.unaligned).unwrap_or_default()
    }

    /// Sets [`parallelism`](Self#structfield.parallelism).
    #[must_use]
    pub fn parallelism(mut self, parallelism: u32) -> Self {
        self.parallelism = parallelism;
        self
    }

    /// Sets [`batch_size`](Self#structfield.batch_size).
    #[must_use]
    pub fn batch_size(mut self, batch_size: usize) -> Self {
        self.batch_size = batch_size;
        self
    }

    /// Sets [`channel_capacity`](Self#structfield.channel_capacity).
    #[must_use]
    pub fn channel_capacity(mut self, channel_capacity: usize) -> Self {
        self.channel_capacity = channel_capacity;
        self
    }

    /// Sets [`chain_keyed`](Self#structfield.chain_keyed).
    #[must_use]
    pub fn chain_keyed(mut self, chain_keyed: bool) -> Self {
        self.chain_keyed = chain_keyed;
        self
    }

    /// Sets [`checkpointing`](Self#structfield.checkpointing).
    #[must_use]
    pub fn checkpointing(mut self, checkpointing: impl Into<Option<CheckpointConfig>>) -> Self {
        self.checkpointing = checkpointing.into();
        self
    }

    /// Sets [`restart`](Self#structfield.restart).
    #[must_use]
    pub fn restart(mut self, restart: impl Into<Option<RestartStrategy>>) -> Self {
        self.restart = restart.into();
        self
    }

    /// Sets [`start`](Self#structfield.start).
    #[must_use]
    pub fn start(mut self, start: StartFrom) -> Self {
        self.start = start;
        self
    }

    /// Sets [`allow_orphans`](Self#structfield.allow_orphans).
    #[must_use]
    pub fn allow_orphans(mut self, allow_orphans: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.allow_orphans = allow_orphans.into_iter().map(Into::into).collect();
        self
    }

    /// Sets [`renamed_operators`](Self#structfield.renamed_operators).
    #[must_use]
    pub fn renamed_operators(
        mut self,
        renamed_operators: impl IntoIterator<Item = (OperatorId, OperatorId)>,
    ) -> Self {
        self.renamed_operators = renamed_operators.into_iter().collect();
        self
    }

    /// Sets [`adopt`](Self#structfield.adopt).
    #[must_use]
    pub fn adopt(mut self, job: impl Into<Option<String>>) -> Self {
        self.adopt = job.into();
        self
    }

    /// Sets the [`observer`](Self#structfield.observer).
    #[must_use]
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Sets the [`clock`](Self#structfield.clock).
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }
}

impl fmt::Debug for JobConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobConfig")
            .field("parallelism", &self.parallelism)
            .field("batch_size", &self.batch_size)
            .field("channel_capacity", &self.channel_capacity)
            .field("chain_keyed", &self.chain_keyed)
            .field("checkpointing", &self.checkpointing)
            .field("restart", &self.restart)
            .field("start", &self.start)
            .field("allow_orphans", &self.allow_orphans)
            .field("renamed_operators", &self.renamed_operators)
            .field("adopt", &self.adopt)
            .finish_non_exhaustive()
    }
}

/// Where the first attempt of a job starts. Later ones always start from the newest checkpoint that verifies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StartFrom {
    /// The newest checkpoint that verifies; a new job when there is none.
    #[default]
    Resume,
    /// The newest checkpoint that verifies; an error when there is none.
    Latest,
    /// This checkpoint and no other.
    Checkpoint(CheckpointId),
    /// Nothing: a new job, whatever the store holds.
    Fresh,
}

/// What happens after a failure (Flink: `restart-strategy`). Every delay is the caller's, so tests hand in
/// zero.
///
/// Whatever the strategy, an error that would come again ends the job at once: a bad record, a configuration
/// that cannot work, a directory that must not be written when the job starts; and an error of the user's
/// code at the same record as the failure before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RestartStrategy {
    /// The first failure ends the job.
    None,
    /// At most `attempts` restarts, each after `delay`.
    FixedDelay {
        /// How many restarts there may be, in the whole life of the job.
        attempts: u32,
        /// The wait before each.
        delay: Duration,
    },
    /// Restarts after delays that grow.
    ExponentialDelay {
        /// The first wait.
        initial: Duration,
        /// The longest wait.
        max: Duration,
        /// How much longer each wait is than the one before; below 1 counts as 1.
        multiplier: f64,
        /// A run of this length without a failure brings the wait back to `initial`.
        reset_after: Duration,
        /// How many restarts there may be in a row; `u32::MAX` for any number. A run of length `reset_after`
        /// starts the row over, and so does a checkpoint that was completed since the failure before.
        attempts: u32,
    },
    /// Restarts as long as failures are rare.
    FailureRate {
        /// How many failures within `interval` are too many: with this many the job ends.
        failures: u32,
        /// The length of time in which failures are counted.
        interval: Duration,
        /// The wait before each restart.
        delay: Duration,
    },
}

impl Default for RestartStrategy {
    /// Exponential: 100 ms, growing by half to 30 s, reset after a minute, without end.
    fn default() -> Self {
        Self::ExponentialDelay {
            initial: Duration::from_millis(100),
            max: Duration::from_secs(30),
            multiplier: 1.5,
            reset_after: Duration::from_secs(60),
            attempts: u32::MAX,
        }
    }
}

/// A clock of processing time.
pub trait Clock: Send + Sync {
    /// Returns the current time.
    fn now(&self) -> Timestamp;
}

/// The system clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::of_system_clock()
    }
}
