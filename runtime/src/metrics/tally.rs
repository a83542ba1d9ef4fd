//! Counters that go back to a checkpoint with their job, so that what is done twice counts once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use strandline_state_api::{CheckpointId, OperatorId};

use crate::sync::lock;

/// How many checkpoints an operator remembers the count of. A job that goes back further counts from zero.
const REMEMBERED: usize = 10_000;

/// The counters of operators of one kind.
#[derive(Debug, Default)]
pub(super) struct Tallies(Mutex<BTreeMap<String, Operator>>);

#[derive(Debug, Default)]
struct Operator {
    total: Arc<Total>,
    /// What earlier attempts counted and the current one counts again.
    again: u64,
    /// How much of the total the process of the coordinator has.
    taken: u64,
}

/// What the subtasks of an operator in one process have counted since they were last asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Increment {
    records: u64,
    /// The parts of subtasks that have passed the barriers of these checkpoints since.
    cuts: BTreeMap<CheckpointId, u64>,
}

/// The counter of one operator in one attempt.
#[derive(Debug, Default)]
struct Total {
    now: AtomicU64,
    /// What it began with.
    base: u64,
    /// What it was at the barriers of checkpoints.
    cuts: Mutex<BTreeMap<CheckpointId, u64>>,
}

/// The part of one subtask in the counter of its operator.
#[derive(Debug)]
pub(crate) struct Tally {
    total: Arc<Total>,
    own: u64,
}

impl Tally {
    /// Counts more.
    pub(crate) fn add(&mut self, records: usize) {
        self.own += records as u64;
        self.total.now.fetch_add(records as u64, Relaxed);
    }

    /// Remembers the count at the barrier of a checkpoint.
    pub(crate) fn cut(&self, checkpoint: CheckpointId) {
        self.total.cut(checkpoint, self.own);
    }
}

impl Total {
    /// Adds a part to the count at a barrier.
    fn cut(&self, checkpoint: CheckpointId, part: u64) {
        let mut cuts = lock(&self.cuts);
        *cuts.entry(checkpoint).or_insert(self.base) += part;
        if cuts.len() > REMEMBERED {
            cuts.pop_first();
        }
    }
}

impl Tallies {
    pub(super) fn tally(&self, id: &OperatorId) -> Tally {
        let total = Arc::clone(&lock(&self.0).entry(id.to_string()).or_default().total);
        Tally { total, own: 0 }
    }

    /// Goes on from what the counters were at a checkpoint of this run; from zero for an earlier one, and for
    /// none.
    pub(super) fn go_back_to(&self, restored: Option<CheckpointId>) {
        for Operator { total, again, .. } in lock(&self.0).values_mut() {
            let mut cuts = std::mem::take(&mut *lock(&total.cuts));
            cuts.retain(|checkpoint, _| Some(*checkpoint) <= restored);
            let base = restored.and_then(|restored| cuts.get(&restored).copied()).unwrap_or(0);
            *again += total.now.load(Relaxed).saturating_sub(base);
            *total = Arc::new(Total { now: AtomicU64::new(base), base, cuts: Mutex::new(cuts) });
        }
    }

    /// Takes what was counted here since the last call, for the process of the coordinator. These counters are
    /// those of one attempt.
    pub(super) fn take(&self) -> BTreeMap<String, Increment> {
        let mut operators = lock(&self.0);
        let take = |(id, operator): (&String, &mut Operator)| {
            // Cuts first: the count that goes with them covers them.
            let cuts = std::mem::take(&mut *lock(&operator.total.cuts));
            let now = operator.total.now.load(Relaxed);
            let records = now - std::mem::replace(&mut operator.taken, now);
            (id.clone(), Increment { records, cuts })
        };
        operators.iter_mut().map(take).collect()
    }

    /// Adds what another process has counted in this attempt.
    pub(super) fn add(&self, increments: &BTreeMap<String, Increment>) {
        let mut operators = lock(&self.0);
        for (id, Increment { records, cuts }) in increments {
            let total = &operators.entry(id.clone()).or_default().total;
            total.now.fetch_add(*records, Relaxed);
            cuts.iter().for_each(|(checkpoint, part)| total.cut(*checkpoint, *part));
        }
    }

    pub(super) fn values(&self) -> BTreeMap<String, u64> {
        lock(&self.0).iter().map(|(id, of)| (id.clone(), of.total.now.load(Relaxed))).collect()
    }

    /// What was counted and then given up, of all operators.
    pub(super) fn again(&self) -> u64 {
        lock(&self.0).values().map(|of| of.again).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_goes_back_to_the_count_at_its_checkpoint() {
        let tallies = Tallies::default();
        let id = OperatorId::new("source").unwrap();
        let count = || tallies.values()["source"];
        let (mut a, mut b) = (tallies.tally(&id), tallies.tally(&id));
        a.add(10);
        a.cut(CheckpointId(1));
        a.add(5);
        b.add(3);
        b.cut(CheckpointId(1));
        a.cut(CheckpointId(2));
        assert_eq!(count(), 18);

        tallies.go_back_to(Some(CheckpointId(1)));
        assert_eq!((count(), tallies.again()), (13, 5));
        // A task of the attempt before that is not over yet counts for nobody.
        a.add(100);
        let mut c = tallies.tally(&id);
        c.add(5);
        c.cut(CheckpointId(3));
        assert_eq!(count(), 18);
        tallies.go_back_to(Some(CheckpointId(3)));
        assert_eq!((count(), tallies.again()), (18, 5));
        tallies.go_back_to(Some(CheckpointId(1)));
        assert_eq!((count(), tallies.again()), (13, 10));
        tallies.go_back_to(None);
        assert_eq!((count(), tallies.again()), (0, 23));
    }

    #[test]
    fn what_another_process_counts_goes_back_with_the_job() {
        let (all, id) = (Tallies::default(), OperatorId::new("source").unwrap());
        let mut here = all.tally(&id);
        here.add(10);
        here.cut(CheckpointId(1));
        let elsewhere = Tallies::default();
        let (mut one, mut other) = (elsewhere.tally(&id), elsewhere.tally(&id));
        one.add(3);
        one.cut(CheckpointId(1));
        all.add(&elsewhere.take());
        other.add(5);
        other.cut(CheckpointId(1));
        one.add(100);
        all.add(&elsewhere.take());
        all.add(&elsewhere.take());
        assert_eq!(all.values()["source"], 118);
        all.go_back_to(Some(CheckpointId(1)));
        assert_eq!((all.values()["source"], all.again()), (18, 100));
        // In the next attempt, too.
        let elsewhere = Tallies::default();
        let mut one = elsewhere.tally(&id);
        one.add(2);
        one.cut(CheckpointId(2));
        all.tally(&id).cut(CheckpointId(2));
        all.add(&elsewhere.take());
        all.go_back_to(Some(CheckpointId(2)));
        assert_eq!((all.values()["source"], all.again()), (20, 100));
    }
}
