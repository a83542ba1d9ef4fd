//! The life of a storage without faults.

use crate::common::{claim, claim_keeping, manifest_with, open_all};
use strandline_checkpoint_storage::{
    CheckpointKind, Depth, PortableFormat, RecoverFrom, RecoverOptions, Term,
};
use strandline_state_api::host::{OperatorStateEntry, Redistribution};
use strandline_state_api::{CheckpointId, ErrorKind};

#[tokio::test]
async fn what_is_committed_is_recovered() {
    for (_dir, storage) in open_all() {
        let mut claimed = claim(&storage).await;
        assert_eq!((claimed.log.term(), claimed.next_checkpoint()), (Term(1), CheckpointId(1)));
        let mut manifest = manifest_with(&storage, 1, 1, &[b"one", b"two"]).await;
        let state = |name: &str, len: usize| OperatorStateEntry {
            name: name.into(),
            redistribution: Redistribution::Split,
            codec: "bytes".into(),
            schema_version: 1,
            elements: vec![vec![1; len], vec![], vec![255; 3]],
        };
        let mut rules = state("rules", 5);
        (rules.redistribution, rules.schema_version) = (Redistribution::Broadcast, 7);
        manifest.operators[0].subtasks[0].operator_state =
            vec![state("small", 10), state("large", 100_000), rules];
        let committed = claimed.log.commit_alone(&manifest).await.unwrap();
        assert_eq!(committed.retained, std::slice::from_ref(&committed.completed));

        let recovery = storage.recover(RecoverOptions::default()).await.unwrap();
        assert!(recovery.is_clean() && recovery.uncommitted.is_empty());
        assert_eq!(recovery.restored.unwrap().manifest, manifest);
        assert_eq!(storage.verify(CheckpointId(1)).await.unwrap().files, 4);
    }
}

#[tokio::test]
async fn a_manifest_without_log_entry_is_no_checkpoint() {
    for (_dir, storage) in open_all() {
        claim(&storage).await;
        let manifest = manifest_with(&storage, 1, 1, &[b"one"]).await;
        storage.write_manifest(&manifest).await.unwrap();
        let recovery = storage.recover(RecoverOptions::default()).await.unwrap();
        assert!(recovery.restored.is_none());
        assert_eq!(recovery.uncommitted.len(), 1);
    }
}

#[tokio::test]
async fn a_newer_term_fences_the_older_one() {
    for (_dir, storage) in open_all() {
        let mut old = claim(&storage).await.log;
        old.commit_alone(&manifest_with(&storage, 1, 1, &[]).await).await.unwrap();
        let mut new = claim(&storage).await;
        assert_eq!(new.history.completed.len(), 1);
        assert_eq!((new.log.term(), new.next_checkpoint()), (Term(2), CheckpointId(2)));
        let error = old.commit_alone(&manifest_with(&storage, 1, 2, &[]).await).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Fenced);
        assert_eq!(old.check().await.unwrap_err().kind(), ErrorKind::Fenced);
        new.log.check().await.unwrap();
        new.log.commit_alone(&manifest_with(&storage, 2, 2, &[]).await).await.unwrap();
        assert_eq!(storage.history().await.unwrap().latest().unwrap().term, 2);
    }
}

#[tokio::test]
async fn retained_checkpoints_stay_and_the_rest_goes() {
    for (_dir, storage) in open_all() {
        let mut log = claim_keeping(&storage, 2).await.log;
        for id in 1..=5 {
            let mut manifest = manifest_with(&storage, 1, id, &[format!("segment {id}").as_bytes()]).await;
            if id == 2 {
                manifest.kind = CheckpointKind::Savepoint;
            }
            log.commit_alone(&manifest).await.unwrap();
        }
        let report = storage.sweep().await.unwrap();
        let ids: Vec<_> = report.retained.iter().map(|completed| completed.checkpoint.0).collect();
        assert_eq!(ids, [2, 4, 5]);
        assert_eq!(log.retained(), report.retained);
        // Two manifests, two segments; the claim of the term and three slots.
        assert_eq!(report.deleted.len(), 8, "{:?}", report.deleted);
        assert!(storage.sweep().await.unwrap().deleted.is_empty());
        for id in ids {
            assert!(storage.verify(CheckpointId(id)).await.unwrap().is_good(), "{id}");
        }
        // The savepoint is far below the floor, and still found, by a new coordinator too.
        let options = RecoverOptions { from: RecoverFrom::Checkpoint(CheckpointId(2)), ..Default::default() };
        assert!(storage.recover(options).await.unwrap().restored.is_some());
        let claimed = claim_keeping(&storage, 2).await;
        assert_eq!(claimed.history.completed.len(), 3);
        assert_eq!(claimed.next_checkpoint(), CheckpointId(6));
    }
}

#[tokio::test]
async fn numbers_and_rights_are_checked() {
    for (_dir, storage) in open_all() {
        let mut log = claim(&storage).await.log;
        let manifest = manifest_with(&storage, 1, 4, &[]).await;
        log.commit_alone(&manifest).await.unwrap();
        let again = log.commit_alone(&manifest).await.unwrap_err();
        assert_eq!(again.kind(), ErrorKind::Invalid);
        let other_term = manifest_with(&storage, 7, 5, &[]).await;
        assert_eq!(log.commit_alone(&other_term).await.unwrap_err().kind(), ErrorKind::Invalid);
        let missing = RecoverOptions { from: RecoverFrom::Checkpoint(CheckpointId(9)), ..Default::default() };
        assert_eq!(storage.recover(missing).await.unwrap_err().kind(), ErrorKind::NotFound);
    }
}

#[tokio::test]
async fn a_look_into_segments_finds_what_hashes_cannot() {
    use strandline_snapshot_format::{SegmentKind, SegmentWriter, WriterOptions};
    for (_dir, storage) in open_all() {
        let mut log = claim_keeping(&storage, 2).await.log;
        let writer = SegmentWriter::new(Vec::new(), SegmentKind::Base, WriterOptions::default()).unwrap();
        let good = writer.finish().unwrap().bytes;
        log.commit_alone(&manifest_with(&storage, 1, 1, &[&good]).await).await.unwrap();
        // As stored as the good one, but by a writer gone wrong.
        let bad = &good[..good.len() - 1];
        log.commit_alone(&manifest_with(&storage, 1, 2, &[&good, bad]).await).await.unwrap();
        let completed = storage.completed().await.unwrap();
        let mut bad_files = Vec::new();
        for completed in &completed {
            assert!(storage.verify(completed.checkpoint).await.unwrap().is_good());
            let report =
                storage.verify_with(completed, Depth::Contents, Some(&PortableFormat)).await.unwrap();
            bad_files.push(report.bad.len());
        }
        assert_eq!(bad_files, [0, 1]);
    }
}

/// Calls go into tasks of a runtime with threads.
#[test]
fn futures_can_be_sent_to_other_threads() {
    fn sent<T: Send>(_: T) {}
    let storage = strandline_checkpoint_storage::Storage::in_memory().unwrap();
    sent(storage.recover(RecoverOptions::default()));
    sent(storage.sweep());
    sent(async move {
        let mut log = claim(&storage).await.log;
        let manifest = manifest_with(&storage, 1, 1, &[]).await;
        log.commit_alone(&manifest).await.unwrap();
        log.check().await.unwrap();
    });
}
