//! Lost answers, and a crash at every single operation: the old checkpoint or the new one, nothing else.

use strandline_checkpoint_storage::faults::{Fault, Faults};
use strandline_checkpoint_storage::{LOG_DIR, Storage};
use strandline_state_api::{ErrorKind, Result};

use super::StorageSubject;
use super::place::{claim, commit, existing, files, recover};
use crate::effort::programs;
use crate::wait::wait;

/// Claims and commits three checkpoints that build on each other, sweeping after each; `told` collects those
/// that were reported.
async fn job(storage: &Storage, told: &mut Vec<u64>) -> Result<()> {
    let mut claimed = claim(storage, 1).await?;
    let mut segments = Vec::new();
    for id in 1..=3 {
        segments = commit(storage, &mut claimed.log, id, &segments).await?;
        told.push(id);
        storage.sweep().await?;
    }
    Ok(())
}

/// How many operations the job takes when nothing fails.
fn operations_of_a_job(subject: &StorageSubject) -> u64 {
    let counted = Faults::never();
    wait(job(&counted.wrap(&subject.place()()), &mut Vec::new())).unwrap();
    counted.operations()
}

/// The process dies in any operation, done or not done: what was reported is there, and the next one goes on.
pub fn a_crash_at_any_operation(subject: &StorageSubject) {
    crash_everywhere(subject, &[Fault::NotDone, Fault::AnswerLost]);
}

/// The same, where the write under way leaves the first half of an object behind. Slots are claimed whole or
/// not at all, so only objects are torn.
pub fn a_torn_write_at_any_operation(subject: &StorageSubject) {
    let operations = operations_of_a_job(subject);
    for operation in 0..operations {
        let open = subject.place();
        wait(async {
            let faults = Faults::crash_at(operation, Fault::Torn);
            let torn = Storage::from_parts(
                "objects are torn",
                std::sync::Arc::clone(faults.wrap(&open()).blobs()),
                std::sync::Arc::clone(open().claims()),
            );
            let mut told = Vec::new();
            let ended = job(&torn, &mut told).await;
            let what = format!("torn at operation {operation}, after {told:?}");
            assert!(ended.is_ok() || faults.injected() > 0, "{what}: {ended:?}");
            goes_on(&open(), &told, &what).await;
        });
    }
}

fn crash_everywhere(subject: &StorageSubject, faults: &[Fault]) {
    for operation in 0..operations_of_a_job(subject) {
        for fault in faults {
            let open = subject.place();
            wait(async {
                let mut told = Vec::new();
                let error = job(&Faults::crash_at(operation, *fault).wrap(&open()), &mut told).await;
                let error = error.expect_err("the process is dead");
                let what = format!("{fault:?} at operation {operation}, after {told:?}");
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{what}: {error}");
                goes_on(&open(), &told, &what).await;
            });
        }
    }
}

/// After a crash: what was reported exists (and at most the one after it, unreported), recovery finds it, the
/// next coordinator commits on top, and a sweep leaves exactly what that one needs.
async fn goes_on(storage: &Storage, told: &[u64], what: &str) {
    let exists = existing(storage).await.unwrap_or_else(|e| panic!("{what}: {e}")).last().copied();
    let last_told = told.last().copied();
    let under_way = last_told.unwrap_or(0) + 1;
    assert!(exists == last_told || exists == Some(under_way), "{what}: {exists:?} exists");
    let mut next = claim(storage, 1).await.unwrap_or_else(|e| panic!("{what}: {e}"));
    let recovery = recover(storage).await.unwrap_or_else(|e| panic!("{what}: {e}"));
    assert!(recovery.is_clean(), "{what}: {recovery:?}");
    let restored = recovery.restored.map(|restored| restored.manifest);
    assert_eq!(restored.as_ref().map(|manifest| manifest.checkpoint.0), exists, "{what}");
    let older: Vec<_> = restored.iter().flat_map(|manifest| manifest.segments().cloned()).collect();
    let id = next.next_checkpoint().0;
    let segments = commit(storage, &mut next.log, id, &older).await.unwrap_or_else(|e| panic!("{what}: {e}"));
    storage.sweep().await.unwrap_or_else(|e| panic!("{what}: {e}"));
    assert_eq!(existing(storage).await.unwrap(), [id], "{what}");
    // The segments, one manifest, one file of operator state; of the log its end: the newest slot and at most
    // the one before.
    let (files, slots) = (files(storage).await.unwrap(), storage.claims().list(LOG_DIR).await.unwrap());
    assert_eq!(files.len(), segments.len() + 2, "{what}: the sweep left {files:?}");
    assert!(slots.len() <= 2, "{what}: the sweep left {slots:?}");
}

/// One operation fails, done or not done, and the process lives: asking again settles it, and each checkpoint
/// completes exactly once.
pub fn a_lost_answer_at_any_operation(subject: &StorageSubject) {
    for fault in [Fault::NotDone, Fault::AnswerLost] {
        for operation in 0..operations_of_a_job(subject) {
            let open = subject.place();
            wait(async {
                let faults = Faults::at(operation, fault);
                let storage = faults.wrap(&open());
                let what = format!("{fault:?} at operation {operation}");
                let mut claimed = loop {
                    match claim(&storage, 3).await {
                        Ok(claimed) => break claimed,
                        Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{what}: {error}"),
                    }
                };
                for id in 1..=3 {
                    while let Err(error) = commit(&storage, &mut claimed.log, id, &[]).await {
                        assert_eq!(error.kind(), ErrorKind::Unavailable, "{what}: {error}");
                    }
                }
                assert_eq!(existing(&open()).await.unwrap(), [1, 2, 3], "{what}");
            });
        }
    }
}

/// A store that fails often and at random: a job that asks again until it knows completes all of its
/// checkpoints, in order, and nothing that it sweeps was needed.
pub fn many_faults_at_random(subject: &StorageSubject) {
    for seed in 0..programs(10) {
        let open = subject.place();
        wait(async {
            let faults = Faults::random(seed, 0.2, &[Fault::NotDone, Fault::AnswerLost]);
            let storage = faults.wrap(&open());
            let mut claimed = loop {
                if let Ok(claimed) = claim(&storage, 2).await {
                    break claimed;
                }
            };
            let mut segments = Vec::new();
            for id in 1..=6 {
                segments = loop {
                    match commit(&storage, &mut claimed.log, id, &segments).await {
                        Ok(segments) => break segments,
                        Err(error) => {
                            assert_eq!(error.kind(), ErrorKind::Unavailable, "seed {seed}: {error}");
                        }
                    }
                };
                drop(storage.sweep().await);
            }
            faults.stop();
            storage.sweep().await.unwrap();
            assert_eq!(existing(&open()).await.unwrap(), [5, 6], "seed {seed}");
        });
    }
}
