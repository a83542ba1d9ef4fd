//! Faults that aim: by kind, path and number of the call.

use strandline_checkpoint_storage::faults::{Fault, Faults, Operation, Target};
use strandline_checkpoint_storage::{Depth, OnDamage, RecoverOptions, Storage};
use strandline_state_api::{CheckpointId, ErrorKind};

use crate::common::{claim, claim_keeping, manifest_with};

#[tokio::test]
async fn a_fault_meets_the_call_that_it_names_and_no_other() {
    let plain = Storage::in_memory().unwrap();
    let faults = Faults::on(Target::of(Operation::Put).path("manifest/").nth(1), Fault::NotDone);
    let storage = faults.wrap(&plain);
    let mut log = claim(&storage).await.log;
    for (id, committed) in [(1, true), (2, false), (3, true)] {
        let manifest = manifest_with(&storage, 1, id, &[&[id as u8]]).await;
        let ended = log.commit_alone(&manifest).await;
        assert_eq!(ended.is_ok(), committed, "checkpoint {id}: {ended:?}");
        if let Err(error) = ended {
            assert!(error.context("file").is_some_and(|file| file.starts_with("manifest/")), "{error}");
        }
    }
    assert_eq!(faults.injected(), 1);
}

#[tokio::test]
async fn several_targets_kinds_and_times() {
    let plain = Storage::in_memory().unwrap();
    let mut log = claim_keeping(&plain, 4).await.log;
    log.commit_alone(&manifest_with(&plain, 1, 1, &[b"one"]).await).await.unwrap();
    let faults =
        Faults::on(Target::of(Operation::Len).or(Operation::Read).path("segments/").times(2), Fault::NotDone);
    faults.add(Target::of(Operation::List).matching(|dir| dir == "log").from(3), Fault::NotDone);
    let storage = faults.wrap(&plain);
    for (call, good) in [(1, false), (2, false), (3, true), (4, false)] {
        let recovered = storage.recover(RecoverOptions { depth: Depth::Lengths, ..Default::default() }).await;
        assert_eq!(recovered.is_ok(), good, "call {call}: {recovered:?}");
        let kind = recovered.err().map_or(ErrorKind::Unavailable, |error| error.kind());
        assert_eq!(kind, ErrorKind::Unavailable, "call {call}");
    }
    faults.stop();
    assert!(storage.recover(RecoverOptions::default()).await.unwrap().is_clean());
}

/// A process is held in its start, and its successor replaces all checkpoints that it has seen.
#[tokio::test]
async fn what_a_successor_has_replaced_is_not_damaged() {
    let plain = Storage::in_memory().unwrap();
    let mut log = claim(&plain).await.log;
    log.commit_alone(&manifest_with(&plain, 1, 1, &[b"one"]).await).await.unwrap();
    let faults = Faults::on(Target::of(Operation::List).path("manifest").nth(0), Fault::Held);
    let storage = faults.wrap(&plain);
    for on_damage in [OnDamage::FallBack, OnDamage::Refuse] {
        let options = RecoverOptions { on_damage, ..RecoverOptions::default() };
        let mut recovery = Box::pin(storage.recover(options));
        if on_damage == OnDamage::FallBack {
            assert!(futures::poll!(&mut recovery).is_pending());
            let mut next = claim(&plain).await.log;
            for id in [2, 3] {
                let mut manifest = manifest_with(&plain, 2, id, &[&[id as u8]]).await;
                manifest.restored_from = Some(CheckpointId(1));
                next.commit_alone(&manifest).await.unwrap();
            }
            plain.sweep().await.unwrap();
            faults.release();
        }
        let recovery = recovery.await.unwrap();
        assert!(recovery.is_clean(), "{recovery:?}");
        assert_eq!(recovery.restored.unwrap().completed.checkpoint, CheckpointId(3));
    }
}

/// Creates are sent once by a store. Whoever needs no more than that the object exists sends them again: the
/// mark of a log that was cut, and the record of the owner.
#[tokio::test]
async fn creates_whose_answers_are_lost_are_sent_again() {
    for fault in [Fault::NotDone, Fault::AnswerLost] {
        let plain = Storage::in_memory().unwrap();
        let faults = Faults::on(Target::of(Operation::Claim).path("log.cut").times(3), fault);
        faults.add(Target::of(Operation::Claim).path("owner/").times(3), fault);
        let storage = faults.wrap(&plain);
        storage.belong_to("job", None).await.unwrap();
        assert_eq!(plain.owner().await.unwrap().as_deref(), Some("job"), "{fault:?}");
        assert_eq!(plain.claims().list("owner").await.unwrap().len(), 1, "{fault:?}");
        for id in 1..=4 {
            let mut log = claim(&storage).await.log;
            log.commit_alone(&manifest_with(&storage, id, id, &[b"one"]).await).await.unwrap();
        }
        storage.sweep().await.unwrap();
        assert!(plain.claims().read("log.cut", 0).await.unwrap().is_some(), "{fault:?}");
        let expected = if fault == Fault::NotDone { 6 } else { 4 };
        assert_eq!(faults.injected(), expected, "{fault:?}: no fault is left");
    }
}

#[tokio::test]
async fn a_crash_in_a_call_is_followed_by_nothing() {
    let plain = Storage::in_memory().unwrap();
    let faults = Faults::crash_on(Target::of(Operation::Claim).path("log/").nth(1), Fault::AnswerLost);
    let storage = faults.wrap(&plain);
    let mut log = claim(&storage).await.log;
    let manifest = manifest_with(&storage, 1, 1, &[b"one"]).await;
    assert_eq!(log.commit_alone(&manifest).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(storage.completed().await.is_err(), "it does not read either");
    assert_eq!(plain.completed().await.unwrap().len(), 1, "what it had asked for last was done");
}

#[tokio::test]
async fn a_call_that_is_held_is_done_once_it_is_released() {
    let plain = Storage::in_memory().unwrap();
    let faults = Faults::on(Target::of(Operation::Put).path("segments/").nth(0), Fault::Held);
    faults.add(Target::of(Operation::Put).path("segments/").nth(1), Fault::Hangs);
    let store = faults.wrap(&plain).segments(1, CheckpointId(1));
    use strandline_state_api::snapshot::SegmentStore as _;
    let mut held = Box::pin(store.put(b"held".to_vec()));
    assert!(futures::poll!(&mut held).is_pending());
    let mut hangs = Box::pin(store.put(b"hangs".to_vec()));
    assert!(futures::poll!(&mut hangs).is_pending());
    assert!(plain.blobs().list("segments").await.unwrap().is_empty());
    faults.wait_injected(2);
    faults.release();
    held.await.unwrap();
    assert!(futures::poll!(&mut hangs).is_pending(), "it hangs for ever");
    assert_eq!(plain.blobs().list("segments").await.unwrap().len(), 1);
}
