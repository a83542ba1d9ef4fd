//! When and where checkpoints are taken.

use std::num::NonZeroUsize;
use std::time::Duration;

use strandline_checkpoint_storage::{CheckpointKind, Depth, OnDamage, Storage};
use strandline_state_api::backend::SnapshotKind;

/// When and where checkpoints are taken.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CheckpointConfig {
    /// The storage of this job, see [`Storage::open`]. One job for each storage.
    pub storage: Storage,
    /// Time from one periodic checkpoint to the next; `None` for checkpoints on demand (and at the end) only.
    pub interval: Option<Duration>,
    /// Time from the start of an attempt to its first periodic checkpoint; `None` for a random part of the
    /// interval, so that an attempt which fails within each interval gets on all the same, and jobs that
    /// start together do not checkpoint in step.
    pub initial_delay: Option<Duration>,
    /// The least time between the end of one checkpoint and the start of a periodic one.
    pub min_pause: Duration,
    /// How long a checkpoint may take until its last acknowledgement.
    pub timeout: Duration,
    /// Whether barriers may overtake records that wait in channels.
    pub unaligned: Unaligned,
    /// How many may be under way at once.
    pub max_concurrent: u32,
    /// How many may fail in a row before the job restarts; `u32::MAX` for any number.
    pub tolerable_failures: u32,
    /// How many completed checkpoints are kept, savepoints not counted.
    pub retained: NonZeroUsize,
    /// Whether each checkpoint writes only what changed, or everything. Has no effect on savepoints;
    /// [`SnapshotKind::Savepoint`] and [`SnapshotKind::View`] count as [`SnapshotKind::Full`].
    pub kind: SnapshotKind,
    /// How closely the files of a checkpoint are verified before it is restored. Less than all bytes makes
    /// the start of a job with much state sooner; damage then fails the restore instead of falling back.
    pub verify: Depth,
    /// What a start does when the newest checkpoint is damaged.
    pub on_damage: OnDamage,
    /// Time from one periodic checkpoint to the next while a source [has a
    /// backlog](crate::source::Source::has_backlog); `None` for the same as otherwise, zero for none
    /// meanwhile (Flink: `execution.checkpointing.interval-during-backlog`).
    pub backlog_interval: Option<Duration>,
    /// How long the commit of a checkpoint may take before it is given up. Whether the checkpoint exists is
    /// open then, so the attempt fails, and the next one finds out. A job that is to end waits no longer,
    /// either.
    pub commit_timeout: Duration,
    /// How many requests for checkpoints may wait at once.
    pub max_requests: usize,
    /// The least time between two clean-ups of what no checkpoint needs any more.
    pub cleanup_pause: Duration,
    /// How many checkpoints may complete during one clean-up before periodic ones wait for its end, at most
    /// `timeout`. So a store that deletes slowly does not fill up.
    pub cleanup_lag: u32,
    /// How many bytes of memory one [live state](crate::JobControl::live_state) may take. One that would take more is
    /// given up with an error, and the job goes on.
    pub live_bytes: u64,
    /// What becomes of the checkpoints of a job that has finished.
    pub when_finished: WhenFinished,
    /// How long a run that was overtaken by another waits at most for the first checkpoint of that, before it
    /// returns its error. Whoever restarts it at once ends the other in turn: without a wait, two supervisors
    /// of one job would keep each other from getting anywhere.
    pub give_way: Duration,
}

/// What becomes of the checkpoints of a job whose input has ended (Flink:
/// `execution.checkpointing.externalized-checkpoint-retention`). Those of a job that is stopped or cancelled
/// stay in any case: it may resume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFinished {
    /// They stay as long as they are retained: somebody may read their state.
    #[default]
    Keep,
    /// All but savepoints are removed. What remains is a manifest without keyed state and the end of the
    /// commit log, by which a later start learns that the job has finished.
    Remove,
}

/// Whether the barriers of checkpoints may overtake records that wait in channels (Flink:
/// `execution.checkpointing.unaligned.enabled`, `…aligned-checkpoint-timeout`).
///
/// An aligned barrier waits behind all records that were sent before it: where a job falls behind, for as
/// long as that takes. One that overtakes them waits for nothing but the batch that each task is at, and what
/// it overtook becomes part of the checkpoint: a restart processes it first, at any parallelism. That costs
/// bytes in each checkpoint; keyed streams, and streams that several chains bring to one sink, must have a
/// codec for them ([`KeyedStream::codec`](crate::KeyedStream::codec),
/// [`Stream::codec`](crate::Stream::codec)).
///
/// Savepoints and the final checkpoint are aligned whatever this is. So are the channels of a broadcast side:
/// its copies would differ where they are overtaken. A barrier does not overtake that of an older savepoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unaligned {
    /// Barriers wait.
    #[default]
    Off,
    /// Barriers overtake records at once.
    On,
    /// Barriers wait at first, and overtake records where the checkpoint has not passed a task so long after
    /// its trigger: nothing is in flight as long as a job keeps up.
    After(Duration),
}

impl Unaligned {
    /// How long after its trigger a checkpoint of a kind overtakes records; `None` if it never does.
    pub(crate) fn after(self, kind: CheckpointKind) -> Option<Duration> {
        match (self, kind) {
            (Self::Off, _) | (_, CheckpointKind::Savepoint | CheckpointKind::Final) => None,
            (Self::On, _) => Some(Duration::ZERO),
            (Self::After(timeout), _) => Some(timeout),
        }
    }
}

impl CheckpointConfig {
    /// Incremental checkpoints in `storage` every `interval`, two of them kept.
    pub fn new(storage: Storage, interval: Duration) -> Self {
        Self {
            storage,
            interval: Some(interval),
            initial_delay: None,
            min_pause: Duration::ZERO,
            timeout: Duration::from_secs(600),
            unaligned: Unaligned::default(),
            max_concurrent: 1,
            tolerable_failures: 3,
            retained: NonZeroUsize::MIN.saturating_add(1),
            kind: SnapshotKind::Incremental,
            verify: Depth::default(),
            on_damage: OnDamage::default(),
            backlog_interval: None,
            commit_timeout: Duration::from_secs(600),
            max_requests: 1_000,
            cleanup_pause: Duration::from_secs(1),
            cleanup_lag: 16,
            live_bytes: 1 << 30,
            when_finished: WhenFinished::default(),
            give_way: Duration::from_secs(10),
        }
    }

    /// Sets [`interval`](Self#structfield.interval).
    #[must_use]
    pub fn interval(mut self, interval: impl Into<Option<Duration>>) -> Self {
        self.interval = interval.into();
        self
    }

    /// Sets [`initial_delay`](Self#structfield.initial_delay).
    #[must_use]
    pub fn initial_delay(mut self, initial_delay: impl Into<Option<Duration>>) -> Self {
        self.initial_delay = initial_delay.into();
        self
    }

    /// Sets [`min_pause`](Self#structfield.min_pause).
    #[must_use]
    pub fn min_pause(mut self, min_pause: Duration) -> Self {
        self.min_pause = min_pause;
        self
    }

    /// Sets [`timeout`](Self#structfield.timeout).
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets [`unaligned`](Self#structfield.unaligned).
    #[must_use]
    pub fn unaligned(mut self, unaligned: Unaligned) -> Self {
        self.unaligned = unaligned;
        self
    }

    /// Sets [`max_concurrent`](Self#structfield.max_concurrent).
    #[must_use]
    pub fn max_concurrent(mut self, max_concurrent: u32) -> Self {
        self.max_concurrent = max_concurrent;
        self
    }

    /// Sets [`tolerable_failures`](Self#structfield.tolerable_failures).
    #[must_use]
    pub fn tolerable_failures(mut self, tolerable_failures: u32) -> Self {
        self.tolerable_failures = tolerable_failures;
        self
    }

    /// Sets [`retained`](Self#structfield.retained).
    #[must_use]
    pub fn retained(mut self, retained: NonZeroUsize) -> Self {
        self.retained = retained;
        self
    }

    /// Sets [`kind`](Self#structfield.kind).
    #[must_use]
    pub fn kind(mut self, kind: SnapshotKind) -> Self {
        self.kind = kind;
        self
    }

    /// Sets [`verify`](Self#structfield.verify).
    #[must_use]
    pub fn verify(mut self, verify: Depth) -> Self {
        self.verify = verify;
        self
    }

    /// Sets [`on_damage`](Self#structfield.on_damage).
    #[must_use]
    pub fn on_damage(mut self, on_damage: OnDamage) -> Self {
        self.on_damage = on_damage;
        self
    }

    /// Sets [`backlog_interval`](Self#structfield.backlog_interval).
    #[must_use]
    pub fn backlog_interval(mut self, backlog_interval: impl Into<Option<Duration>>) -> Self {
        self.backlog_interval = backlog_interval.into();
        self
    }

    /// Sets [`commit_timeout`](Self#structfield.commit_timeout).
    #[must_use]
    pub fn commit_timeout(mut self, commit_timeout: Duration) -> Self {
        self.commit_timeout = commit_timeout;
        self
    }

    /// Sets [`max_requests`](Self#structfield.max_requests).
    #[must_use]
    pub fn max_requests(mut self, max_requests: usize) -> Self {
        self.max_requests = max_requests;
        self
    }

    /// Sets [`cleanup_pause`](Self#structfield.cleanup_pause).
    #[must_use]
    pub fn cleanup_pause(mut self, cleanup_pause: Duration) -> Self {
        self.cleanup_pause = cleanup_pause;
        self
    }

    /// Sets [`cleanup_lag`](Self#structfield.cleanup_lag).
    #[must_use]
    pub fn cleanup_lag(mut self, cleanup_lag: u32) -> Self {
        self.cleanup_lag = cleanup_lag;
        self
    }

    /// Sets [`live_bytes`](Self#structfield.live_bytes).
    #[must_use]
    pub fn live_bytes(mut self, live_bytes: u64) -> Self {
        self.live_bytes = live_bytes;
        self
    }

    /// Sets [`when_finished`](Self#structfield.when_finished).
    #[must_use]
    pub fn when_finished(mut self, when_finished: WhenFinished) -> Self {
        self.when_finished = when_finished;
        self
    }

    /// Sets [`give_way`](Self#structfield.give_way).
    #[must_use]
    pub fn give_way(mut self, give_way: Duration) -> Self {
        self.give_way = give_way;
        self
    }
}
