//! How closely a restore looks, and whether it may fall back.

use bytes::Bytes;
use strandline_checkpoint_storage::faults::Faults;
use strandline_checkpoint_storage::{Depth, OnDamage, RecoverOptions, Storage, StorageOptions};
use strandline_state_api::{ErrorKind, Result};

use crate::common::{claim_keeping, manifest_with};

/// A storage with two checkpoints, of which `damage` hits the only segment of the second.
async fn damaged(damage: impl AsyncFnOnce(&Storage, &str)) -> Storage {
    let storage = Storage::in_memory().unwrap();
    let mut log = claim_keeping(&storage, 2).await.log;
    let mut newest = None;
    for (id, content) in [(1, b"one"), (2, b"two")] {
        let manifest = manifest_with(&storage, 1, id, &[content]).await;
        log.commit_alone(&manifest).await.unwrap();
        newest = manifest.segments().next().map(|segment| format!("segments/{}", segment.name));
    }
    damage(&storage, &newest.unwrap()).await;
    storage
}

async fn recover(storage: &Storage, depth: Depth, on_damage: OnDamage) -> Result<u64> {
    let options = RecoverOptions { depth, on_damage, ..RecoverOptions::default() };
    let recovery = storage.recover(options).await?;
    Ok(recovery.restored.unwrap().completed.checkpoint.0)
}

#[tokio::test]
async fn a_restore_looks_as_closely_as_it_is_to() {
    let missing = damaged(async |storage, file| storage.blobs().delete(file).await.unwrap()).await;
    let changed =
        damaged(async |storage, file| storage.blobs().put(file, Bytes::from_static(b"owt")).await.unwrap());
    let changed = changed.await;
    let cases = [(Depth::Manifest, 2, 2), (Depth::Lengths, 1, 2), (Depth::Contents, 1, 1)];
    for (depth, of_missing, of_changed) in cases {
        for (storage, chosen) in [(&missing, of_missing), (&changed, of_changed)] {
            assert_eq!(recover(storage, depth, OnDamage::FallBack).await.unwrap(), chosen, "{depth:?}");
            let refused = recover(storage, depth, OnDamage::Refuse).await;
            match chosen {
                2 => assert_eq!(refused.unwrap(), 2),
                _ => {
                    let error = refused.unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::Corrupt, "{depth:?}");
                    assert!(error.to_string().contains("checkpoint 2"), "{error}");
                }
            }
        }
    }
}

/// Large operator state lies in a file beside the manifest, and is read with it: where that is damaged, a
/// restore falls back, however little it looks at.
#[tokio::test]
async fn a_manifest_whose_operator_state_is_gone_is_damaged() {
    let storage = Storage::in_memory().unwrap();
    let mut log = claim_keeping(&storage, 2).await.log;
    for id in [1, 2] {
        let mut manifest = manifest_with(&storage, 1, id, &[]).await;
        manifest.operators[0].subtasks[0].positions = vec![vec![id as u8; 100_000]];
        log.commit_alone(&manifest).await.unwrap();
    }
    for file in storage.blobs().list("operator").await.unwrap() {
        if file.name.contains(&format!("-{:020}-", 2)) {
            storage.blobs().delete(&format!("operator/{}", file.name)).await.unwrap();
        }
    }
    assert_eq!(recover(&storage, Depth::Manifest, OnDamage::FallBack).await.unwrap(), 1);
    let error = recover(&storage, Depth::Manifest, OnDamage::Refuse).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
}

/// The limit decides what stands in a manifest, also where faults are injected; any reader follows.
#[tokio::test]
async fn long_lists_leave_the_manifest_at_the_limit_that_is_set() {
    let plain = Storage::in_memory().unwrap();
    let at_nine = StorageOptions::default().inline_limit(9);
    let storage = plain.clone().with_options(at_nine.clone());
    assert_eq!(Faults::never().wrap(&storage).options(), &at_nine);
    let mut log = claim_keeping(&storage, 2).await.log;
    for (id, files) in [(9, 0), (10, 1)] {
        let mut manifest = manifest_with(&storage, 1, id, &[]).await;
        manifest.operators[0].subtasks[0].positions = vec![vec![7; 4], vec![8; id as usize - 4]];
        let committed = log.commit_alone(&manifest).await.unwrap();
        assert_eq!(storage.blobs().list("operator").await.unwrap().len(), files, "{id} bytes");
        assert_eq!(plain.read_manifest(&committed.completed).await.unwrap(), manifest);
    }
}
