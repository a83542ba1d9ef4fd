//! Random inputs in random order: what holds whatever happens.

use proptest::prelude::*;
use strandline_state_api::CheckpointId;

use super::*;

#[derive(Clone, Debug)]
enum Input {
    Tick(u64),
    Request(CheckpointKind),
    Ack(u32, usize),
    Decline(u32, usize, DeclineReason),
    Finish(u32),
    Commit(CommitResult),
    Suspend,
    Start,
}

fn input() -> impl Strategy<Value = Input> {
    use CheckpointKind::{Api, Final, Operator, Savepoint};
    let kind = prop_oneof![4 => Just(Api), 2 => Just(Operator), 2 => Just(Savepoint), 1 => Just(Final)];
    let reason = prop_oneof![Just(DeclineReason::SnapshotFailed), Just(DeclineReason::NotReady)];
    let result = prop_oneof![
        20 => Just(CommitResult::Committed),
        4 => Just(CommitResult::Failed),
        1 => Just(CommitResult::Unknown),
        1 => Just(CommitResult::Fenced),
    ];
    prop_oneof![
        10 => (0u64..60).prop_map(Input::Tick),
        6 => kind.prop_map(Input::Request),
        40 => (0..3u32, 0..4usize).prop_map(|(task, nth)| Input::Ack(task, nth)),
        2 => (0..3u32, 0..4usize, reason).prop_map(|(task, nth, reason)| Input::Decline(task, nth, reason)),
        1 => (0..3u32).prop_map(Input::Finish),
        12 => result.prop_map(Input::Commit),
        1 => Just(Input::Suspend),
        2 => Just(Input::Start),
    ]
}

/// What an outsider can know from the actions alone.
#[derive(Default)]
struct Witness {
    triggered: Vec<CheckpointId>,
    savepoints: Vec<CheckpointId>,
    ended: Vec<CheckpointId>,
    committing: Option<CheckpointId>,
    completed: Vec<CheckpointId>,
    unknown: Option<CheckpointId>,
    fenced: bool,
}

impl Witness {
    fn see(&mut self, actions: &[Action<(u32, CheckpointId)>], tasks: u32) {
        for action in actions {
            assert!(!self.fenced, "{action:?} after it was fenced");
            match action {
                Action::Trigger { checkpoint, kind, .. } => {
                    assert!(self.triggered.last() < Some(checkpoint), "{checkpoint} reused");
                    self.triggered.push(*checkpoint);
                    if *kind == CheckpointKind::Savepoint {
                        self.savepoints.push(*checkpoint);
                    }
                }
                Action::Commit(permit) => {
                    let (right, parts) = permit.clone().into_parts();
                    let checkpoint = right.checkpoint();
                    assert_eq!(self.committing.replace(checkpoint), None, "two commits at once");
                    let may_be_late = self.savepoints.contains(&checkpoint);
                    assert!(!self.ended.contains(&checkpoint) && !self.completed.contains(&checkpoint));
                    assert!(may_be_late || self.latest() < Some(checkpoint), "{checkpoint} is late");
                    let is_open = |savepoint: &&CheckpointId| {
                        **savepoint < checkpoint && !self.ended.contains(savepoint)
                    };
                    let open = self.savepoints.iter().find(is_open).copied();
                    assert_eq!(right.open_savepoint(), open);
                    assert_eq!(parts.acks.len() + parts.finished.len(), tasks as usize);
                    for (task, state) in parts.acks {
                        assert_eq!(state, (task.vertex, checkpoint), "state of another checkpoint");
                    }
                }
                Action::NotifyComplete { checkpoint, .. } => {
                    assert_eq!(self.committing.take(), Some(*checkpoint), "complete without a commit");
                    self.end(*checkpoint);
                    self.completed.push(*checkpoint);
                }
                Action::NotifyAborted { checkpoint, latest_completed, .. } => {
                    if self.committing == Some(*checkpoint) {
                        self.committing = None;
                    }
                    self.end(*checkpoint);
                    assert_eq!(*latest_completed, self.latest());
                }
                Action::Fenced => self.fenced = true,
                Action::DropRequest { .. } | Action::FailJob { .. } => {}
            }
        }
    }

    fn latest(&self) -> Option<CheckpointId> {
        self.completed.iter().max().copied()
    }

    fn end(&mut self, checkpoint: CheckpointId) {
        assert!(
            self.triggered.contains(&checkpoint) && !self.ended.contains(&checkpoint),
            "{checkpoint} ended twice"
        );
        assert_ne!(self.unknown, Some(checkpoint), "told about a commit of unknown outcome");
        self.ended.push(checkpoint);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: crate::test_cases(300), ..ProptestConfig::default() })]
    #[test]
    fn whatever_comes_every_checkpoint_ends_once_and_commits_are_whole(
        inputs in proptest::collection::vec(input(), 1..250),
        max_concurrent in 0u32..4,
        interval in prop_oneof![Just(None), Just(Some(ms(30)))],
        tolerable_failures in prop_oneof![Just(0), Just(2), Just(u32::MAX)],
    ) {
        let policy = Policy {
            interval, max_concurrent, tolerable_failures, min_pause: ms(20), timeout: ms(200), ..Policy::default()
        };
        let mut plan: Coordinator<(u32, CheckpointId)> = Coordinator::new(policy, CheckpointId(5));
        let (mut now, mut attempt, mut witness) = (Millis(0), 0, Witness::default());
        let life = |vertex, attempt| TaskId::new(vertex, 0).attempt(attempt);
        plan.start(now, (0..3).map(|vertex| life(vertex, attempt)));
        for input in inputs {
            let pick = |nth: usize, plan: &Coordinator<_>| plan.pending().nth(nth).unwrap_or(CheckpointId(4));
            let actions = match input {
                Input::Tick(millis) => {
                    now = now.after(ms(millis));
                    plan.tick(now)
                }
                Input::Request(kind) => plan.request(now, kind).1,
                Input::Ack(task, nth) => {
                    let checkpoint = pick(nth, &plan);
                    plan.ack(now, life(task, attempt), checkpoint, (task, checkpoint)).1
                }
                Input::Decline(task, nth, reason) => {
                    let checkpoint = pick(nth, &plan);
                    plan.decline(now, life(task, attempt), checkpoint, reason).1
                }
                Input::Finish(task) => plan.task_finished(now, life(task, attempt), None),
                Input::Commit(result) => match plan.commit_in_flight() {
                    None => continue,
                    Some(checkpoint) => {
                        if result == CommitResult::Unknown {
                            witness.committing = None;
                            witness.unknown = Some(checkpoint);
                            witness.savepoints.retain(|savepoint| *savepoint != checkpoint);
                        }
                        plan.commit_result(now, checkpoint, result)
                    }
                },
                Input::Suspend => plan.suspend(now),
                Input::Start => {
                    if plan.commit_in_flight().is_some() || plan.pending().count() > 0 {
                        continue;
                    }
                    attempt += 1;
                    plan.start(now, (0..3).map(|vertex| life(vertex, attempt)))
                }
            };
            witness.see(&actions, 3);
            prop_assert_eq!(plan.latest_completed(), witness.latest());
            if !witness.fenced {
                prop_assert_eq!(plan.commit_in_flight(), witness.committing);
            }
            // Whoever ticks at the deadline is never left with one that has passed.
            while let Some(deadline) = plan.next_deadline().filter(|deadline| *deadline <= now) {
                let actions = plan.tick(now);
                prop_assert!(!actions.is_empty(), "stuck at {}", deadline);
                witness.see(&actions, 3);
            }
            let ordinary = max_concurrent.max(1) as usize;
            prop_assert!(plan.pending().count() <= ordinary + 2);
            // Nobody waits but for a commit.
            if plan.commit_in_flight().is_none() && !witness.fenced {
                prop_assert!(plan.pending().all(|pending| plan.missing(pending).next().is_some()));
            }
        }
    }
}
