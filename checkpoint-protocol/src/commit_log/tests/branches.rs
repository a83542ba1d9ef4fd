//! Fallbacks, and savepoints that come late.

use super::client::{Store, committed, leader};
use super::*;

fn savepoint(checkpoint: u64) -> CommitRight {
    right_of(checkpoint, CheckpointKind::Savepoint)
}

fn branch(client: &LogClient) -> Vec<u64> {
    client.view().branch().into_iter().map(|entry| entry.checkpoint.0).collect()
}

/// The next coordinator, and what it may resume from, the newest first.
fn next(store: &mut Store, token: u128) -> (LogClient, Vec<u64>) {
    let client = leader(store, token);
    let branch = branch(&client);
    (client, branch)
}

#[test]
fn who_falls_back_gives_up_what_lies_between() {
    let mut store = Store::default();
    let mut first = leader(&mut store, 1);
    for checkpoint in 1..=4 {
        store.commit(&mut first, checkpoint, 2);
    }
    let (mut second, newest_first) = next(&mut store, 2);
    assert_eq!(newest_first, [4, 3, 2]);
    let two = second.completed()[0].clone();
    second.resume(Some((two.checkpoint, &two.branch)));
    // Until it has a checkpoint, its successor may resume from any.
    assert_eq!(next(&mut store.clone(), 3).1, [4, 3, 2]);
    store.commit(&mut second, 5, 2);
    assert_eq!((branch(&second), ids(second.view().given_up())), (vec![5, 2], vec![3, 4]));
    let (mut third, newest_first) = next(&mut store, 3);
    assert_eq!(newest_first, [5, 2]);
    // Without a word it resumes from the newest.
    store.commit(&mut third, 6, 2);
    assert_eq!(branch(&third), [6, 5, 2]);
    let (mut fourth, _) = next(&mut store, 4);
    fourth.resume(None);
    store.commit(&mut fourth, 7, 2);
    assert_eq!(next(&mut store, 5).1, [7]);
}

/// What a fallback gave up comes back with no later choice, as its files are gone.
#[test]
fn what_was_given_up_stays_given_up() {
    let mut store = Store::default();
    let mut first = leader(&mut store, 1);
    for right in [right(1), right(2), savepoint(3), right(4)] {
        store.commit_as(&mut first, &right, 0);
    }
    let mut second = leader(&mut store, 2);
    second.resume(Some((CheckpointId(1), &Branch::default())));
    store.commit(&mut second, 5, 0);
    assert_eq!((ids(second.completed()), branch(&second)), (vec![1, 3, 5], vec![5, 1]));
    // The savepoint is there for who names it, and it grew from checkpoint 2, which is not.
    let mut third = leader(&mut store, 3);
    third.resume(Some((CheckpointId(3), &Branch::default())));
    store.commit(&mut third, 6, 0);
    assert!(!third.branch().gave_up(CheckpointId(3)) && third.branch().gave_up(CheckpointId(5)));
    assert_eq!(next(&mut store, 4).1, [6, 1], "the savepoint is kept elsewhere by now");
}

#[test]
fn a_savepoint_that_others_overtook_is_committed_late() {
    let mut store = Store::default();
    let mut client = leader(&mut store, 1);
    store.commit(&mut client, 1, 0);
    store.commit(&mut client, 3, 0);
    assert_eq!(committed(&store.commit_as(&mut client, &savepoint(2), 2)), (3, 2));
    let EntryKind::Checkpoint { late, .. } = store.log[&3].kind else { panic!("no checkpoint") };
    assert!(late);
    // The newest is still the newest, for this one and for the next.
    let misuse = LogOutcome::Misuse(Misuse::NotNewer { last: CheckpointId(3) });
    assert_eq!(store.commit(&mut client, 3, 0), misuse);
    assert_eq!(store.commit(&mut client, 2, 0), misuse);
    assert_eq!(store.commit_as(&mut client, &savepoint(2), 0), misuse);
    let (mut other, newest_first) = next(&mut store, 2);
    assert_eq!((newest_first, other.view().last_completed()), (vec![3, 2], Some(CheckpointId(3))));
    // No savepoint of an earlier term comes late.
    assert_eq!(store.commit_as(&mut other, &savepoint(1), 0), misuse);
    assert_eq!(committed(&store.commit(&mut other, 4, 0)), (5, 4));
}

#[test]
fn an_entry_names_the_savepoint_that_may_follow() {
    let (now, task) = (Millis(0), TaskId::new(0, 0));
    let mut coordinator = Coordinator::new(Policy::default(), CheckpointId(1));
    coordinator.start(now, [task]);
    coordinator.request(now, CheckpointKind::Savepoint);
    coordinator.request(now, CheckpointKind::Api);
    let right = |actions: Vec<Action<()>>| match actions.into_iter().next() {
        Some(Action::Commit(permit)) => permit.into_parts().0,
        other => panic!("no permit but {other:?}"),
    };
    let newer = right(coordinator.ack(now, task, CheckpointId(2), ()).1);
    coordinator.commit_result(now, CheckpointId(2), crate::CommitResult::Committed);
    let late = right(coordinator.ack(now, task, CheckpointId(1), ()).1);
    let mut store = Store::default();
    let mut client = leader(&mut store, 1);
    store.commit_as(&mut client, &newer, 0);
    assert_eq!(client.view().open_savepoint(), Some(CheckpointId(1)));
    store.commit_as(&mut client, &late, 0);
    assert_eq!(client.view().open_savepoint(), None);
    assert_eq!(ids(leader(&mut store, 2).completed()), [2, 1]);
}
