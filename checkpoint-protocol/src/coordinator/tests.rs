mod failures;
mod lifecycle;
mod property;
mod schedule;

use std::time::Duration;

use super::*;

type Plan = Coordinator<u32>;

fn task(vertex: u32) -> TaskId {
    TaskId::new(vertex, 0)
}

fn id(number: u64) -> CheckpointId {
    CheckpointId(number)
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A running coordinator of two tasks.
fn running(policy: Policy) -> Plan {
    let mut plan = Coordinator::new(policy, CheckpointId::FIRST);
    assert_eq!(plan.start(Millis(0), [task(0), task(1)]), []);
    plan
}

/// Requests a checkpoint that must start at once.
fn begin(plan: &mut Plan, now: u64, kind: CheckpointKind) -> CheckpointId {
    let (outcome, actions) = plan.request(Millis(now), kind);
    assert!(matches!(outcome, RequestOutcome::Started(_)), "{outcome:?}");
    triggered(&actions).unwrap_or_else(|| panic!("no trigger in {actions:?}"))
}

fn triggered(actions: &[Action<u32>]) -> Option<CheckpointId> {
    actions.iter().find_map(|action| match action {
        Action::Trigger { checkpoint, .. } => Some(*checkpoint),
        _ => None,
    })
}

/// The checkpoints whose permits are among the actions.
fn permits(actions: &[Action<u32>]) -> Vec<CheckpointId> {
    let permit = |action: &Action<u32>| match action {
        Action::Commit(permit) => Some(permit.checkpoint()),
        _ => None,
    };
    actions.iter().filter_map(permit).collect()
}

/// Both tasks acknowledge.
fn ack_all(plan: &mut Plan, now: u64, checkpoint: CheckpointId) -> Vec<Action<u32>> {
    let (outcome, actions) = plan.ack(Millis(now), task(0), checkpoint, 10);
    assert_eq!((outcome, actions), (AckOutcome::Accepted { missing: 1 }, vec![]));
    let (outcome, actions) = plan.ack(Millis(now), task(1), checkpoint, 11);
    assert_eq!(outcome, AckOutcome::Completed);
    actions
}

/// A whole checkpoint on request.
fn complete(plan: &mut Plan, now: u64) -> CheckpointId {
    let checkpoint = begin(plan, now, CheckpointKind::Api);
    assert_eq!(permits(&ack_all(plan, now, checkpoint)), [checkpoint]);
    plan.commit_result(Millis(now), checkpoint, CommitResult::Committed);
    assert_eq!(plan.latest_completed(), Some(checkpoint));
    checkpoint
}

/// The abort of a checkpoint that somebody asked for.
fn aborted(checkpoint: CheckpointId, reason: AbortReason, latest: Option<CheckpointId>) -> Action<u32> {
    aborted_of(CheckpointKind::Api, checkpoint, reason, latest)
}

fn aborted_of(
    kind: CheckpointKind,
    checkpoint: CheckpointId,
    reason: AbortReason,
    latest_completed: Option<CheckpointId>,
) -> Action<u32> {
    Action::NotifyAborted { checkpoint, kind, reason, latest_completed }
}
