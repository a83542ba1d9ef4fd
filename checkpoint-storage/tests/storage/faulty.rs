//! Lost answers and crashes at every single operation, and coordinators that race.

use std::sync::atomic::Ordering::Relaxed;

use strandline_checkpoint_storage::faults::{Fault, Faults};
use strandline_checkpoint_storage::{CommitLog, CommitLogOptions, RecoverOptions, Storage};
use strandline_state_api::{CheckpointId, Error, ErrorKind, Result};

use crate::common::{cases, claim, claim_keeping, manifest_with, open_all};

async fn try_claim(storage: &Storage) -> Result<strandline_checkpoint_storage::Claimed> {
    CommitLog::claim(storage, CommitLogOptions::new("faulty"), CommitLog::random_tokens()).await
}

/// The ids of the checkpoints in the log, each of which must verify.
async fn existing(storage: &Storage) -> Vec<u64> {
    let mut ids = Vec::new();
    for completed in storage.completed().await.unwrap() {
        assert!(storage.verify(completed.checkpoint).await.unwrap().is_good(), "{completed:?}");
        ids.push(completed.checkpoint.0);
    }
    ids
}

/// Claims, commits checkpoints 1 to 3, sweeps after each; stops at the first error.
async fn job(storage: &Storage, plain: &Storage, reported: &mut Vec<u64>) -> Result<()> {
    let mut log = try_claim(storage).await?.log;
    for id in 1..=3 {
        // State is written to the healthy side: what is tested here is the commit.
        let manifest = manifest_with(plain, log.term(), id, &[&[id as u8; 10]]).await;
        reported.extend(log.commit_alone(&manifest).await?.completed.checkpoint.0.checked_sub(0));
        storage.sweep().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_crash_at_any_operation_leaves_the_old_checkpoint_or_the_new_one() {
    let count = Faults::never();
    let plain = Storage::in_memory().unwrap();
    job(&count.wrap(&plain), &plain, &mut Vec::new()).await.unwrap();
    let operations = count.operations();
    assert!(operations > 30, "{operations}");
    for operation in 0..operations {
        for fault in [Fault::NotDone, Fault::AnswerLost] {
            // On a disk every operation is slow, and not different: some will do.
            let stores = open_all().into_iter().filter(|(dir, _)| dir.is_none() || operation % 5 == 0);
            for (_dir, plain) in stores {
                let what = format!("{fault:?} at operation {operation}");
                let faults = Faults::crash_at(operation, fault);
                let mut reported = Vec::new();
                let error = job(&faults.wrap(&plain), &plain, &mut reported).await.expect_err(&what);
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{what}: {error}");
                let reported = reported.last().copied();
                // What was reported is there; at most the one checkpoint under way is there unreported.
                let exists = existing(&plain).await.last().copied();
                assert!(
                    exists == reported || exists == Some(reported.unwrap_or(0) + 1),
                    "{what}: {exists:?}, {reported:?}"
                );
                // And the next coordinator goes on.
                let mut next = claim(&plain).await;
                let recovery = plain.recover(RecoverOptions::default()).await.unwrap();
                assert!(recovery.is_clean(), "{what}");
                assert_eq!(recovery.restored.map(|r| r.completed.checkpoint.0), exists, "{what}");
                let id = next.next_checkpoint().0;
                let manifest = manifest_with(&plain, next.log.term(), id, &[b"next"]).await;
                next.log.commit_alone(&manifest).await.unwrap();
                plain.sweep().await.unwrap();
                assert_eq!(existing(&plain).await, [id], "{what}");
                // A manifest, its segment, its slot and the one before, and nothing else.
                let mut left = 0;
                for dir in ["segments", "manifest", "log"] {
                    left += plain.blobs().list(dir).await.unwrap().len();
                }
                assert_eq!(left, 4, "{what}");
            }
        }
    }
}

/// Commits the same manifest until the answer is no mere failure of the store.
async fn commit_until_known(
    log: &mut CommitLog,
    plain: &Storage,
    id: u64,
    failures: &mut u64,
) -> Result<u64> {
    let manifest = manifest_with(plain, log.term(), id, &[&id.to_le_bytes()]).await;
    loop {
        match log.commit_alone(&manifest).await {
            Ok(committed) => return Ok(committed.completed.checkpoint.0),
            Err(e) if e.kind() == ErrorKind::Unavailable => *failures += 1,
            Err(e) => return Err(e),
        }
    }
}

#[tokio::test]
async fn after_a_fault_at_any_operation_a_commit_can_be_asked_again() {
    for fault in [Fault::NotDone, Fault::AnswerLost] {
        for operation in 0.. {
            for (_dir, plain) in open_all() {
                let what = format!("{fault:?} at operation {operation}");
                let mut log = claim_keeping(&plain, 3).await.log;
                log.commit_alone(&manifest_with(&plain, 1, 1, &[b"one"]).await).await.unwrap();
                drop(log);
                let faults = Faults::at(operation, fault);
                let faulty = faults.wrap(&plain);
                let Ok(mut claimed) = try_claim(&faulty).await else { continue };
                let mut failures = 0;
                for id in 2..=3 {
                    let answer = commit_until_known(&mut claimed.log, &plain, id, &mut failures).await;
                    assert_eq!(answer.expect(&what), id);
                }
                assert!(failures <= 1, "{what}");
                let ids: Vec<_> = existing(&plain).await;
                assert_eq!(ids.last(), Some(&3), "{what}");
                let terms: Vec<_> = plain.completed().await.unwrap().iter().map(|c| c.term).collect();
                assert!(terms.is_sorted(), "{what}");
                if faults.injected() == 0 {
                    return;
                }
            }
        }
    }
}

#[tokio::test]
async fn a_commit_that_is_dropped_anywhere_is_settled_by_the_next_call() {
    use std::future::Future;
    use std::task::{Context, Poll, Waker};
    let dir = tempfile::TempDir::new().unwrap();
    let storage = Storage::in_dir(dir.path()).unwrap();
    let mut log = claim_keeping(&storage, 100).await.log;
    let (mut id, mut polls, mut dropped) = (1, 0, 0);
    loop {
        let manifest = manifest_with(&storage, 1, id, &[&[id as u8]]).await;
        let mut commit = Box::pin(log.commit_alone(&manifest));
        let mut done = false;
        for _ in 0..polls {
            // Every poll happens at another state of the work in the background: let that run on in between.
            if let Poll::Ready(result) = commit.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                result.unwrap();
                done = true;
                break;
            }
            tokio::task::spawn_blocking(|| ()).await.unwrap();
        }
        drop(commit);
        if !done {
            dropped += 1;
            log.commit_alone(&manifest).await.unwrap();
        }
        let ids: Vec<_> = storage.completed().await.unwrap().iter().map(|c| c.checkpoint.0).collect();
        assert_eq!(ids, (1..=id).collect::<Vec<_>>());
        id += 1;
        polls += 1;
        if done || polls > 60 {
            break;
        }
    }
    assert!(dropped > 1, "{dropped}");
}

/// Coordinators take over from each other, all on stores that fail at random; also torn log entries.
async fn takeovers(seed: u64, kinds: &[Fault]) {
    let plain = Storage::in_memory().unwrap();
    let mut random = fastrand::Rng::with_seed(seed);
    let mut logs: Vec<CommitLog> = Vec::new();
    let mut reported: Vec<(u64, u64)> = Vec::new();
    for step in 0..40 {
        let faults = Faults::random(seed << 8 | step, 0.15, kinds);
        let faulty = faults.wrap(&plain);
        if logs.is_empty() || random.u8(0..5) == 0 {
            match try_claim(&faulty).await {
                Ok(claimed) => logs.push(claimed.log),
                Err(e) => assert!(expected(&e), "{e}"),
            }
        } else {
            let which = random.usize(0..logs.len());
            let history = plain.history().await.unwrap();
            let (log, id) = (&mut logs[which], history.next_checkpoint().0);
            let manifest = manifest_with(&plain, log.term(), id, &[&step.to_le_bytes()]).await;
            match log.commit_alone(&manifest).await {
                Ok(committed) => reported.push((committed.completed.checkpoint.0, log.term().0)),
                Err(e) if e.kind() == ErrorKind::Fenced => drop(logs.swap_remove(which)),
                Err(e) => assert!(expected(&e), "{e}"),
            }
        }
    }
    // In the order in which they were reported, ids rise, and terms never fall: so no id was completed twice.
    assert!(reported.windows(2).all(|w| w[0].0 < w[1].0 && w[0].1 <= w[1].1), "seed {seed}: {reported:?}");
    if kinds.contains(&Fault::Torn) {
        return;
    }
    let mut last = claim(&plain).await;
    let existing = existing(&plain).await;
    assert!(
        reported.last().is_none_or(|(id, _)| existing.last() >= Some(id)),
        "seed {seed}: {reported:?}, {existing:?}"
    );
    let id = last.next_checkpoint().0;
    last.log.commit_alone(&manifest_with(&plain, last.log.term(), id, &[]).await).await.unwrap();
}

fn expected(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Invalid | ErrorKind::Corrupt)
}

#[tokio::test]
async fn whoever_takes_over_no_checkpoint_completes_twice() {
    for seed in 0..cases(60) {
        takeovers(seed, &[Fault::NotDone, Fault::AnswerLost]).await;
        takeovers(seed, &Fault::ALL).await;
    }
}

#[tokio::test]
async fn a_stale_coordinator_does_not_believe_in_a_slot_that_was_deleted() {
    for (_dir, storage) in open_all() {
        let mut stale = claim(&storage).await.log;
        stale.commit_alone(&manifest_with(&storage, 1, 1, &[]).await).await.unwrap();
        let mut new = claim(&storage).await.log;
        for id in 2..20 {
            new.commit_alone(&manifest_with(&storage, 2, id, &[]).await).await.unwrap();
            storage.sweep().await.unwrap();
        }
        // The slot that it takes for the next is free again.
        let slots = storage.claims().list("log").await.unwrap();
        assert_eq!(slots.len(), 2, "{slots:?}");
        let manifest = manifest_with(&storage, 1, 2, &[b"stale"]).await;
        assert_eq!(stale.commit_alone(&manifest).await.unwrap_err().kind(), ErrorKind::Fenced);
        // It did create it. Nobody looks there, and the sweep takes it, with its manifest and segment.
        assert_eq!(storage.claims().list("log").await.unwrap().len(), 3);
        let history = storage.history().await.unwrap();
        assert_eq!(history.completed.len(), 1);
        assert_eq!((history.latest().unwrap().checkpoint, history.unreadable.len()), (CheckpointId(19), 0));
        assert_eq!(storage.sweep().await.unwrap().deleted.len(), 3);
        new.commit_alone(&manifest_with(&storage, 2, 20, &[]).await).await.unwrap();
    }
}

#[test]
fn coordinators_that_race_never_complete_a_checkpoint_twice() {
    let dir = tempfile::TempDir::new().unwrap();
    let (goal, completed) = (cases(20) as usize, std::sync::atomic::AtomicUsize::new(0));
    let coordinate = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let storage = Storage::in_dir(dir.path()).unwrap();
        runtime.block_on(async {
            let mut reported = Vec::new();
            while completed.load(Relaxed) < goal {
                let mut claimed = claim_keeping(&storage, 2).await;
                // Others cut the log all the time: that must not look like damage.
                assert!(claimed.history.unreadable.is_empty(), "{:?}", claimed.history);
                for id in claimed.next_checkpoint().0.. {
                    let term = claimed.log.term();
                    match claimed
                        .log
                        .commit_alone(&manifest_with(&storage, term, id, &[&term.0.to_le_bytes()]).await)
                        .await
                    {
                        Ok(committed) => {
                            completed.fetch_add(1, Relaxed);
                            reported.push(committed.completed);
                        }
                        Err(e) => {
                            assert_eq!(e.kind(), ErrorKind::Fenced, "{e}");
                            break;
                        }
                    }
                    storage.sweep().await.unwrap();
                    if id % 7 == 0 {
                        break;
                    }
                }
            }
            reported
        })
    };
    let mut reported: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(coordinate)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    reported.sort_by_key(|completed| completed.slot);
    for pair in reported.windows(2) {
        assert!(pair[0].slot < pair[1].slot && pair[0].checkpoint < pair[1].checkpoint, "{pair:?}");
        assert!(pair[0].term <= pair[1].term, "{pair:?}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let latest = runtime.block_on(existing(&Storage::in_dir(dir.path()).unwrap())).pop();
    assert_eq!(latest, reported.last().map(|completed| completed.checkpoint.0));
}

#[tokio::test]
async fn sleepers_in_the_deleted_part_of_the_log_do_not_believe_each_other() {
    for (_dir, storage) in open_all() {
        // Each claims a slot and falls asleep before the next one.
        let mut sleepers = Vec::new();
        for _ in 0..6 {
            sleepers.push(claim(&storage).await.log);
        }
        let mut last = claim(&storage).await.log;
        for id in 6..9 {
            last.commit_alone(&manifest_with(&storage, last.term(), id, &[]).await).await.unwrap();
        }
        storage.sweep().await.unwrap();
        // In the order of their slots, so that each finds what the one before it created.
        for log in &mut sleepers {
            let manifest = manifest_with(&storage, log.term(), 9, &[]).await;
            assert_eq!(log.commit_alone(&manifest).await.unwrap_err().kind(), ErrorKind::Fenced);
        }
        let history = storage.history().await.unwrap();
        assert_eq!((history.completed.len(), history.unreadable.len()), (1, 0));
        assert_eq!(history.latest().unwrap().checkpoint, CheckpointId(8));
        last.commit_alone(&manifest_with(&storage, last.term(), 9, &[]).await).await.unwrap();
    }
}

#[tokio::test]
async fn a_sweep_that_dies_leaves_the_log_in_one_piece() {
    for fault in [Fault::NotDone, Fault::AnswerLost] {
        for operation in 0.. {
            let storage = Storage::in_memory().unwrap();
            let mut log = claim(&storage).await.log;
            for id in 1..8 {
                log.commit_alone(&manifest_with(&storage, 1, id, &[]).await).await.unwrap();
            }
            let faults = Faults::crash_at(operation, fault).only_writes();
            let swept = faults.wrap(&storage).sweep().await;
            let mut slots: Vec<_> =
                storage.claims().list("log").await.unwrap().into_iter().map(|f| f.name).collect();
            slots.sort();
            let first = 8 - slots.len() as u64;
            assert_eq!(
                slots,
                (first..8).map(|slot| format!("{slot:020}")).collect::<Vec<_>>(),
                "operation {operation}"
            );
            assert!(first == 0 || storage.claims().read("log.cut", 0).await.unwrap().is_some());
            if swept.is_ok() {
                assert!(operation > 7);
                break;
            }
        }
    }
}
