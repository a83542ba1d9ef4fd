//! Programs that are killed again and again, and resume.

use std::path::Path;

use strandline::prelude::*;

use crate::counting::{Counting, NUMBERS};
use crate::support::Program;
use crate::words;

const KILLS: usize = 5;

/// Lets the program take a few more checkpoints each time, kills it while it works on, and lets it finish.
fn kill_and_finish(name: &str, dir: &Path, storage: &str) {
    for kill in 0..KILLS {
        let mut program = Program::start(name, dir, storage);
        let start = program.line().unwrap();
        assert!(start.starts_with("starts"), "{start}");
        let resumes = !(start.ends_with("at 0") || start.ends_with("None"));
        assert_eq!(resumes, kill > 0, "start {kill}: {start}");
        for _ in 0..1 + kill % 3 {
            let line = program.line().expect("killed before its end");
            assert!(line.starts_with("checkpoint"), "{line}");
        }
        program.kill();
    }
    Program::start(name, dir, storage).end();
}

fn a_killed_loop_counts_each_number_once(dir: &Path, storage: &str) {
    kill_and_finish("counting", dir, storage);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut counting = runtime.block_on(Counting::open(&Storage::open(storage).unwrap())).unwrap();
    assert_eq!(counting.position().unwrap(), NUMBERS);
    counting.assert_exact();
}

fn a_killed_pipeline_writes_each_result_once(dir: &Path, storage: &str) {
    words::write_text(dir);
    kill_and_finish("words", dir, storage);
    words::assert_exact(dir);
}

#[test]
fn a_loop_in_a_spawned_task_on_files() {
    let dir = tempfile::tempdir().unwrap();
    let storage = dir.path().join("checkpoints");
    a_killed_loop_counts_each_number_once(dir.path(), storage.to_str().unwrap());
}

#[test]
fn a_pipeline_inside_an_async_main_on_files() {
    let dir = tempfile::tempdir().unwrap();
    let storage = dir.path().join("checkpoints");
    a_killed_pipeline_writes_each_result_once(dir.path(), storage.to_str().unwrap());
}

#[cfg(feature = "s3")]
#[test]
#[ignore = "needs a server that speaks the protocol of S3: make s3"]
fn a_loop_in_a_spawned_task_on_s3() {
    let dir = tempfile::tempdir().unwrap();
    a_killed_loop_counts_each_number_once(dir.path(), &crate::support::s3_storage(dir.path()));
}

#[cfg(feature = "s3")]
#[test]
#[ignore = "needs a server that speaks the protocol of S3: make s3"]
fn a_pipeline_inside_an_async_main_on_s3() {
    let dir = tempfile::tempdir().unwrap();
    a_killed_pipeline_writes_each_result_once(dir.path(), &crate::support::s3_storage(dir.path()));
}
