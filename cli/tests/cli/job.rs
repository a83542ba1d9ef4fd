//! Stopping and resuming by hand.

use std::fs;

use crate::support::{Folder, ORDERS_JOB, Orders, assert_same};

fn orders(count: i64) -> (Folder, Orders) {
    let orders = Orders::new(count, 3);
    let folder = Folder::new(ORDERS_JOB);
    folder.write("orders.csv", &orders.csv);
    (folder, orders)
}

#[test]
fn a_job_stops_gracefully_and_goes_on_at_another_parallelism() {
    let (folder, orders) = orders(30_000);
    let mut parallelism = ["--parallelism=2", "--parallelism=3"].into_iter();
    let mut last = 0;
    for args in parallelism.by_ref() {
        let mut running = folder.start(&[args, "--set=source.rate=20000"]);
        let from = running.wait_for("the start", |event| event["event"] == "started")["from"].as_u64();
        assert_eq!(from.unwrap_or(0), last, "it goes on where it stopped");
        running.wait_for_checkpoints(1);
        running.interrupt();
        let (code, report) = running.end();
        assert_eq!((code, report["outcome"].as_str()), (0, Some("stopped")));
        let checkpoints = report["checkpoints"].as_array().unwrap();
        last = checkpoints.last().unwrap()["id"].as_u64().unwrap();
        assert_eq!(checkpoints.last().unwrap()["kind"], "final");
    }
    let report = folder.run(&["--parallelism=1"]);
    assert_eq!((report["outcome"].as_str(), report["resumed_from"].as_u64()), (Some("finished"), Some(last)));
    assert_same(&folder.results("results"), &orders.sums, "at the end");

    let report = folder.run(&[]);
    assert_eq!(report["outcome"], "already-finished");
    assert_same(&folder.results("results"), &orders.sums, "a finished job is left as it is");
}

#[test]
fn a_run_starts_from_the_checkpoint_of_the_command_line() {
    let (folder, orders) = orders(20_000);
    let ended = folder.strandline(&["run", "job.toml", "--from=latest"]);
    assert_eq!(ended.code(), 1, "there is no checkpoint yet: {}", ended.stderr());
    assert!(!folder.path("results").exists() || folder.results("results").is_empty());

    let mut running = folder.start(&["--set=source.rate=20000", "--set=checkpoint.retained=100"]);
    let id = running.wait_for_checkpoints(1);
    running.wait_for_checkpoints(2);
    running.kill();
    let report = folder.run(&[&format!("--from={id}")]);
    assert_eq!(report["resumed_from"].as_u64(), Some(id));
    assert_same(&folder.results("results"), &orders.sums, "what came after the checkpoint is there once");

    let ended = folder.strandline(&["run", "job.toml", "--from=99999"]);
    assert_eq!(ended.code(), 1);
    assert!(ended.stderr().contains("99999"), "{}", ended.stderr());
}

#[test]
fn a_new_job_does_not_mix_its_results_with_others() {
    let (folder, orders) = orders(2_000);
    folder.run(&[]);
    let ended = folder.strandline(&["run", "job.toml", "--from=none"]);
    assert_eq!(ended.code(), 1);
    assert!(ended.stderr().contains("output directory"), "{}", ended.stderr());
    assert_same(&folder.results("results"), &orders.sums, "at the end");
}

#[test]
fn a_resumed_job_must_compute_the_same() {
    let (folder, _) = orders(20_000);
    let mut running = folder.start(&["--set=source.rate=20000"]);
    running.wait_for_checkpoints(2);
    running.kill();
    let other = "--set=step.1.aggregate=[\"count\", \"sum(amount)\", \"min(amount)\"]";
    let ended = folder.strandline(&["run", "job.toml", "--set=restart.attempts=0", other]);
    assert_eq!(ended.code(), 1);
    assert!(ended.stderr().contains("incompatible"), "{}", ended.stderr());
    assert!(ended.stderr().contains("min(amount:int)"), "{}", ended.stderr());
}

#[test]
fn the_first_sign_of_a_job_is_not_its_temporary_files() {
    let (folder, orders) = orders(20_000);
    let mut running = folder.start(&["--set=source.rate=20000"]);
    running.wait_for("progress", |event| event["emitted"].as_u64().is_some_and(|emitted| emitted > 0));
    running.kill();
    let finished = |name: &str| !name.starts_with('.');
    for entry in fs::read_dir(folder.path("results")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(!finished(&name) || name.ends_with(".csv"), "{name}");
    }
    folder.run(&[]);
    assert_same(&folder.results("results"), &orders.sums, "at the end");
}
