//! Sizes and routines that the criterion benches share.

use std::time::Duration;

use criterion::{BenchmarkGroup, Throughput, measurement::WallTime};
use strandline_state_api::{Error, Result};

use crate::compare::{Subject, timed};

/// Returns the sizes that the environment variable `name` holds, separated by commas, else `usual`. A bench
/// that runs as a test, without `--bench` on the command line, gets one small size.
///
/// # Panics
/// When the variable holds something else.
pub fn sizes(name: &str, usual: &[usize]) -> Vec<usize> {
    if !std::env::args().any(|argument| argument == "--bench") {
        return vec![1_000];
    }
    let Ok(text) = std::env::var(name) else { return usual.to_vec() };
    let parse = |part: &str| match part.trim().replace('_', "").parse() {
        Ok(size) => size,
        Err(_) => panic!("{name}={text}: expected numbers, separated by commas"),
    };
    text.split(',').map(parse).collect()
}

/// Adds a benchmark of `op` to `group`; it reports the time of one operation.
pub fn bench<Op: Copy>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: impl Into<String>,
    op: Op,
    subject: &mut (impl Subject<Op> + ?Sized),
) {
    group.throughput(Throughput::Elements(1));
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|iterations| or_panic(timed(op, subject, iterations)));
    });
}

/// Adds a benchmark that measures itself.
pub fn bench_timed(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: impl Into<String>,
    mut measure: impl FnMut() -> Result<Duration>,
) {
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|iterations| (0..iterations).map(|_| or_panic(measure())).sum());
    });
}

/// Unwraps a result in a bench, which cannot return an error.
///
/// # Panics
/// With the error.
pub fn or_panic<T>(result: Result<T>) -> T {
    result.unwrap_or_else(|error: Error| panic!("{error}"))
}
