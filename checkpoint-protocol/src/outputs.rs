//! Which outputs of earlier attempts can never count again: the rule by which a sink cleans up.
//!
//! A process may sleep at any point and wake when a successor has long taken its place. Whatever it then
//! deletes must be dead for that successor too, so no check just before a deletion can make it safe: only
//! what the commit log shows *for ever* can. Two things are of that kind.
//!
//! * **A checkpoint of term `t` is in the log, and `t` had restored checkpoint `r`.** Nobody resumes from
//!   anything that a term before `t` completed after `r`: the log has gone on from `r`. So what lower terms
//!   committed for checkpoints above `r` is dead. What they pre-committed and left is dead too: `t` committed
//!   all that `r` names before its own tasks started.
//!   This holds whether or not that checkpoint of `t` can still be read: what its entry gave up stays given up
//!   when a successor has to fall back behind it.
//! * **A term has no checkpoint in the log, and a higher one is claimed.** It never gets one, so no
//!   checkpoint ever names what it pre-committed.
//!
//! A term that has restored `r` and has committed nothing yet shows neither: it may be fenced, and its
//! successor may resume from a checkpoint above `r`. So output above the restored checkpoint stays until the
//! first checkpoint of the term is in the log, and goes before that checkpoint's own output becomes visible.

use std::collections::BTreeSet;

use strandline_state_api::CheckpointId;

use crate::Term;
use crate::commit_log::Branch;

/// The outputs that can never count again, by the term that wrote them.
///
/// A sink puts the term into the name of everything that it writes, and removes only what this declares dead.
/// The answers stay true however late they are used.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DeadOutputs {
    /// A term with a checkpoint in the log, and the checkpoint that it had restored.
    shown: Option<(Term, Option<CheckpointId>)>,
    /// The highest term with a checkpoint in the log, and what that checkpoint did not grow from.
    newest: Option<(Term, Branch)>,
    barren: Barren,
}

/// Which terms completed nothing that is still in the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Barren {
    Unknown,
    /// Those below `before` but for `fertile`.
    Below {
        before: Term,
        fertile: BTreeSet<Term>,
    },
    /// There is no log, so that nothing which was pre-committed is ever needed again.
    All,
}

impl DeadOutputs {
    /// What the attempt of term `own` knows when it starts.
    ///
    /// `restored` is the term of the checkpoint that it restores, and the checkpoint that *that* term had
    /// restored. `completed` are the terms of all checkpoints in the log as of the claim, savepoints
    /// included; `None` when a part of the log cannot be read.
    pub fn at_start(
        own: Term,
        restored: Option<(Term, Option<CheckpointId>)>,
        completed: Option<impl IntoIterator<Item = Term>>,
    ) -> Self {
        let barren = completed.map_or(Barren::Unknown, |completed| Barren::Below {
            before: own,
            fertile: completed.into_iter().collect(),
        });
        Self { shown: restored, newest: None, barren }
    }

    /// Adds what the checkpoints in the log gave up, by the term and the branch of each: also those that cannot
    /// be restored any more.
    #[must_use]
    pub fn given_up_by<'a>(mut self, completed: impl IntoIterator<Item = (Term, &'a Branch)>) -> Self {
        let newest = completed.into_iter().max_by_key(|(term, _)| *term);
        self.newest = newest.map(|(term, branch)| (term, branch.clone()));
        self
    }

    /// What the attempt of term `own`, which had restored `restored`, knows once its first checkpoint is in
    /// the log.
    pub fn after_commit(own: Term, restored: Option<CheckpointId>) -> Self {
        Self { shown: Some((own, restored)), newest: None, barren: Barren::Unknown }
    }

    /// For a job without a commit log: nothing is kept apart, so nothing that was pre-committed is needed.
    pub fn without_log() -> Self {
        Self { shown: None, newest: None, barren: Barren::All }
    }

    /// The term of which the log shows a checkpoint, and so that everything of lower terms is dead which its
    /// restored checkpoint does not contain.
    pub fn shown(&self) -> Option<Term> {
        self.shown.map(|(term, _)| term)
    }

    /// Whether what `term` committed for `checkpoint` can never count again.
    pub fn is_committed_dead(&self, term: Term, checkpoint: CheckpointId) -> bool {
        let left_behind =
            self.shown.is_some_and(|(shown, restored)| term < shown && Some(checkpoint) > restored);
        let given_up = |(_, branch): &(Term, Branch)| branch.certainly_gave_up(checkpoint);
        left_behind || self.newest.as_ref().is_some_and(given_up)
    }

    /// Whether what `term` pre-committed, and nobody has committed since, can never count again.
    pub fn is_pre_committed_dead(&self, term: Term) -> bool {
        let barren = match &self.barren {
            Barren::Unknown => false,
            Barren::Below { before, fertile } => term < *before && !fertile.contains(&term),
            Barren::All => true,
        };
        let newest = self.newest.as_ref().map(|(newest, _)| *newest);
        barren || self.shown().max(newest).is_some_and(|shown| term < shown)
    }

    /// Whether no checkpoint in the log can name anything that was pre-committed before.
    pub fn is_all_pre_committed_dead(&self) -> bool {
        match &self.barren {
            Barren::Unknown => false,
            Barren::Below { fertile, .. } => fertile.is_empty(),
            Barren::All => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const C: fn(u64) -> CheckpointId = CheckpointId;

    #[test]
    fn a_start_shows_only_what_the_restored_checkpoint_left_behind() {
        // Term 2 resumed from checkpoint 3 and completed 5, from which term 4 resumes. Term 3 completed
        // nothing.
        let dead = DeadOutputs::at_start(Term(4), Some((Term(2), Some(C(3)))), Some([Term(2)]));
        assert!(dead.is_committed_dead(Term(1), C(4)), "given up by term 2");
        assert!(!dead.is_committed_dead(Term(1), C(3)));
        assert!(!dead.is_committed_dead(Term(2), C(9)), "a successor may resume from it");
        let pre_committed = [1, 2, 3, 4, 5].map(|term| dead.is_pre_committed_dead(Term(term)));
        assert_eq!(pre_committed, [true, false, true, false, false]);
    }

    #[test]
    fn a_checkpoint_that_is_lost_shows_what_it_gave_up() {
        // Term 1 completed 1 and 2. Term 2 fell back to 1 and completed 3, which cannot be read, so that term 3
        // falls back to 1 as well.
        let whole = Branch::default();
        let fallen_back = Branch::grown_from(C(1), &whole, Some(C(2)));
        let log = [(Term(1), &whole), (Term(1), &whole), (Term(2), &fallen_back)];
        let restored = Some((Term(1), None));
        let without = DeadOutputs::at_start(Term(3), restored, Some(log.map(|(term, _)| term)));
        assert!(!without.is_pre_committed_dead(Term(1)));
        let dead = without.given_up_by(log);
        assert!(dead.is_pre_committed_dead(Term(1)) && dead.is_committed_dead(Term(1), C(2)));
        assert!(!dead.is_committed_dead(Term(1), C(1)), "it is restored");
        assert!(
            !dead.is_pre_committed_dead(Term(2)) && !dead.is_committed_dead(Term(2), C(3)),
            "it may be found"
        );
    }

    #[test]
    fn a_first_commit_shows_what_it_left_behind() {
        let dead = DeadOutputs::after_commit(Term(4), Some(C(5)));
        assert!(dead.is_committed_dead(Term(2), C(6)) && dead.is_pre_committed_dead(Term(3)));
        assert!(!dead.is_committed_dead(Term(2), C(5)) && !dead.is_committed_dead(Term(4), C(6)));
        assert!(!dead.is_committed_dead(Term(5), C(6)) && !dead.is_pre_committed_dead(Term(4)));
        let fresh = DeadOutputs::after_commit(Term(2), None);
        assert!(fresh.is_committed_dead(Term(1), C(1)), "a new start counts nothing before it");
    }

    #[test]
    fn what_cannot_be_read_proves_nothing() {
        let dead = DeadOutputs::at_start(Term(4), None, None::<[Term; 0]>);
        assert!(!dead.is_pre_committed_dead(Term(1)) && !dead.is_all_pre_committed_dead());
        assert!(DeadOutputs::without_log().is_pre_committed_dead(Term(9)));
    }
}
