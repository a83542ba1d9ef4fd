//! Barriers that overtake records: at once, and where an alignment takes too long. A sink that notices late,
//! reads in between, and records what it must; and rules that look right and are not.

use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model};
use strandline_checkpoint_protocol::{Alignment, Millis};
use strandline_state_api::CheckpointId;

use crate::outputs::{Content, Rule};
use crate::world::{Budget, Cut, Item, Mail, SOURCES, Tasks};
use crate::{Limits, explore, large, walk};

/// What barriers do where records wait in their way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Barriers {
    /// They wait.
    Aligned,
    /// They overtake them, by this rule for what is recorded: at once, or `late`, once they are overdue.
    Overtake { late: bool, recording: RecordingRule },
}

/// What the sink records of the records that a barrier overtakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum RecordingRule {
    /// What has arrived before the barrier and was not read, and what arrives later until the barrier does.
    Right,
    /// Only the latter: what waits at the cut is forgotten.
    ForgetsWhatWaits,
    /// Only the former.
    ForgetsWhatComes,
    /// Everything that waits, also what stands behind the barrier.
    RecordsBehindTheBarrier,
    /// As the right one, but also of channels that had delivered the barrier: those were read past it.
    RecordsDelivered,
}

impl Cut {
    pub(crate) fn has_overtaken(&self) -> bool {
        self.overtaken.iter().any(|records| *records > 0)
    }
}

impl Tasks {
    fn recording_rule(&self) -> RecordingRule {
        match self.sink.barriers {
            Barriers::Aligned => RecordingRule::Right,
            Barriers::Overtake { recording, .. } => recording,
        }
    }

    /// Whether something has arrived that the sink has not noticed, and that makes a difference.
    pub(crate) fn has_news(&self) -> bool {
        let is_new = |channel: usize| usize::from(self.sink.noticed[channel]) < self.channels[channel].len();
        (0..SOURCES).any(is_new)
    }

    /// The sink notices what has arrived: it records records, and reports barriers and ends.
    pub(crate) fn notice(&mut self, file: &mut Option<(CheckpointId, Content)>) -> Vec<Mail> {
        let mut mail = Vec::new();
        let Barriers::Overtake { late, .. } = self.sink.barriers else { return mail };
        for channel in 0..SOURCES {
            while let Some(item) =
                self.channels[channel].get(usize::from(self.sink.noticed[channel])).copied()
            {
                self.sink.noticed[channel] += 1;
                match item {
                    Item::Record if self.recording_rule() == RecordingRule::ForgetsWhatComes => {}
                    Item::Record => {
                        for checkpoint in self.sink.aligner.recording(channel) {
                            if let Some(recorded) = self.sink.recordings.get_mut(&checkpoint) {
                                recorded.overtaken[channel] += 1;
                            }
                        }
                    }
                    Item::Barrier(checkpoint) => {
                        self.sink.arrived[channel] |= 1 << checkpoint.0;
                        let is_aligned = self.aligned & (1 << checkpoint.0) != 0;
                        let overtake_at = (!is_aligned).then_some(Millis(u64::from(late)));
                        let outcome =
                            self.sink.aligner.arrival(self.sink.now, channel, checkpoint, overtake_at);
                        self.follow(outcome, file, &mut mail);
                    }
                    Item::End => {
                        let outcome = self.sink.aligner.end_arrival(channel);
                        self.follow(outcome, file, &mut mail);
                    }
                }
            }
        }
        mail
    }

    /// Whether a channel has the barrier of a newer checkpoint and not that of this one.
    pub(crate) fn is_superseded(&self, checkpoint: CheckpointId) -> bool {
        let lacks = |arrived: &u128| arrived & (1 << checkpoint.0) == 0 && arrived >> checkpoint.0 > 1;
        self.sink.arrived.iter().any(lacks)
    }

    /// An alignment takes too long.
    pub(crate) fn overdue(&mut self, file: &mut Option<(CheckpointId, Content)>) -> Vec<Mail> {
        let mut mail = Vec::new();
        self.sink.now = Millis(1);
        self.follow(Alignment::Continue, file, &mut mail);
        self.sink.now = Millis(0);
        mail
    }

    /// How many records wait in a channel that the barrier of `checkpoint` has overtaken.
    pub(crate) fn overtaken(&self, checkpoint: CheckpointId, channel: usize) -> u8 {
        let rule = self.recording_rule();
        let is_overtaken = self.sink.aligner.has_overtaken(checkpoint, channel);
        if rule == RecordingRule::ForgetsWhatWaits
            || (!is_overtaken && rule != RecordingRule::RecordsDelivered)
        {
            return 0;
        }
        let noticed = self.channels[channel].iter().take(usize::from(self.sink.noticed[channel]));
        let stop = |item: &&Item| {
            **item != Item::Barrier(checkpoint) || rule == RecordingRule::RecordsBehindTheBarrier
        };
        noticed.take_while(stop).filter(|item| **item == Item::Record).count() as u8
    }
}

const SEEN: &[&str] =
    &["a checkpoint holds records that its barrier overtook", "a job resumes with such records"];

fn limits(late: bool, recording: RecordingRule) -> Limits {
    Limits {
        budget: Budget {
            starts: 1,
            task_failures: 1,
            requests: 1 + u8::from(large()),
            overdue: u8::from(late),
            ..Budget::default()
        },
        concurrent: 2,
        records: 1,
        calm_tasks: false,
        calm_log: true,
        finishing: false,
        aborts: false,
        rule: Rule::None,
        barriers: Barriers::Overtake { late, recording },
        recovery_sample: 200,
        must_see: SEEN,
    }
}

/// A checkpoint whose barriers overtake records at once, and a restart from what it holds.
#[test]
fn barriers_that_overtake() {
    explore("barriers that overtake", &limits(false, RecordingRule::Right));
}

/// The same where barriers are aligned first, until that takes too long.
#[test]
fn barriers_that_overtake_later() {
    explore("barriers that overtake later", &limits(true, RecordingRule::Right));
}

/// Several checkpoints in flight, one of them a savepoint, which is aligned; aborts; sources that end.
#[test]
fn barriers_that_overtake_around_a_savepoint() {
    let budget = Budget { starts: 1, requests: 3, savepoints: 1, declines: 1, ..Budget::default() };
    let must_see = &["a checkpoint holds records that its barrier overtook"];
    let limits = Limits {
        budget,
        concurrent: 3,
        records: 2,
        aborts: true,
        finishing: true,
        must_see,
        ..limits(false, RecordingRule::Right)
    };
    walk("barriers that overtake around a savepoint", &limits, 40_000);
}

/// Everything together, deeper.
#[test]
fn overtaking_and_everything_else() {
    for late in [false, true] {
        let budget = Budget {
            starts: 4,
            crashes: 2,
            task_failures: 2,
            requests: 8,
            expiries: 3,
            losses: 2,
            duplicates: 2,
            declines: 2,
            savepoints: 2,
            overdue: 4,
            ..Budget::default()
        };
        let limits = Limits {
            budget,
            records: 5,
            concurrent: 3,
            finishing: true,
            aborts: true,
            recovery_sample: 50,
            ..limits(late, RecordingRule::Right)
        };
        walk(&format!("overtaking and everything else, late: {late}"), &limits, 60_000);
    }
}

/// Rules that lose or repeat what was overtaken; each is found.
#[test]
fn rules_that_record_the_wrong_records_are_found() {
    for (rule, late) in [
        (RecordingRule::ForgetsWhatWaits, false),
        (RecordingRule::ForgetsWhatComes, false),
        (RecordingRule::RecordsBehindTheBarrier, true),
        (RecordingRule::RecordsDelivered, true),
    ] {
        let mut limits = limits(late, rule);
        (limits.budget.task_failures, limits.budget.requests) = (0, 1);
        let began = Instant::now();
        let checker = limits.checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
        println!(
            "{rule:?}: found after {} states in {:.1} s",
            checker.unique_state_count(),
            began.elapsed().as_secs_f64()
        );
        assert!(checker.discovery("every completed checkpoint is a consistent cut").is_some(), "{rule:?}");
    }
}
