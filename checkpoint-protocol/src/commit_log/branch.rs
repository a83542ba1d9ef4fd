//! Which checkpoints a checkpoint grew from.

use serde::{Deserialize, Serialize};
use strandline_state_api::CheckpointId;

/// The branch of a checkpoint: which of the checkpoints with lower numbers it did *not* grow from.
///
/// A job that starts from an older checkpoint than the newest gives up those between: their state is no past
/// of what it does from there on, and their output goes. So the log is a tree, and as numbers rise over all
/// branches, the way back from one checkpoint is all lower numbers but for some runs of them. Those runs
/// stand in its log entry. They hold more than the number of a parent would: they cover every checkpoint
/// that was ever completed, also where the entries between were deleted long ago, which is what a savepoint
/// needs.
///
/// Most branches gave up nothing and take no space.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Branch(Vec<GivenUp>);

/// A run of numbers, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct GivenUp {
    first: CheckpointId,
    last: CheckpointId,
}

impl Branch {
    /// How many runs are kept apart. Beyond, the oldest become one, so that what lies between them counts as
    /// given up, too: a recovery then chooses less than it might, and nothing wrong.
    const MOST: usize = 64;

    /// The branch that grows from checkpoint `from`, whose own branch is `of`, in a log whose newest
    /// checkpoint is `newest`.
    #[must_use]
    pub fn grown_from(from: CheckpointId, of: &Self, newest: Option<CheckpointId>) -> Self {
        let mut branch = of.clone();
        branch.give_up(from.0.saturating_add(1), newest);
        branch
    }

    /// The branch of a job that starts without a checkpoint, in a log whose newest is `newest`.
    #[must_use]
    pub fn new_job(newest: Option<CheckpointId>) -> Self {
        let mut branch = Self::default();
        branch.give_up(0, newest);
        branch
    }

    /// The branch of checkpoint `of`, when no more is known of it: it gave up all before, in a log whose
    /// newest checkpoint is `newest`.
    #[must_use]
    pub fn of_unknown(of: CheckpointId, newest: Option<CheckpointId>) -> Self {
        let mut branch = Self::default();
        branch.give_up(0, of.0.checked_sub(1).map(CheckpointId).min(newest));
        branch
    }

    /// Whether the branch did not grow from `checkpoint`. Of numbers above that of its own checkpoint it
    /// knows nothing.
    pub fn gave_up(&self, checkpoint: CheckpointId) -> bool {
        self.0.iter().any(|run| run.first <= checkpoint && checkpoint <= run.last)
    }

    /// As [`gave_up`](Self::gave_up), but without what became part of a run because there were too many.
    pub(crate) fn certainly_gave_up(&self, checkpoint: CheckpointId) -> bool {
        let merged = usize::from(self.0.len() >= Self::MOST);
        self.0.iter().skip(merged).any(|run| run.first <= checkpoint && checkpoint <= run.last)
    }

    /// Whether it gave up nothing.
    pub fn is_whole(&self) -> bool {
        self.0.is_empty()
    }

    /// `first` is above all that was given up before.
    fn give_up(&mut self, first: u64, last: Option<CheckpointId>) {
        let first = CheckpointId(first);
        let Some(last) = last.filter(|last| first <= *last) else { return };
        self.0.push(GivenUp { first, last });
        if self.0.len() > Self::MOST {
            let oldest = self.0.remove(0);
            self.0[0].first = oldest.first;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn c(number: u64) -> CheckpointId {
        CheckpointId(number)
    }

    fn given_up(branch: &Branch, up_to: u64) -> Vec<u64> {
        (0..=up_to).filter(|number| branch.gave_up(c(*number))).collect()
    }

    #[test]
    fn who_resumes_from_the_newest_gives_up_nothing() {
        let branch = Branch::grown_from(c(4), &Branch::default(), Some(c(4)));
        assert!(branch.is_whole());
        assert_eq!(serde_json::to_string(&branch).unwrap(), "[]");
        assert!(Branch::new_job(None).is_whole() && Branch::of_unknown(c(9), None).is_whole());
    }

    #[test]
    fn who_falls_back_gives_up_what_lies_between() {
        let five = Branch::grown_from(c(2), &Branch::default(), Some(c(4)));
        assert_eq!(given_up(&five, 9), [3, 4]);
        // From there back before the first fallback, and to what the first one gave up.
        assert_eq!(given_up(&Branch::grown_from(c(1), &Branch::default(), Some(c(6))), 9), [2, 3, 4, 5, 6]);
        assert_eq!(given_up(&Branch::grown_from(c(5), &five, Some(c(6))), 9), [3, 4, 6]);
        assert_eq!(given_up(&Branch::grown_from(c(4), &Branch::default(), Some(c(6))), 9), [5, 6]);
        assert_eq!(given_up(&Branch::new_job(Some(c(3))), 9), [0, 1, 2, 3]);
        let unknown = Branch::of_unknown(c(2), Some(c(4)));
        assert_eq!(given_up(&Branch::grown_from(c(2), &unknown, Some(c(4))), 9), [0, 1, 3, 4]);
    }

    proptest! {
        /// Against a tree that remembers the past of every checkpoint, whatever is resumed from.
        #[test]
        fn branches_are_those_of_the_tree(choices in proptest::collection::vec(0usize..200, 1..200)) {
            let mut pasts: Vec<(BTreeSet<u64>, Branch)> = Vec::new();
            for (number, choice) in (1u64..).zip(choices) {
                let newest = number.checked_sub(1).filter(|newest| *newest > 0).map(c);
                // Mostly the newest, sometimes any other, seldom none.
                let from = match choice {
                    0 => None,
                    1..100 => newest.map(|newest| newest.0),
                    _ => newest.map(|newest| 1 + choice as u64 % newest.0),
                };
                let (mut past, branch) = match from.and_then(|from| pasts.get(from as usize - 1)) {
                    Some((past, of)) => {
                        (past.clone(), Branch::grown_from(c(from.unwrap_or(0)), of, newest))
                    }
                    None => (BTreeSet::new(), Branch::new_job(newest)),
                };
                for other in 1..number {
                    if branch.gave_up(c(other)) {
                        // Where too many runs became one, it may have.
                        prop_assert!(!past.contains(&other) || branch.0.len() == Branch::MOST);
                    } else {
                        prop_assert!(past.contains(&other), "{} grew from {}", number, other);
                    }
                    prop_assert!(!branch.certainly_gave_up(c(other)) || !past.contains(&other));
                }
                past.insert(number);
                pasts.push((past, branch));
            }
        }
    }
}
