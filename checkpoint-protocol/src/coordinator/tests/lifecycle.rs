//! One checkpoint from its trigger to its end, and what may come in between.

use super::*;

#[test]
fn a_checkpoint_completes_with_all_acknowledgements_and_its_commit() {
    let mut plan = running(Policy::default());
    let (outcome, actions) = plan.request(Millis(5), CheckpointKind::Operator);
    let request = RequestId(0);
    assert_eq!(outcome, RequestOutcome::Started(request));
    let kind = CheckpointKind::Operator;
    assert_eq!(actions, [Action::Trigger { checkpoint: id(1), kind, request: Some(request) }]);
    assert_eq!(plan.missing(id(1)).collect::<Vec<_>>(), [task(0), task(1)]);

    let mut actions = ack_all(&mut plan, 6, id(1));
    let Some(Action::Commit(permit)) = actions.pop() else { panic!("no permit") };
    assert!(actions.is_empty());
    assert_eq!((permit.checkpoint(), plan.commit_in_flight()), (id(1), Some(id(1))));
    let (right, parts) = permit.into_parts();
    assert_eq!((right.checkpoint(), parts.checkpoint, parts.triggered_at), (id(1), id(1), Millis(5)));
    assert_eq!(parts.acks, BTreeMap::from([(task(0), 10), (task(1), 11)]));
    assert!(parts.finished.is_empty());

    let actions = plan.commit_result(Millis(9), id(1), CommitResult::Committed);
    assert_eq!(actions, [Action::NotifyComplete { checkpoint: id(1), kind }]);
    assert_eq!((plan.latest_completed(), plan.pending().count(), plan.next_id()), (Some(id(1)), 0, id(2)));
    // A second result changes nothing.
    assert_eq!(plan.commit_result(Millis(9), id(1), CommitResult::Failed), []);
}

#[test]
fn acknowledgements_are_told_apart() {
    let mut plan = running(Policy { max_concurrent: 2, ..Policy::default() });
    complete(&mut plan, 0);
    let two = begin(&mut plan, 0, CheckpointKind::Api);
    let mut ack = |vertex, checkpoint: u64| plan.ack(Millis(0), task(vertex), id(checkpoint), 7).0;
    assert_eq!(ack(0, 1), AckOutcome::Late);
    assert_eq!(ack(0, 0), AckOutcome::Late);
    assert_eq!(ack(0, 3), AckOutcome::Unknown);
    assert_eq!(ack(9, 2), AckOutcome::Unknown);
    assert_eq!(ack(0, 2), AckOutcome::Accepted { missing: 1 });
    assert_eq!(ack(0, 2), AckOutcome::Duplicate);
    let (outcome, _) = plan.ack(Millis(0), task(1).attempt(1), two, 0);
    assert_eq!(outcome, AckOutcome::Unknown);
    let (_, actions) = plan.ack(Millis(0), task(1), two, 11);
    // A repetition with another state does not replace the first one, before or after the permit.
    let [Action::Commit(permit)] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!(permit.clone().into_parts().1.acks[&task(0)], 7);
    assert_eq!(plan.ack(Millis(0), task(1), two, 99).0, AckOutcome::Duplicate);
}

#[test]
fn commits_are_serial_and_in_order() {
    let mut plan = running(Policy { max_concurrent: 3, ..Policy::default() });
    for number in 1..=3 {
        assert_eq!(begin(&mut plan, 0, CheckpointKind::Api), id(number));
    }
    assert_eq!(permits(&ack_all(&mut plan, 1, id(2))), [id(2)]);
    // While that commit is under way, a newer and an older one become ready.
    assert_eq!(ack_all(&mut plan, 1, id(3)), []);
    assert_eq!(ack_all(&mut plan, 1, id(1)), []);
    let mut failed = plan.clone();

    let actions = plan.commit_result(Millis(2), id(2), CommitResult::Committed);
    assert_eq!(actions[1], aborted(id(1), AbortReason::Subsumed(id(2)), Some(id(2))));
    assert_eq!(permits(&actions), [id(3)]);

    // If it fails, the older one is next, not the newer.
    failed.policy.tolerable_failures = 1;
    assert_eq!(permits(&failed.commit_result(Millis(2), id(2), CommitResult::Failed)), [id(1)]);
    assert_eq!(permits(&failed.commit_result(Millis(2), id(1), CommitResult::Committed)), [id(3)]);
}

#[test]
fn a_savepoint_holds_nobody_up_and_follows_late() {
    let mut plan = running(Policy::default());
    let savepoint = begin(&mut plan, 0, CheckpointKind::Savepoint);
    let newer = begin(&mut plan, 0, CheckpointKind::Api);
    let mut actions = ack_all(&mut plan, 1, newer);
    let Some(Action::Commit(permit)) = actions.pop() else { panic!("no permit: {actions:?}") };
    let right = permit.into_parts().0;
    assert_eq!((right.checkpoint(), right.open_savepoint()), (newer, Some(savepoint)));
    let kind = CheckpointKind::Api;
    let complete = [Action::NotifyComplete { checkpoint: newer, kind }];
    assert_eq!(plan.commit_result(Millis(2), newer, CommitResult::Committed), complete);
    let mut expired = plan.clone();

    let mut actions = ack_all(&mut plan, 3, savepoint);
    let Some(Action::Commit(permit)) = actions.pop() else { panic!("no permit: {actions:?}") };
    assert_eq!(permit.into_parts().0.open_savepoint(), None);
    let kind = CheckpointKind::Savepoint;
    let complete = [Action::NotifyComplete { checkpoint: savepoint, kind }];
    assert_eq!(plan.commit_result(Millis(4), savepoint, CommitResult::Committed), complete);
    assert_eq!(plan.latest_completed(), Some(newer), "what came late is not the latest");
    // One that expires does not fail the job.
    let actions = expired.tick(Millis(600_000));
    assert_eq!(actions, [aborted_of(kind, savepoint, AbortReason::Expired, Some(newer))]);
}

#[test]
fn of_those_that_are_ready_the_oldest_is_committed_first() {
    let mut plan = running(Policy { max_concurrent: 2, ..Policy::default() });
    let one = begin(&mut plan, 0, CheckpointKind::Api);
    let savepoint = begin(&mut plan, 0, CheckpointKind::Savepoint);
    let three = begin(&mut plan, 0, CheckpointKind::Api);
    assert_eq!(permits(&ack_all(&mut plan, 1, one)), [one]);
    assert_eq!((ack_all(&mut plan, 1, three), ack_all(&mut plan, 1, savepoint)), (vec![], vec![]));
    assert_eq!(permits(&plan.commit_result(Millis(2), one, CommitResult::Committed)), [savepoint]);
    assert_eq!(permits(&plan.commit_result(Millis(2), savepoint, CommitResult::Committed)), [three]);
}

#[test]
fn the_end_of_a_job_waits_for_no_savepoint() {
    let mut plan = running(Policy::default());
    let savepoint = begin(&mut plan, 0, CheckpointKind::Savepoint);
    assert_eq!(plan.request(Millis(0), CheckpointKind::Savepoint).0, RequestOutcome::Queued(RequestId(1)));
    let last = begin(&mut plan, 0, CheckpointKind::Final);
    assert_eq!(permits(&ack_all(&mut plan, 1, last)), [last]);
    let actions = plan.commit_result(Millis(2), last, CommitResult::Committed);
    let expected = [
        Action::NotifyComplete { checkpoint: last, kind: CheckpointKind::Final },
        aborted_of(CheckpointKind::Savepoint, savepoint, AbortReason::Ended, Some(last)),
        Action::DropRequest { request: RequestId(1), reason: Refusal::Ended },
    ];
    assert_eq!(actions, expected);
}

#[test]
fn a_finished_task_need_not_acknowledge_what_it_did_not_pass() {
    let mut plan = running(Policy { max_concurrent: 2, ..Policy::default() });
    let one = begin(&mut plan, 0, CheckpointKind::Api);
    let two = begin(&mut plan, 0, CheckpointKind::Api);
    // Task 0 passed the first barrier; its snapshot is still being written when it ends.
    assert_eq!(plan.task_finished(Millis(1), task(0), Some(one)), []);
    assert_eq!(plan.missing(one).collect::<Vec<_>>(), [task(0), task(1)]);
    assert_eq!(plan.missing(two).collect::<Vec<_>>(), [task(1)]);
    let mut actions = ack_all(&mut plan, 2, one);
    let Some(Action::Commit(permit)) = actions.pop() else { panic!("no permit") };
    assert!(permit.into_parts().1.finished.is_empty());
    plan.commit_result(Millis(2), one, CommitResult::Committed);

    // The coordinator does not take an acknowledgement from a task that reported not to have passed the
    // barrier.
    assert_eq!(plan.ack(Millis(3), task(0), two, 5).0, AckOutcome::Duplicate);
    let (outcome, mut actions) = plan.ack(Millis(3), task(1), two, 11);
    assert_eq!(outcome, AckOutcome::Completed);
    let Some(Action::Commit(permit)) = actions.pop() else { panic!("no permit") };
    let parts = permit.into_parts().1;
    assert_eq!((parts.acks.len(), parts.finished.contains(&task(0))), (1, true));
    plan.commit_result(Millis(3), two, CommitResult::Committed);

    // Later checkpoints do not ask it either; when the last task ends, there is nothing left to snapshot.
    let three = begin(&mut plan, 4, CheckpointKind::Api);
    assert_eq!(plan.missing(three).collect::<Vec<_>>(), [task(1)]);
    let actions = plan.task_finished(Millis(5), task(1), None);
    assert_eq!(permits(&actions), [three]);
    assert_eq!(plan.request(Millis(6), CheckpointKind::Api).0, RequestOutcome::Refused(Refusal::Ended));
}

#[test]
fn a_suspension_aborts_all_but_a_commit_under_way() {
    let mut plan = running(Policy { max_concurrent: 3, ..Policy::default() });
    for _ in 0..3 {
        begin(&mut plan, 0, CheckpointKind::Api);
    }
    let (queued, _) = plan.request(Millis(0), CheckpointKind::Operator);
    assert_eq!(queued, RequestOutcome::Queued(RequestId(3)));
    ack_all(&mut plan, 1, id(1));
    ack_all(&mut plan, 1, id(2));
    let suspended = |checkpoint| aborted(checkpoint, AbortReason::Suspended, None);
    let dropped = Action::DropRequest { request: RequestId(3), reason: Refusal::NotRunning };
    assert_eq!(plan.suspend(Millis(2)), [suspended(id(2)), suspended(id(3)), dropped]);
    assert_eq!(plan.commit_in_flight(), Some(id(1)));
    assert_eq!(plan.request(Millis(2), CheckpointKind::Api).0, RequestOutcome::Refused(Refusal::NotRunning));
    assert_eq!((plan.tick(Millis(u64::MAX)), plan.next_deadline()), (vec![], None));

    // The job restarts; ids go on, and old attempts count no more.
    plan.commit_result(Millis(3), id(1), CommitResult::Committed);
    plan.start(Millis(4), [task(0).attempt(1), task(1).attempt(1)]);
    assert_eq!((plan.latest_completed(), begin(&mut plan, 5, CheckpointKind::Api)), (Some(id(1)), id(4)));
    assert_eq!(plan.ack(Millis(6), task(0), id(4), 0).0, AckOutcome::Unknown);
    assert_eq!(plan.ack(Millis(6), task(0), id(3), 0).0, AckOutcome::Late);
}

#[test]
fn a_final_checkpoint_is_the_last() {
    let mut plan = running(Policy { max_concurrent: 2, ..Policy::every(ms(10)) });
    let one = begin(&mut plan, 0, CheckpointKind::Api);
    let last = begin(&mut plan, 0, CheckpointKind::Final);
    let (waiting, _) = plan.request(Millis(1), CheckpointKind::Savepoint);
    assert_eq!(waiting, RequestOutcome::Queued(RequestId(2)));
    assert_eq!(triggered(&plan.tick(Millis(50))), None);
    assert_eq!(permits(&ack_all(&mut plan, 51, last)), [last]);
    let actions = plan.commit_result(Millis(52), last, CommitResult::Committed);
    let expected = [
        Action::NotifyComplete { checkpoint: last, kind: CheckpointKind::Final },
        aborted(one, AbortReason::Subsumed(last), Some(last)),
        Action::DropRequest { request: RequestId(2), reason: Refusal::Ended },
    ];
    assert_eq!(actions, expected);
    assert_eq!((plan.next_deadline(), plan.tick(Millis(1_000))), (None, vec![]));
    assert_eq!(plan.request(Millis(1_000), CheckpointKind::Final).0, RequestOutcome::Refused(Refusal::Ended));
}

#[test]
fn a_fenced_coordinator_says_nothing_more() {
    let mut plan = running(Policy { max_concurrent: 2, ..Policy::every(ms(10)) });
    let one = begin(&mut plan, 0, CheckpointKind::Api);
    begin(&mut plan, 0, CheckpointKind::Api);
    ack_all(&mut plan, 1, one);
    assert_eq!(plan.commit_result(Millis(2), one, CommitResult::Fenced), [Action::Fenced]);
    assert_eq!(plan.fence(), []);
    assert_eq!(plan.start(Millis(3), [task(0)]), []);
    assert_eq!((plan.tick(Millis(u64::MAX)), plan.next_deadline()), (vec![], None));
    assert_eq!(plan.request(Millis(3), CheckpointKind::Final).0, RequestOutcome::Refused(Refusal::Fenced));
    assert_eq!(plan.ack(Millis(3), task(0), id(2), 0), (AckOutcome::Late, vec![]));
}
