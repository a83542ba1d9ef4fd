//! When checkpoints start.

use super::*;

/// Runs to the next deadline; where it was and what started.
fn wait(plan: &mut Plan) -> (u64, Option<CheckpointId>) {
    let deadline = plan.next_deadline().expect("something is due");
    let early = plan.clone().tick(Millis(deadline.0 - 1));
    assert_eq!(early, [], "before its deadline");
    (deadline.0, triggered(&plan.tick(deadline)))
}

fn finish(plan: &mut Plan, now: u64, checkpoint: CheckpointId) -> Vec<Action<u32>> {
    ack_all(plan, now, checkpoint);
    plan.commit_result(Millis(now), checkpoint, CommitResult::Committed)
}

#[test]
fn periodic_checkpoints_keep_to_their_grid() {
    let mut plan = running(Policy::every(ms(100)));
    assert_eq!(wait(&mut plan), (100, Some(id(1))));
    finish(&mut plan, 130, id(1));
    assert_eq!(wait(&mut plan), (200, Some(id(2))));
    // This one takes three intervals and a half: the next starts right behind it, those missed are not made
    // up for.
    assert_eq!(triggered(&plan.tick(Millis(300))), None);
    assert_eq!(triggered(&finish(&mut plan, 550, id(2))), Some(id(3)));
    finish(&mut plan, 560, id(3));
    assert_eq!(wait(&mut plan), (600, Some(id(4))));
}

#[test]
fn the_first_one_can_be_set_apart() {
    let mut plan = running(Policy { initial_delay: Some(ms(7)), ..Policy::every(ms(100)) });
    assert_eq!(wait(&mut plan), (7, Some(id(1))));
    finish(&mut plan, 8, id(1));
    assert_eq!(wait(&mut plan), (107, Some(id(2))));
    assert_eq!(running(Policy::default()).next_deadline(), None);
    assert_eq!(running(Policy::every(Duration::ZERO)).next_deadline(), None);
}

#[test]
fn the_pause_counts_from_the_end_and_holds_back_only_periodic_ones() {
    let mut plan = running(Policy { min_pause: ms(80), ..Policy::every(ms(100)) });
    wait(&mut plan);
    finish(&mut plan, 190, id(1));
    let mut other = plan.clone();
    assert_eq!(wait(&mut plan), (270, Some(id(2))));
    // A pause counts from the end of an aborted one as well, and requests do not wait for it.
    assert_eq!(begin(&mut other, 200, CheckpointKind::Operator), id(2));
    let _ = other.decline(Millis(230), task(0), id(2), DeclineReason::NotReady);
    assert_eq!(wait(&mut other), (310, Some(id(3))));
}

#[test]
fn a_checkpoint_expires_at_its_deadline() {
    let mut plan = running(Policy { timeout: ms(50), tolerable_failures: 9, ..Policy::every(ms(100)) });
    wait(&mut plan);
    let _ = plan.ack(Millis(101), task(0), id(1), 0);
    assert_eq!(plan.next_deadline(), Some(Millis(150)));
    assert_eq!(plan.tick(Millis(149)), []);
    let expired = aborted_of(CheckpointKind::Periodic, id(1), AbortReason::Expired, None);
    assert_eq!(plan.tick(Millis(150)), [expired]);
    assert_eq!(plan.ack(Millis(151), task(1), id(1), 0).0, AckOutcome::Late);
    // Once all have acknowledged, only the commit decides.
    assert_eq!(wait(&mut plan), (200, Some(id(2))));
    ack_all(&mut plan, 249, id(2));
    assert_eq!(plan.tick(Millis(100_000)), []);
    assert_eq!(plan.commit_in_flight(), Some(id(2)));
}

#[test]
fn no_more_than_allowed_run_at_once_and_savepoints_run_beside_them() {
    let mut plan = running(Policy { max_concurrent: 2, ..Policy::every(ms(10)) });
    wait(&mut plan);
    wait(&mut plan);
    // Full: the only deadline left is the timeout.
    assert_eq!(plan.next_deadline(), Some(Millis(600_010)));
    assert_eq!(plan.tick(Millis(100)), []);
    assert_eq!(begin(&mut plan, 100, CheckpointKind::Savepoint), id(3));
    let kinds = [CheckpointKind::Api, CheckpointKind::Savepoint, CheckpointKind::Periodic];
    for (kind, number) in kinds.into_iter().zip(1..) {
        assert_eq!(plan.request(Millis(100), kind).0, RequestOutcome::Queued(RequestId(number)));
    }
    // A savepoint, pending or waiting, holds up nobody else: as places get free, the requests start in their
    // order; a second savepoint after the first; then what the interval asks for.
    let started = |actions: &[Action<u32>]| {
        let request = |action: &Action<u32>| match action {
            Action::Trigger { request, .. } => Some(request.map(|id| id.0)),
            _ => None,
        };
        actions.iter().filter_map(request).collect::<Vec<_>>()
    };
    let mut finished = |number: u64| {
        ack_all(&mut plan, 100 + number, id(number));
        started(&plan.commit_result(Millis(100 + number), id(number), CommitResult::Committed))
    };
    assert_eq!([finished(1), finished(2)], [[Some(1)], [Some(3)]]);
    assert_eq!(finished(3), [Some(2)]);
    assert_eq!(finished(4), [None], "the interval is over, and the savepoint is under way");
}

#[test]
fn neither_a_pending_nor_a_waiting_savepoint_stops_the_interval() {
    let mut plan = running(Policy::every(ms(10)));
    assert_eq!(begin(&mut plan, 0, CheckpointKind::Savepoint), id(1));
    assert_eq!(plan.request(Millis(1), CheckpointKind::Savepoint).0, RequestOutcome::Queued(RequestId(1)));
    for number in 2..5 {
        let (at, started) = wait(&mut plan);
        assert_eq!((at, started), (10 * (number - 1), Some(id(number))));
        finish(&mut plan, at + 1, id(number));
    }
}

#[test]
fn a_backlog_has_an_interval_of_its_own() {
    let mut plan = running(Policy { backlog_interval: Some(ms(1_000)), ..Policy::every(ms(100)) });
    assert_eq!(wait(&mut plan), (100, Some(id(1))));
    finish(&mut plan, 110, id(1));
    assert_eq!(plan.set_backlog(Millis(120), true), []);
    assert_eq!(wait(&mut plan), (1_100, Some(id(2))), "counted from the last one");
    finish(&mut plan, 1_110, id(2));
    // A source that cannot decide postpones nothing.
    for now in [1_150, 1_170, 1_190] {
        assert_eq!(plan.set_backlog(Millis(now), false), []);
        assert_eq!(plan.next_deadline(), Some(Millis(1_200)));
        assert_eq!(plan.set_backlog(Millis(now + 10), true), []);
        assert_eq!(plan.next_deadline(), Some(Millis(2_100)));
    }
    assert_eq!(triggered(&plan.set_backlog(Millis(1_500), false)), Some(id(3)), "it was due long ago");
}

#[test]
fn a_backlog_can_stop_periodic_checkpoints() {
    let mut plan = running(Policy { backlog_interval: Some(Duration::ZERO), ..Policy::every(ms(100)) });
    plan.set_backlog(Millis(50), true);
    assert_eq!(plan.next_deadline(), None);
    let on_demand = begin(&mut plan, 500, CheckpointKind::Api);
    finish(&mut plan, 510, on_demand);
    assert_eq!(triggered(&plan.set_backlog(Millis(600), false)), Some(id(2)));
    let mut without = running(Policy::every(ms(100)));
    assert_eq!(without.set_backlog(Millis(50), true), []);
    assert_eq!(wait(&mut without), (100, Some(id(1))), "unless it is configured, a backlog changes nothing");
}

#[test]
fn what_is_held_starts_as_soon_as_it_may() {
    let mut plan = running(Policy::every(ms(100)));
    assert_eq!(plan.hold(Millis(50), true), []);
    assert_eq!((plan.next_deadline(), plan.tick(Millis(300))), (None, vec![]));
    let on_demand = begin(&mut plan, 310, CheckpointKind::Api);
    finish(&mut plan, 320, on_demand);
    assert_eq!(triggered(&plan.hold(Millis(330), false)), Some(id(2)));
}
