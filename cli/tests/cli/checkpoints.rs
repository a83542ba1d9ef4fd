//! The commands that inspect checkpoints.

use std::fs;
use std::num::NonZeroUsize;

use serde_json::Value;
use strandline_backend_memory::MemoryBackend;
use strandline_checkpoint_storage::{
    CheckpointKind, CommitLog, CommitLogOptions, Manifest, SoloJob, Storage,
};
use strandline_state_api::{CheckpointId, ValueDescriptor};

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

#[test]
fn compat_compares_a_new_version_with_a_checkpoint_before_it_runs() {
    let orders = Orders::new(20_000, 6);
    let folder = Folder::new(ORDERS_JOB);
    folder.write("orders.csv", &orders.csv);
    let mut running = folder.start(&["--set=source.rate=20000"]);
    running.wait_for_checkpoints(1);
    running.kill();

    let same = folder.strandline(&["checkpoints", "compat", "checkpoints", "job.toml"]);
    assert_eq!(same.code(), 0, "{}{}", same.stdout(), same.stderr());
    assert!(same.stdout().contains("group-1") && same.stdout().contains("as it is"), "{}", same.stdout());

    // The same from a file, in which a state has another codec, one is gone and one is new.
    let schema = folder.strandline(&["schema", "job.toml"]).stdout();
    folder.write("schema.json", &schema);
    let same = folder.strandline(&["checkpoints", "compat", "checkpoints", "schema.json"]);
    assert_eq!(same.code(), 0, "{}{}", same.stdout(), same.stderr());
    let mut changed: Value = serde_json::from_str(&schema).unwrap();
    let operators = changed["operators"].as_array_mut().unwrap();
    let group = operators.iter_mut().find(|operator| operator["id"] == "group-1").unwrap();
    group["states"][0]["value_codec"] = "another".into();
    group["states"][1]["name"] = "another".into();
    folder.write("schema.json", &changed.to_string());
    let refused = folder.strandline(&["checkpoints", "compat", "checkpoints", "schema.json"]);
    assert_eq!(refused.code(), 1, "{}{}", refused.stdout(), refused.stderr());
    for wanted in ["REFUSED", "ORPHAN", "another", "new, starts empty", "would be refused"] {
        assert!(refused.stdout().contains(wanted), "no {wanted:?} in: {}", refused.stdout());
    }

    let none = folder.strandline(&["checkpoints", "compat", "checkpoints", "job.toml", "--id", "999"]);
    assert_eq!(none.code(), 1);
    assert!(none.stderr().contains("no such checkpoint"), "{}", none.stderr());
    folder.write("schema.json", "{");
    let broken = folder.strandline(&["checkpoints", "compat", "checkpoints", "schema.json"]);
    assert!(
        broken.stderr().contains("no schema") && broken.stderr().contains("schema.json"),
        "{}",
        broken.stderr()
    );
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
fn a_missing_storage_is_an_error_that_names_it() {
    let folder = Folder::new("");
    let ended = folder.strandline(&["checkpoints", "list", "nowhere"]);
    assert_eq!(ended.code(), 1);
    assert!(ended.stderr().contains("nowhere"), "{}", ended.stderr());
    fs::create_dir(folder.path("empty")).unwrap();
    let ended = folder.strandline(&["checkpoints", "list", "empty"]);
    assert_eq!((ended.code(), ended.stdout().contains("no checkpoints")), (0, true));
}

/// A program with a loop of its own writes no less into its manifests than the executor does.
#[test]
fn checkpoints_of_a_loop_have_times_and_sizes() {
    let folder = Folder::new("");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let before = std::time::SystemTime::now();
    let took = runtime.block_on(async {
        let storage = Storage::in_dir(folder.path("loop")).unwrap();
        let mut job =
            SoloJob::<MemoryBackend<u64>>::open("words", MemoryBackend::factory(), &storage).unwrap();
        let counts = job.register(&ValueDescriptor::<u64>::new("counts")).unwrap();
        job.restore().await.unwrap();
        for key in 0..10_000 {
            job.at(&key).state(counts).put(key).unwrap();
        }
        let committed = job.checkpoint().await.unwrap();
        let manifest = storage.read_manifest(&committed.completed).await.unwrap();
        let (trace, subtask) = (manifest.trace, &manifest.operators[0].subtasks[0].trace);
        assert!(subtask.write_us > 0 && subtask.objects > 0 && subtask.bytes_written > 10_000, "{subtask:?}");
        assert_eq!((trace.bytes, trace.objects), (subtask.bytes_written, subtask.objects));
        assert!(trace.trigger_unix_ms > 0 && trace.trigger_unix_ms <= manifest.created_unix_ms, "{trace:?}");
        assert!(trace.commit_us <= trace.duration_us && subtask.write_us <= trace.duration_us, "{trace:?}");
        trace.duration_us / 1_000
    });
    let listed = folder.strandline(&["checkpoints", "list", "loop"]).stdout();
    let line = listed.lines().last().unwrap();
    let words: Vec<_> = line.split_whitespace().collect();
    // Id, parent, kind, time, size and unit twice, duration and unit, operators.
    assert_eq!((words[0], words[1], words[2], words[10]), ("1", "-", "api", "words×1"), "{listed}");
    let time = humantime::parse_rfc3339(words[3]).unwrap();
    assert!(time + std::time::Duration::from_secs(1) >= before, "{listed}");
    for (size, unit) in [(words[4], words[5]), (words[6], words[7])] {
        assert!(size.parse::<f64>().unwrap() > 10.0 && unit == "KiB", "{listed}");
    }
    assert_eq!(words[8], took.to_string(), "{listed}");
}

/// A job went on from checkpoint 1 when it had 2, a savepoint, and 3.
#[test]
fn branches_are_listed_and_savepoints_are_removed() {
    let folder = Folder::new("");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let storage = Storage::in_dir(folder.path("log")).unwrap();
        for (ids, from) in [(1..=3, None), (4..=4, Some(CheckpointId(1)))] {
            let options = CommitLogOptions::new("test").retain(NonZeroUsize::new(3).unwrap());
            let claimed = CommitLog::claim(&storage, options, CommitLog::random_tokens()).await.unwrap();
            let mut log = claimed.log;
            for id in ids {
                let mut manifest = Manifest::new(CheckpointId(id), log.term(), "test");
                manifest.restored_from = from;
                if id == 2 {
                    manifest.kind = CheckpointKind::Savepoint;
                }
                log.commit_alone(&manifest).await.unwrap();
            }
        }
    });
    let listed = || {
        let listed = folder.strandline(&["checkpoints", "list", "log"]);
        assert_eq!(listed.code(), 0, "{}{}", listed.stdout(), listed.stderr());
        let words = |line: &str| line.split_whitespace().take(3).collect::<Vec<_>>().join(" ");
        listed.stdout().lines().skip(1).map(words).collect::<Vec<_>>()
    };
    assert_eq!(listed(), ["1 - periodic", "2 1* savepoint", "4 1 periodic", "3 given up;"]);
    let from = folder.strandline(&["checkpoints", "remove", "log", "4"]);
    assert_eq!(from.code(), 1);
    assert!(from.stderr().contains("only savepoints are removed"), "{}", from.stderr());
    let removed = folder.strandline(&["checkpoints", "remove", "log", "2"]);
    assert_eq!(removed.code(), 0, "{}", removed.stderr());
    assert_eq!(listed(), ["1 - periodic", "4 1 periodic", "3 given up;", "2 removed; the"]);
    let swept = folder.strandline(&["checkpoints", "sweep", "log"]);
    assert_eq!(swept.code(), 0, "{}", swept.stderr());
    let manifests = fs::read_dir(folder.path("log/manifest")).unwrap().count();
    assert_eq!(manifests, 2, "{}", swept.stdout());
    let verified = folder.strandline(&["checkpoints", "verify", "log"]);
    assert_eq!(verified.code(), 0, "{}", verified.stdout());
}
