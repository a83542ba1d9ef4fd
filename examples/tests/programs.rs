//! The examples that check their own results.

#![allow(clippy::unwrap_used)]

use std::process::Command;

fn runs(program: &str) {
    let ended = Command::new(program).output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    assert!(String::from_utf8_lossy(&ended.stdout).contains("exact"));
}

#[test]
fn actors_count_each_word_once_over_crashes_and_rescales() {
    runs(env!("CARGO_BIN_EXE_actors"));
}

#[cfg(feature = "sql")]
#[test]
fn a_running_sum_in_a_plan_of_datafusion_goes_on_where_it_was() {
    runs(env!("CARGO_BIN_EXE_running-sum"));
}
