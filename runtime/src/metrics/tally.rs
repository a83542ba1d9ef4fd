//! Counters that go back to a checkpoint with their job, so that what is done twice counts once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

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
        let mut cuts = lock(&self.total.cuts);
        *cuts.entry(checkpoint).or_insert(self.total.base) += self.own;
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
        for Operator { total, again } in lock(&self.0).values_mut() {
            let mut cuts = std::mem::take(&mut *lock(&total.cuts));
            cuts.retain(|checkpoint, _| Some(*checkpoint) <= restored);
            let base = restored.and_then(|restored| cuts.get(&restored).copied()).unwrap_or(0);
            *again += total.now.load(Relaxed).saturating_sub(base);
            *total = Arc::new(Total { now: AtomicU64::new(base), base, cuts: Mutex::new(cuts) });
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
}
