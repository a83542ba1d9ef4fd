//! Hard kills at random moments: each result occurs once, whichever process died when.

use std::time::{Duration, Instant};

#[cfg(feature = "s3")]
use crate::support::on_s3;
use crate::support::{Folder, ORDERS_JOB, Orders, assert_same, cases};

/// What `--set` takes for RocksDB, with so little memory that it has something to do.
#[cfg(feature = "rocksdb")]
pub(crate) const ROCKSDB: [&str; 3] =
    ["--set=state.backend=rocksdb", "--set=state.directory=state", "--set=state.memory=8388608"];

#[test]
fn results_are_exact_after_many_kills_and_rescales() {
    kill_and_rescale("checkpoints", 10_000, &[]);
}

/// With what the job file of a user says: the storage is on S3, through the job, its restarts, and the
/// commands that look into it.
#[cfg(feature = "s3")]
#[test]
#[ignore = "needs a server that speaks the protocol of S3: make s3"]
fn results_are_exact_after_many_kills_and_rescales_on_s3() {
    kill_and_rescale(&on_s3("kills"), 2_000, &[]);
}

#[cfg(feature = "rocksdb")]
#[test]
fn results_are_exact_after_many_kills_and_rescales_on_rocksdb() {
    let folder = kill_and_rescale("checkpoints", 10_000, &ROCKSDB);
    let left: Vec<_> = std::fs::read_dir(folder.path("state/instances")).unwrap().collect();
    assert!(left.is_empty(), "the directories of killed runs are deleted: {left:?}");
}

/// Kills fall anywhere: into starts, snapshots, commits, recoveries, before the first checkpoint of a run or
/// after it.
fn kill_and_rescale(storage: &str, rate: u32, state: &[&str]) -> Folder {
    let orders = Orders::new(60_000, 11);
    let place = format!("--set=checkpoint.storage={storage}");
    let state = [&[place.as_str()], state].concat();
    let folder = Folder::new(ORDERS_JOB);
    folder.write("orders.csv", &orders.csv);
    let mut random = fastrand::Rng::with_seed(11);
    // Slow enough for that many kills.
    let rate = format!("--set=source.rate={}", rate * 6 / cases(6));
    let mut window = Duration::ZERO;
    let mut kills = 0;
    while kills < cases(6) {
        let parallelism = format!("--parallelism={}", random.u32(1..4));
        let start = Instant::now();
        let args = [&[parallelism.as_str(), &rate, "--set=checkpoint.interval=20ms"], &state[..]].concat();
        let mut running = folder.start(&args);
        if window.is_zero() {
            // The time of a start and a few checkpoints on this machine: from now on each run dies at any
            // moment of that.
            running.wait_for_checkpoints(3);
            window = start.elapsed();
        }
        running.kill_at(start + window.mul_f64(random.f64()));
        kills += 1;
    }
    let report = folder.run(&[&["--parallelism=2"], &state[..]].concat());
    assert_eq!(report["outcome"], "finished", "the job ended too early to be killed: {report}");
    assert_same(&folder.results("results"), &orders.sums, &format!("after {kills} kills"));

    let swept = folder.strandline(&["checkpoints", "sweep", storage]);
    assert_eq!(swept.code(), 0, "{}", swept.stderr());
    let left = folder.strandline(&["checkpoints", "sweep", storage, "--dry-run"]);
    assert!(left.stdout().contains("would delete 0 files"), "{}", left.stdout());
    assert!(!left.stdout().contains("not ours"), "{}", left.stdout());
    let verified = folder.strandline(&["checkpoints", "verify", storage]);
    assert_eq!(verified.code(), 0, "{}", verified.stdout());
    folder
}

#[test]
fn a_kill_before_the_first_checkpoint_starts_the_job_from_the_beginning() {
    let orders = Orders::new(60_000, 12);
    let folder = Folder::new(ORDERS_JOB);
    folder.write("orders.csv", &orders.csv);
    for parallelism in ["--parallelism=2", "--parallelism=3"] {
        let slow = ["--set=source.rate=40000", "--set=checkpoint.interval=off"];
        let mut running = folder.start(&[&[parallelism], &slow[..]].concat());
        let started = running.wait_for("its start", |event| event["event"] == "started");
        assert!(started["from"].is_null(), "{started}");
        // Far enough that windows were closed and their results written to hidden files.
        running.wait_for("results", |event| event["emitted"].as_u64().is_some_and(|emitted| emitted > 100));
        running.kill();
    }
    let report = folder.run(&[]);
    assert!(report["resumed_from"].is_null(), "{report}");
    assert_same(&folder.results("results"), &orders.sums, "after kills before any checkpoint");
}

/// The count of each key in the discarded stream is state of the sink: its sum shows that each record counted
/// once.
#[test]
fn the_checksum_survives_kills() {
    let folder = Folder::new(
        r#"
        parallelism = 2
        checkpoint = { storage = "checkpoints", interval = "20ms" }
        source = { type = "keys", records = 100_000, keys = 5_000, distribution = "zipf" }
        step = [{ key_by = "key", aggregate = "count", emit = "changes" }]
        sink = { type = "discard", checksum = true }
        "#,
    );
    let undisturbed = folder.run(&["--set=checkpoint.enabled=false"]);
    for kill in 0..3u64 {
        let parallelism = format!("--parallelism={}", 1 + kill);
        let mut running = folder.start(&[&parallelism, "--set=source.rate=60000"]);
        running.wait_for_checkpoints(1 + kill as usize);
        running.kill();
    }
    let report = folder.run(&[]);
    assert!(report["resumed_from"].as_u64().is_some());
    assert_eq!(report["sinks"], undisturbed["sinks"]);
}

/// The report of each checkpoint has the measurements of the backend.
#[cfg(feature = "rocksdb")]
#[test]
fn statistics_of_rocksdb_are_reported() {
    let folder = Folder::new(
        r#"
        checkpoint = { storage = "checkpoints", interval = "20ms" }
        source = { type = "keys", records = 50_000, keys = 5_000 }
        step = [{ key_by = "key", aggregate = "count", emit = "changes" }]
        sink = { type = "discard", checksum = true }
        "#,
    );
    let report = folder.run(&[&["--set=source.rate=200000"], &ROCKSDB[..]].concat());
    let last = report["checkpoints"].as_array().unwrap().last().unwrap();
    for name in ["write_back_hits", "database_bytes", "shared_block_cache_bytes", "stall_micros"] {
        assert!(last["statistics"][name].is_u64(), "{name}: {last}");
    }
    assert!(last["statistics"]["write_back_hits"].as_u64() > Some(10_000), "{last}");
}

#[test]
fn the_demo_proves_its_promise() {
    let folder = Folder::new("");
    let ended = folder.strandline(&["demo", "--records=40000", "--kills=2", "--dir=demo"]);
    assert_eq!(ended.code(), 0, "{}{}", ended.stdout(), ended.stderr());
    assert!(ended.stdout().contains("the same in both, each exactly once"), "{}", ended.stdout());
    let proof = "2 kills, each after a checkpoint of its run and before the end of the job";
    assert!(ended.stdout().contains(proof), "{}", ended.stdout());
    assert!(
        !ended.stdout().contains("again"),
        "the demo cannot know how much a run reads again: {}",
        ended.stdout()
    );
    assert!(folder.path("demo/job.toml").exists());
    let again = folder.strandline(&["demo", "--records=40000", "--dir=demo"]);
    assert_eq!(again.code(), 2, "the directory is not empty");
}

#[test]
fn the_demo_kills_in_mid_stream_however_few_records_there_are() {
    let ended = Folder::new("").strandline(&["demo", "--records=1000", "--kills=4"]);
    assert_eq!(ended.code(), 0, "{}{}", ended.stdout(), ended.stderr());
    let proof =
        "4 kills, each after a checkpoint of its run and before the end of the job, and\n1 while it started";
    assert!(ended.stdout().contains(proof), "{}", ended.stdout());
    // The kill while a run starts may come before a checkpoint of that run.
    let stdout = ended.stdout();
    let in_mid_stream =
        stdout.lines().filter(|line| line.contains("killed after") && line.contains("and checkpoint"));
    assert!(in_mid_stream.count() >= 4, "{stdout}");
}
