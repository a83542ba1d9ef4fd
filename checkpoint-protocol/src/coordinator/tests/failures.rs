//! Which failures count, and what they lead to.

use super::*;

fn tolerant(tolerable_failures: u32) -> Plan {
    running(Policy { tolerable_failures, max_concurrent: 2, ..Policy::default() })
}

/// Starts a checkpoint and lets a task decline it.
fn decline(plan: &mut Plan, reason: DeclineReason) -> Vec<Action<u32>> {
    let checkpoint = begin(plan, 0, CheckpointKind::Api);
    let (outcome, actions) = plan.decline(Millis(1), task(1), checkpoint, reason);
    assert_eq!(outcome, DeclineOutcome::Aborted);
    assert_eq!(
        actions[0],
        aborted(checkpoint, AbortReason::Declined(task(1), reason), plan.latest_completed())
    );
    actions
}

fn failed(actions: &[Action<u32>]) -> Option<FailReason> {
    actions.iter().find_map(|action| match action {
        Action::FailJob { reason } => Some(*reason),
        _ => None,
    })
}

#[test]
fn failures_in_a_row_fail_the_job_and_a_success_resets_them() {
    let mut plan = tolerant(1);
    assert_eq!(failed(&decline(&mut plan, DeclineReason::SnapshotFailed)), None);
    complete(&mut plan, 2);
    assert_eq!(failed(&decline(&mut plan, DeclineReason::SnapshotFailed)), None);
    let open = begin(&mut plan, 3, CheckpointKind::Api);
    let last = begin(&mut plan, 3, CheckpointKind::Api);
    let (_, actions) = plan.decline(Millis(4), task(0), last, DeclineReason::SnapshotFailed);
    let reason = AbortReason::Declined(task(0), DeclineReason::SnapshotFailed);
    assert_eq!(actions[1], aborted(open, AbortReason::Suspended, plan.latest_completed()));
    assert_eq!(failed(&actions), Some(FailReason::TooManyFailures { failures: 2, last, reason }));
    assert_eq!(plan.request(Millis(5), CheckpointKind::Api).0, RequestOutcome::Refused(Refusal::NotRunning));
    // The restarted job has a clean record.
    plan.start(Millis(6), [task(0), task(1)]);
    assert_eq!(failed(&decline(&mut plan, DeclineReason::SnapshotFailed)), None);
}

#[test]
fn only_real_failures_count() {
    use DeclineReason::{Cancelled, Closing, NotReady, Superseded};
    let mut plan = tolerant(0);
    for reason in [NotReady, Closing, Superseded, Cancelled] {
        assert_eq!(failed(&decline(&mut plan, reason)), None);
    }
    let mut any_number = tolerant(u32::MAX);
    for _ in 0..20 {
        assert_eq!(failed(&decline(&mut any_number, DeclineReason::SnapshotFailed)), None);
    }
    // By default, the first one is one too many: declined, expired or not committed.
    assert!(failed(&decline(&mut tolerant(0), DeclineReason::SnapshotFailed)).is_some());
    let mut expired = plan.clone();
    begin(&mut expired, 0, CheckpointKind::Api);
    assert!(failed(&expired.tick(Millis(600_000))).is_some());
    let checkpoint = begin(&mut plan, 0, CheckpointKind::Api);
    ack_all(&mut plan, 1, checkpoint);
    let actions = plan.commit_result(Millis(2), checkpoint, CommitResult::Failed);
    assert_eq!(actions[0], aborted(checkpoint, AbortReason::CommitFailed, None));
    assert!(failed(&actions).is_some());
}

#[test]
fn what_befalls_a_savepoint_in_the_coordinator_does_not_fail_the_job() {
    let mut plan = tolerant(0);
    begin(&mut plan, 0, CheckpointKind::Savepoint);
    assert_eq!(failed(&plan.tick(Millis(600_000))), None);
    let savepoint = begin(&mut plan, 0, CheckpointKind::Savepoint);
    ack_all(&mut plan, 1, savepoint);
    assert_eq!(failed(&plan.commit_result(Millis(2), savepoint, CommitResult::Failed)), None);
    let savepoint = begin(&mut plan, 0, CheckpointKind::Savepoint);
    let (_, actions) = plan.decline(Millis(3), task(0), savepoint, DeclineReason::SnapshotFailed);
    assert!(failed(&actions).is_some());
}

#[test]
fn a_declined_final_checkpoint_always_fails_the_job() {
    let mut plan = tolerant(u32::MAX);
    let last = begin(&mut plan, 0, CheckpointKind::Final);
    let (_, actions) = plan.decline(Millis(1), task(0), last, DeclineReason::Closing);
    assert_eq!(failed(&actions), Some(FailReason::FinalDeclined(last)));
}

#[test]
fn late_and_strange_declines_change_nothing() {
    let mut plan = tolerant(0);
    complete(&mut plan, 0);
    let two = begin(&mut plan, 0, CheckpointKind::Api);
    let _ = plan.ack(Millis(1), task(0), two, 0);
    let before = plan.clone();
    let mut decline =
        |task, checkpoint| plan.decline(Millis(1), task, checkpoint, DeclineReason::SnapshotFailed).0;
    assert_eq!(decline(task(0), id(1)), DeclineOutcome::Late);
    assert_eq!(decline(task(0), two), DeclineOutcome::Late);
    assert_eq!(decline(task(7), two), DeclineOutcome::Unknown);
    assert_eq!(decline(task(0), id(3)), DeclineOutcome::Unknown);
    assert_eq!(plan, before);
}

#[test]
fn a_commit_of_unknown_outcome_fails_the_job_and_says_nothing_of_the_checkpoint() {
    let mut plan = tolerant(u32::MAX);
    let one = begin(&mut plan, 0, CheckpointKind::Api);
    let two = begin(&mut plan, 0, CheckpointKind::Api);
    ack_all(&mut plan, 1, one);
    let actions = plan.commit_result(Millis(2), one, CommitResult::Unknown);
    let expected = [
        aborted(two, AbortReason::Suspended, None),
        Action::FailJob { reason: FailReason::CommitUnknown(one) },
    ];
    assert_eq!(actions, expected);
}
