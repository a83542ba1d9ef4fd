//! Every damage to the files of a checkpoint is noticed, none is fatal: recovery falls back, or fails with
//! the reason.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use strandline_checkpoint_storage::{
    CommitLog, CommitLogOptions, FileKind, FileName, RecoverOptions, Recovery, Storage, Term, slot_path,
};
use strandline_state_api::host::{OperatorStateEntry, Redistribution};
use strandline_state_api::snapshot::{SegmentName, SegmentRef, SegmentStore};
use strandline_state_api::{CheckpointId, ErrorKind};

use crate::common::{cases, claim, claim_keeping, manifest_of, manifest_with, open_all};

/// All files of a storage by path.
async fn files(storage: &Storage) -> BTreeMap<String, Bytes> {
    let mut files = BTreeMap::new();
    for dir in ["segments", "operator", "manifest"] {
        for file in storage.blobs().list(dir).await.unwrap() {
            let path = format!("{dir}/{}", file.name);
            let bytes = storage.blobs().read(&path, 0..file.len).await.unwrap();
            files.insert(path, bytes);
        }
    }
    for file in storage.claims().list("log").await.unwrap() {
        let path = format!("log/{}", file.name);
        let bytes = storage.claims().read(&path, u64::MAX).await.unwrap().unwrap();
        files.insert(path, bytes);
    }
    files
}

/// Puts other content in the place of a file; `None` deletes it.
async fn replace(storage: &Storage, path: &str, content: Option<Bytes>) {
    // Both kinds of file lie in one store here.
    storage.blobs().delete(path).await.unwrap();
    if let Some(content) = content {
        storage.blobs().put(path, content).await.unwrap();
    }
}

/// Checkpoints 1 and 2, both retained, with operator state of its own file and a shared segment.
async fn two_checkpoints(storage: &Storage) {
    let mut log = claim_keeping(storage, 2).await.log;
    let mut shared = Vec::new();
    for id in 1..=2 {
        let mut manifest = manifest_with(storage, 1, id, &[format!("segment of {id}").as_bytes()]).await;
        let own: Vec<_> = manifest.segments().cloned().collect();
        let trace = manifest.clone();
        manifest = manifest_of(1, id, shared.iter().chain(&own).cloned());
        manifest.trace = trace.trace;
        let state = |len: usize| OperatorStateEntry {
            name: format!("of {len}"),
            redistribution: Redistribution::Union,
            codec: "bytes".into(),
            schema_version: 1,
            elements: vec![vec![id as u8; len]],
        };
        manifest.operators[0].subtasks[0].operator_state = vec![state(5), state(70_000)];
        log.commit_alone(&manifest).await.unwrap();
        shared = own;
    }
}

async fn recover(storage: &Storage) -> strandline_state_api::Result<Recovery> {
    storage.recover(RecoverOptions::default()).await
}

/// What recovery must make of damage to `path`.
async fn check(storage: &Storage, path: &str, what: &str) {
    let shared = path.starts_with("segments/") && path.contains("-00000000000000000001-");
    let newest = path.contains("-00000000000000000002-") || *path == slot_path(2);
    match recover(storage).await {
        Err(e) => {
            assert!(shared, "{what}: {e}");
            assert_eq!(e.kind(), ErrorKind::Corrupt, "{what}");
            assert!(e.to_string().contains(path), "{what}: the file is not named: {e}");
        }
        Ok(recovery) => {
            assert!(!shared, "{what}: not noticed");
            let restored = recovery.restored.as_ref().unwrap().completed.checkpoint.0;
            assert_eq!(restored, if newest { 1 } else { 2 }, "{what}");
            if newest {
                let told =
                    format!("{:?} {:?} {:?}", recovery.skipped, recovery.unreadable, recovery.uncommitted);
                let deleted_end = *path == slot_path(2) && recovery.unreadable.is_empty();
                assert!(
                    told.contains(path) || (deleted_end && !recovery.uncommitted.is_empty()),
                    "{what}: {told}"
                );
            } else if path.starts_with("log/") && *path != slot_path(0) {
                assert!(!recovery.unreadable.is_empty(), "{what}: not noticed");
            } else if path.starts_with("manifest/") || path.starts_with("operator/") {
                // Of the older checkpoint, which recovery need not look at; verification does.
                assert!(!storage.verify(CheckpointId(1)).await.unwrap().is_good(), "{what}: not noticed");
            }
        }
    }
}

#[tokio::test]
async fn every_changed_byte_every_cut_and_every_deletion_is_noticed() {
    let storage = Storage::in_memory().unwrap();
    two_checkpoints(&storage).await;
    let mut random = fastrand::Rng::with_seed(1);
    let mut tried = 0;
    let intact = files(&storage).await;
    assert_eq!(intact.len(), 2 + 2 + 2 + 3, "{:?}", intact.keys());
    for (path, file) in &intact {
        // The large ones are alike for most of their length.
        let step = (file.len() / 1_000).max(1);
        let mut damages: Vec<(String, Option<Bytes>)> = vec![("deleted".into(), None)];
        for at in (0..file.len()).step_by(step) {
            let (mut flipped, bit) = (file.to_vec(), random.u8(0..8));
            flipped[at] ^= 1 << bit;
            damages.push((format!("bit {bit} of byte {at} flipped"), Some(flipped.into())));
            if random.u8(0..8) == 0 {
                damages.push((format!("cut to {at} bytes"), Some(file.slice(..at))));
            }
        }
        damages.push(("one byte more".into(), Some([file, &[0][..]].concat().into())));
        for (damage, content) in damages {
            replace(&storage, path, content).await;
            check(&storage, path, &format!("{path}: {damage}")).await;
            tried += 1;
        }
        replace(&storage, path, Some(file.clone())).await;
    }
    assert!(recover(&storage).await.unwrap().is_clean(), "the intact files do not recover");
    assert!(tried > 3_000, "{tried}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(48) as u32))]

    #[test]
    fn many_damages_at_once_never_panic_or_start_empty(
        damages in prop::collection::vec(
            (any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0u8..4, any::<u8>()),
            1..6,
        ),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            for (_dir, storage) in open_all() {
                two_checkpoints(&storage).await;
                let intact = files(&storage).await;
                let paths: Vec<_> = intact.keys().cloned().collect();
                for (which, at, how, byte) in &damages {
                    let path = &paths[which.index(paths.len())];
                    let mut content = intact[path].to_vec();
                    let at = at.index(content.len());
                    match how {
                        0 => content[at] ^= byte.max(&1),
                        1 => content.truncate(at),
                        2 => content.extend(std::iter::repeat_n(*byte, at)),
                        _ => {
                            replace(&storage, path, None).await;
                            continue;
                        }
                    }
                    replace(&storage, path, Some(content.into())).await;
                }
                // The end of the log may be lost, which only shows in what is not committed; all else must be
                // noticed.
                if let Ok(recovery) = recover(&storage).await {
                    assert!(recovery.restored.is_some() || !recovery.uncommitted.is_empty(), "{recovery:?}");
                }
                let _ = storage.sweep().await;
                let options = CommitLogOptions::new("next");
                let _ = CommitLog::claim(&storage, options, CommitLog::random_tokens()).await;
            }
        });
    }
}

#[tokio::test]
async fn hostile_lengths_and_names_are_refused_before_they_are_believed() {
    let storage = Storage::in_memory().unwrap();
    let mut log = claim(&storage).await.log;
    let name = FileName::of(FileKind::Segment, 1, CheckpointId(1), b"x").to_string();
    storage.blobs().put(&format!("segments/{name}"), Bytes::from_static(b"x")).await.unwrap();
    let hostile = [(name.as_str(), u64::MAX), ("../log/00000000000000000000", 1), ("", 0), (&name[1..], 1)];
    for (id, (name, len)) in (1..).zip(hostile) {
        let segment = SegmentRef { name: SegmentName(name.into()), len };
        assert_eq!(storage.reader().read(&segment, 0..len).await.unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(storage.verify_segment(&segment).await.unwrap_err().kind(), ErrorKind::Corrupt);
        log.commit_alone(&manifest_of(1, id, [segment])).await.unwrap();
        assert_eq!(recover(&storage).await.unwrap_err().kind(), ErrorKind::Corrupt);
    }
    let short = SegmentRef { name: SegmentName(name), len: 1 };
    #[expect(clippy::reversed_empty_ranges, reason = "this is the hostile range")]
    let ranges = [0..2, 1..0, u64::MAX..0];
    for range in ranges {
        assert_eq!(storage.reader().read(&short, range).await.unwrap_err().kind(), ErrorKind::Corrupt);
    }
    assert_eq!(storage.reader().read(&short, 0..1).await.unwrap(), b"x");
}

#[tokio::test]
async fn a_newer_format_is_named_and_not_taken_for_damage() {
    use xxhash_rust::xxh3::xxh3_64;
    let storage = Storage::in_memory().unwrap();
    two_checkpoints(&storage).await;
    let newer = |file: &Bytes| {
        let mut file = file.to_vec();
        file[8..12].copy_from_slice(&9u32.to_le_bytes());
        let body = file.len() - 8;
        let checksum = xxh3_64(&file[..body]);
        file[body..].copy_from_slice(&checksum.to_le_bytes());
        Bytes::from(file)
    };
    // A log that a newer program wrote to is not for this one: no falling back behind its checkpoints.
    let path = slot_path(2);
    let file = files(&storage).await[&path].clone();
    replace(&storage, &path, Some(newer(&file))).await;
    let error = recover(&storage).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Incompatible);
    assert!(error.to_string().contains("version 9") && error.to_string().contains("version 2"), "{error}");
    let claimed = CommitLog::claim(&storage, CommitLogOptions::new("old"), CommitLog::random_tokens()).await;
    assert_eq!(claimed.unwrap_err().kind(), ErrorKind::Incompatible);
}

#[tokio::test]
async fn a_lost_log_is_never_an_empty_start() {
    for (_dir, storage) in open_all() {
        two_checkpoints(&storage).await;
        for slot in 0..=2 {
            storage.claims().delete(&slot_path(slot)).await.unwrap();
        }
        let error =
            CommitLog::claim(&storage, CommitLogOptions::new("next"), CommitLog::random_tokens()).await;
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Corrupt);
    }
}

#[tokio::test]
async fn a_damaged_slot_is_neither_claimed_over_nor_in_the_way() {
    for (_dir, storage) in open_all() {
        two_checkpoints(&storage).await;
        let (path, junk) = (slot_path(2), Bytes::from_static(b"junk"));
        replace(&storage, &path, Some(junk.clone())).await;
        let mut claimed = claim_keeping(&storage, 2).await;
        // Term 2 may be taken by what cannot be read, and so may checkpoint 2.
        assert_eq!((claimed.log.term(), claimed.next_checkpoint()), (Term(3), CheckpointId(3)));
        let recovery = recover(&storage).await.unwrap();
        assert_eq!(recovery.restored.unwrap().completed.checkpoint, CheckpointId(1));
        assert_eq!((recovery.unreadable.len(), recovery.uncommitted.len()), (1, 1));
        let report = storage.sweep().await.unwrap();
        assert!(report.deleted.is_empty() && report.unreadable_slots.len() == 1);
        for id in 3..=4 {
            let mut manifest = manifest_with(&storage, 3, id, &[b"later"]).await;
            manifest.restored_from = Some(CheckpointId(1));
            assert_eq!(files(&storage).await[&path], junk);
            claimed.log.commit_alone(&manifest).await.unwrap();
        }
        // It is below the floor now.
        let report = storage.sweep().await.unwrap();
        assert!(report.unreadable_slots.is_empty() && report.deleted.contains(&path), "{report:?}");
        assert!(recover(&storage).await.unwrap().is_clean());
    }
}

#[tokio::test]
async fn a_store_that_fails_is_no_reason_to_fall_back() {
    use strandline_checkpoint_storage::faults::{Fault, Faults};
    let storage = Storage::in_memory().unwrap();
    two_checkpoints(&storage).await;
    let count = Faults::never();
    recover(&count.wrap(&storage)).await.unwrap();
    assert!(count.operations() > 10);
    for operation in 0..count.operations() {
        let error = recover(&Faults::at(operation, Fault::NotDone).wrap(&storage)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "operation {operation}");
    }
}

#[tokio::test]
async fn an_entry_of_another_log_is_not_taken_for_one_of_this() {
    let [storage, other] = [Storage::in_memory().unwrap(), Storage::in_memory().unwrap()];
    two_checkpoints(&storage).await;
    two_checkpoints(&other).await;
    // Whole, of the right slot, and naming a manifest that both storages hold: only the entry after it knows
    // better.
    let path = slot_path(1);
    let foreign = files(&other).await[&path].clone();
    replace(&storage, &path, Some(foreign)).await;
    let history = storage.history().await.unwrap();
    assert_eq!(history.unreadable.iter().map(|slot| slot.slot).collect::<Vec<_>>(), [1]);
    assert_eq!(history.completed.len(), 1);
}

#[tokio::test]
async fn an_entry_under_the_name_of_another_is_noticed() {
    let storage = Storage::in_memory().unwrap();
    two_checkpoints(&storage).await;
    let first = files(&storage).await[&slot_path(1)].clone();
    replace(&storage, &slot_path(2), Some(first)).await;
    let history = storage.history().await.unwrap();
    assert_eq!(history.unreadable.iter().map(|slot| slot.slot).collect::<Vec<_>>(), [2]);
    let mut completed = history.latest().unwrap().clone();
    assert!(completed.manifest_name().is_ok());
    completed.checkpoint = CheckpointId(2);
    assert_eq!(completed.manifest_name().unwrap_err().kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn when_nothing_of_the_log_can_be_read_no_term_is_claimed() {
    for (_dir, storage) in open_all() {
        let mut log = claim(&storage).await.log;
        for id in 1..=2 {
            log.commit_alone(&manifest_with(&storage, 1, id, &[b"one"]).await).await.unwrap();
        }
        storage.sweep().await.unwrap();
        for slot in 1..=2 {
            replace(&storage, &slot_path(slot), Some(Bytes::from_static(b"junk"))).await;
        }
        let claimed =
            CommitLog::claim(&storage, CommitLogOptions::new("next"), CommitLog::random_tokens()).await;
        let error = claimed.unwrap_err();
        assert!(error.kind() == ErrorKind::Corrupt && error.to_string().contains(&slot_path(2)), "{error}");
        assert_eq!(recover(&storage).await.unwrap_err().kind(), ErrorKind::Corrupt);
        // Nothing was added.
        assert_eq!(storage.claims().list("log").await.unwrap().len(), 2);
    }
}

#[tokio::test]
async fn what_a_job_fell_back_to_is_not_pushed_out_by_what_was_damaged() {
    for (_dir, storage) in open_all() {
        two_checkpoints(&storage).await;
        let newest = storage.history().await.unwrap().latest().unwrap().manifest_name().unwrap().path();
        replace(&storage, &newest, None).await;
        let mut log = claim_keeping(&storage, 2).await.log;
        let restored = recover(&storage).await.unwrap().restored.unwrap();
        assert_eq!(restored.completed.checkpoint, CheckpointId(1));
        let mut manifest = manifest_with(&storage, 2, 3, &[b"three"]).await;
        manifest.restored_from = Some(CheckpointId(1));
        let committed = log.commit_alone(&manifest).await.unwrap();
        storage.sweep().await.unwrap();
        // Two are to be kept that can be restored: 3, and 1 and not 2.
        replace(&storage, &committed.completed.manifest_name().unwrap().path(), None).await;
        let recovery = recover(&storage).await.unwrap();
        assert_eq!(recovery.restored.unwrap().completed.checkpoint, CheckpointId(1));
        assert_eq!(recovery.skipped.len(), 1, "2 was given up");
    }
}
