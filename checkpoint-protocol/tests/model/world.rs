//! The state of the modelled world: real machines, and around them the plainest stand-ins for what they run
//! among.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use strandline_checkpoint_protocol::{
    Aligner, CommitPermit, Coordinator, LogClient, LogEntry, LogStep, Millis, TaskId, Term,
};
use strandline_state_api::CheckpointId;

use crate::outputs::{Operation, Output, Rule};
use crate::overtaking::Barriers;

/// How many sources there are; each feeds one channel of the one sink.
pub(crate) const SOURCES: usize = 2;

/// What may happen how often. What is left is part of the state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Budget {
    /// Lives of coordinators.
    pub(crate) starts: u8,
    /// Crashes of a coordinator together with its tasks.
    pub(crate) crashes: u8,
    /// Failures of a task, which restart the job under the same coordinator.
    pub(crate) task_failures: u8,
    /// Requested checkpoints.
    pub(crate) requests: u8,
    /// Timeouts.
    pub(crate) expiries: u8,
    /// Messages that never arrive.
    pub(crate) losses: u8,
    /// Messages that arrive again.
    pub(crate) duplicates: u8,
    /// Creates whose answer is lost; they happen before, after, or never.
    pub(crate) lost_answers: u8,
    /// Manifests that cannot be written.
    pub(crate) failed_manifests: u8,
    /// Slots deleted below the floor.
    pub(crate) deletions: u8,
    /// Starts from a checkpoint before the newest.
    pub(crate) fallbacks: u8,
    /// Snapshots that a source cannot take.
    pub(crate) declines: u8,
    /// Requested savepoints.
    pub(crate) savepoints: u8,
    /// Alignments that time out, after which barriers overtake records.
    pub(crate) overdue: u8,
}

impl Budget {
    /// Nothing may happen.
    pub(crate) const NONE: Self = Self {
        starts: 0,
        crashes: 0,
        task_failures: 0,
        requests: 0,
        expiries: 0,
        losses: 0,
        duplicates: 0,
        lost_answers: 0,
        failed_manifests: 0,
        deletions: 0,
        fallbacks: 0,
        declines: 0,
        savepoints: 0,
        overdue: 0,
    };
}

impl World {
    /// The slots that a sweep may delete now: those below the floor but for the two highest, in ascending
    /// order. What came too late lies below them and may go at any time.
    pub(crate) fn deletable(&self) -> Vec<u64> {
        let floor = self.store.values().next_back().map_or(0, |tail| tail.floor);
        let end = self.store.keys().rev().nth(1).map_or(0, |second| floor.min(*second));
        let (mut slots, mut is_first) = (Vec::new(), true);
        for (slot, entry) in self.store.range(..end) {
            let is_true = self.truth.get(slot) == Some(entry);
            if !is_true || is_first {
                slots.push(*slot);
            }
            is_first &= !is_true;
        }
        slots
    }
}

/// Everything there is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct World {
    /// Two places where a coordinator can run; both at once is what the log must cope with.
    pub(crate) nodes: [Node; 2],
    /// What the store holds.
    pub(crate) store: BTreeMap<u64, LogEntry>,
    /// Whether slot 0 was deleted, as the mark in the store shows.
    pub(crate) is_cut: bool,
    /// Per slot, the first entry that was ever created there: the log as it would be without deletions.
    pub(crate) truth: BTreeMap<u64, LogEntry>,
    /// Creates that are still on their way to the store.
    pub(crate) delayed: Vec<LogEntry>,
    /// Manifests that were written, by name.
    pub(crate) manifests: BTreeMap<String, Cut>,
    /// The results of the job.
    pub(crate) output: Output,
    /// Messages under way between tasks and coordinators, in no order.
    pub(crate) mail: BTreeSet<Mail>,
    /// Checkpoints of which tasks were notified that they never complete.
    pub(crate) told_aborted: BTreeSet<(Term, CheckpointId)>,
    pub(crate) left: Budget,
    pub(crate) seen: Seen,
    /// A rule that was broken on the way.
    pub(crate) broken: Option<&'static str>,
    pub(crate) lives: u8,
}

/// What happened at least once on the way here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Seen {
    pub(crate) fenced: bool,
    pub(crate) aborted: bool,
    pub(crate) ghost: bool,
    /// A coordinator found that its create, or what it had read before it, was no part of the log.
    pub(crate) unconfirmed: bool,
    pub(crate) settled_as_ours: bool,
    pub(crate) late_ack: bool,
    /// A checkpoint completed in a second life of the job, as coordinator or as tasks.
    pub(crate) completed_after_restart: bool,
    pub(crate) completed_after_abort: bool,
    pub(crate) completed_with_finished: bool,
    pub(crate) late_savepoint: bool,
    /// A checkpoint completed with records that its barrier had overtaken.
    pub(crate) overtaken: bool,
    /// A job resumed with such records.
    pub(crate) restored_overtaken: bool,
    /// A job fell back although the newest checkpoint had given up others.
    pub(crate) fell_back_twice: bool,
    /// A file of results was removed.
    pub(crate) swept: bool,
    /// A process that had been overtaken did not find what it wanted to commit.
    pub(crate) stale_sink: bool,
}

/// A place for a coordinator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Node {
    #[default]
    Off,
    /// Claiming its term.
    Starting(Box<Claim>),
    Running(Box<Job>),
}

/// A coordinator on the way to its term.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Claim {
    pub(crate) client: LogClient,
    pub(crate) question: LogStep,
}

/// A coordinator that has its term, and the tasks that it has deployed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Job {
    pub(crate) term: Term,
    pub(crate) coordinator: Coordinator<Snap>,
    pub(crate) client: LogClient,
    pub(crate) question: Option<LogStep>,
    /// The permit whose manifest is being written.
    pub(crate) permit: Option<CommitPermit<Snap>>,
    /// None between the failure of a task and the restart.
    pub(crate) tasks: Option<Tasks>,
    pub(crate) attempt: u64,
    pub(crate) rule: Rule,
    pub(crate) barriers: Barriers,
    pub(crate) hears_aborts: bool,
    /// Whether it has chosen what to resume from: this checkpoint, in this manifest.
    pub(crate) resumed: bool,
    pub(crate) from: Option<CheckpointId>,
    pub(crate) parent: Option<String>,
    /// What it is about to do to the output, in this order.
    pub(crate) operations: VecDeque<Operation>,
    /// Whether it has removed what its first checkpoint showed to be dead.
    pub(crate) swept: bool,
}

/// The tasks of one attempt and the channels between them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Tasks {
    pub(crate) attempt: u64,
    pub(crate) sources: [Source; SOURCES],
    pub(crate) channels: [VecDeque<Item>; SOURCES],
    pub(crate) sink: Sink,
    /// Checkpoints whose barriers overtake nothing, as bits: savepoints.
    pub(crate) aligned: u128,
    /// The sink ignored a barrier although nothing had ended its checkpoint.
    pub(crate) is_deaf: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Source {
    pub(crate) emitted: u8,
    pub(crate) last_barrier: Option<CheckpointId>,
    pub(crate) ended: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Sink {
    pub(crate) received: [u8; SOURCES],
    /// Whether it writes files.
    pub(crate) is_writing: bool,
    /// What it had received when it closed its last file.
    pub(crate) written: [u8; SOURCES],
    /// The checkpoints whose files are not visible yet, as bits.
    pub(crate) pending: u128,
    pub(crate) aligner: Aligner,
    pub(crate) barriers: Barriers,
    /// How many items of each channel it has noticed, of those that it has not read.
    pub(crate) noticed: [u8; SOURCES],
    /// The checkpoints whose barriers have arrived on each channel, as bits, where barriers may overtake.
    pub(crate) arrived: [u128; SOURCES],
    /// What it acknowledges once it is complete: checkpoints whose barriers have overtaken records.
    pub(crate) recordings: BTreeMap<CheckpointId, Recorded>,
    /// The time: 1 once an alignment is overdue.
    pub(crate) now: Millis,
    pub(crate) last_barrier: Option<CheckpointId>,
    /// The newest checkpoint of which it has read a barrier, where barriers are aligned.
    pub(crate) newest_read: Option<CheckpointId>,
    /// The checkpoints that it was notified will not complete, as bits.
    pub(crate) told_aborted: u128,
    pub(crate) ended: bool,
}

/// What a channel carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Item {
    Record,
    Barrier(CheckpointId),
    End,
}

/// The state of the sink at a cut, with what the barrier has overtaken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Recorded {
    pub(crate) received: [u8; SOURCES],
    pub(crate) overtaken: [u8; SOURCES],
    /// The checkpoints whose files are yet to be committed, as bits.
    pub(crate) pending: u128,
}

/// What a task's state is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Snap {
    Emitted(u8),
    Received(Recorded),
}

/// The contents of a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Cut {
    /// Per source, what it had emitted; None when it had ended.
    pub(crate) emitted: [Option<u8>; SOURCES],
    /// What the sink had received per channel; None when it had ended.
    pub(crate) received: Option<[u8; SOURCES]>,
    /// Per channel, the records that the barrier had overtaken.
    pub(crate) overtaken: [u8; SOURCES],
    /// The checkpoints of this term whose files are yet to be committed.
    pub(crate) pending: u128,
    pub(crate) term: Term,
    pub(crate) checkpoint: CheckpointId,
    /// What its term had restored, and the manifest of that.
    pub(crate) restored: Option<CheckpointId>,
    pub(crate) parent: Option<String>,
}

/// A message that may be late, lost or repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Mail {
    Trigger(TaskId, CheckpointId),
    Ack(TaskId, CheckpointId, Snap),
    Finished(TaskId, Option<CheckpointId>),
    /// A task cannot take part: a newer checkpoint overtook this one, or else its snapshot failed.
    Decline {
        task: TaskId,
        checkpoint: CheckpointId,
        is_superseded: bool,
    },
    /// The coordinator has aborted a checkpoint.
    Aborted(TaskId, CheckpointId),
}

impl Mail {
    /// Whom it is for or from.
    pub(crate) fn task(self) -> TaskId {
        let (Self::Trigger(task, _)
        | Self::Ack(task, ..)
        | Self::Finished(task, _)
        | Self::Decline { task, .. }
        | Self::Aborted(task, _)) = self;
        task
    }
}

pub(crate) fn source_id(source: usize, attempt: u64) -> TaskId {
    TaskId::new(0, source as u32).attempt(attempt)
}

pub(crate) fn sink_id(attempt: u64) -> TaskId {
    TaskId::new(1, 0).attempt(attempt)
}

impl Tasks {
    /// The tasks as they were at `cut`.
    pub(crate) fn restore(cut: Option<&Cut>, attempt: u64, rule: Rule, barriers: Barriers) -> Self {
        let emitted = cut.map_or([Some(0); SOURCES], |cut| cut.emitted);
        let received = cut.map_or(Some([0; SOURCES]), |cut| cut.received);
        let source = |emitted: Option<u8>| Source {
            emitted: emitted.unwrap_or(0),
            last_barrier: None,
            ended: emitted.is_none(),
        };
        let mut aligner = Aligner::new(SOURCES);
        if barriers != Barriers::Aligned {
            (0..SOURCES).for_each(|channel| aligner.let_overtake(channel));
        }
        let sink = Sink {
            received: received.unwrap_or_default(),
            is_writing: rule != Rule::None,
            written: received.unwrap_or_default(),
            pending: 0,
            aligner,
            barriers,
            noticed: [0; SOURCES],
            arrived: [0; SOURCES],
            recordings: BTreeMap::new(),
            now: Millis(0),
            last_barrier: None,
            newest_read: None,
            told_aborted: 0,
            ended: received.is_none(),
        };
        // What a barrier had overtaken comes first. A source that had ended is not run again; its channel has
        // nothing more but its end.
        let overtaken = cut.map_or([0; SOURCES], |cut| cut.overtaken);
        let channel = |source: usize| -> VecDeque<Item> {
            let records = std::iter::repeat_n(Item::Record, usize::from(overtaken[source]));
            records.chain(emitted[source].is_none().then_some(Item::End)).collect()
        };
        let channels = std::array::from_fn(channel);
        Self { attempt, sources: emitted.map(source), channels, sink, aligned: 0, is_deaf: false }
    }

    /// Those that run.
    pub(crate) fn running(&self) -> Vec<TaskId> {
        let sources = (0..SOURCES).filter(|source| !self.sources[*source].ended);
        let sources = sources.map(|source| source_id(source, self.attempt));
        sources.chain((!self.sink.ended).then(|| sink_id(self.attempt))).collect()
    }
}
