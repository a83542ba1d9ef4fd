//! A window into the checkpoints of a job.

use std::fs;

use crate::support::{Folder, ORDERS_JOB, Orders, assert_same};

#[test]
fn checkpoints_are_listed_verified_and_passed_over_when_damaged() {
    let orders = Orders::new(20_000, 5);
    let folder = Folder::new(ORDERS_JOB);
    folder.write("orders.csv", &orders.csv);
    let mut running = folder.start(&["--set=source.rate=20000", "--set=checkpoint.retained=3"]);
    running.wait_for_checkpoints(4);
    running.kill();

    let listed = folder.strandline(&["checkpoints", "list", "checkpoints"]);
    assert_eq!(listed.code(), 0, "{}", listed.stderr());
    let ids: Vec<u64> =
        listed.stdout().lines().filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect();
    assert!(ids.len() >= 2 && ids.is_sorted(), "{}", listed.stdout());
    assert!(listed.stdout().contains("group-1×2"), "{}", listed.stdout());
    let verified = folder.strandline(&["checkpoints", "verify", "checkpoints"]);
    assert_eq!(verified.code(), 0, "{}", verified.stdout());

    // The manifest of the newest checkpoint gets one flipped bit.
    let newest = ids[ids.len() - 1];
    let bad = manifest(&folder, newest);
    let mut bytes = fs::read(&bad).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&bad, bytes).unwrap();
    let verified = folder.strandline(&["checkpoints", "verify", "checkpoints", &newest.to_string()]);
    assert_eq!(verified.code(), 1);
    assert!(verified.stdout().contains(&format!("checkpoint {newest}: bad")), "{}", verified.stdout());

    let ended = folder.strandline(&["run", "job.toml"]);
    assert_eq!(ended.code(), 0, "{}", ended.stderr());
    assert!(ended.stderr().contains(&format!("checkpoint {newest} cannot be used")), "{}", ended.stderr());
    assert_same(&folder.results("results"), &orders.sums, "the older checkpoint gives the same results");
}

/// The file of the manifest of a checkpoint.
fn manifest(folder: &Folder, checkpoint: u64) -> std::path::PathBuf {
    let mut found = Vec::new();
    let mut folders = vec![folder.path("checkpoints")];
    while let Some(path) = folders.pop() {
        for entry in fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            let text = path.display().to_string();
            if path.is_dir() {
                folders.push(path);
            } else if text.contains("manifest") && is_of(&text, checkpoint) {
                found.push(path);
            }
        }
    }
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

/// Whether the name of a file, `term-checkpoint-hash`, has this checkpoint in it.
fn is_of(path: &str, checkpoint: u64) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    name.split('-').nth(1).and_then(|number| number.parse().ok()) == Some(checkpoint)
}

#[test]
fn a_storage_that_is_not_there_is_said() {
    let folder = Folder::new("");
    let ended = folder.strandline(&["checkpoints", "list", "nowhere"]);
    assert_eq!(ended.code(), 1);
    assert!(ended.stderr().contains("nowhere"), "{}", ended.stderr());
    fs::create_dir(folder.path("empty")).unwrap();
    let ended = folder.strandline(&["checkpoints", "list", "empty"]);
    assert_eq!((ended.code(), ended.stdout().contains("no checkpoints")), (0, true));
}
