//! A job of the operators that stream jobs are made of: a join of two sources, and windows behind it.

use std::time::Duration;

use strandline_backend_memory::MemoryBackendFactory;
use strandline_operators::join::{IntervalJoin, JoinKind};
use strandline_operators::window::{TimeWindows, Windows};
use strandline_operators::{Either, Reduce, Running};
use strandline_runtime::Pipeline;
use strandline_simulation::Job;
use strandline_state_api::Timestamp;

const RECORDS: i64 = 60;

fn sum() -> Reduce<i64, fn(&mut i64, i64)> {
    Reduce::new(|sum, n| *sum += n)
}

pub(crate) fn operators() -> Job {
    Job::new(|world| {
        let pipeline = Pipeline::new("operators", MemoryBackendFactory::default());
        let events = |step: i64| {
            (0..RECORDS).map(move |n| (((n * step) % 5) as u64, n, Some(Timestamp::from_millis(n * step))))
        };
        let input = |step| events(step).map(|(key, n, time)| ((key, n), time));
        let left = pipeline.source("left", world.timed_input(input(3), 3));
        let right = pipeline.source("right", world.timed_input(input(4), 2));
        let (left, alone) = left.fork();
        let join = IntervalJoin::between(-6, 9).kind(JoinKind::Full);
        let joined = left
            .map(|(key, n)| (key, Either::Left(n)))
            .union(right.map(|(key, n)| (key, Either::Right(n))))
            .key_by(|record| record)
            .process("join", move |ctx| join.open(ctx))
            .map(|output| {
                let (key, row) = output.into_row().unwrap_or_else(|(key, _)| panic!("{key} is late"));
                (key, row.into_sides())
            });
        let (joined, again) = joined.fork();
        let sliding = TimeWindows::sliding(Duration::from_millis(20), Duration::from_millis(5));
        joined
            .key_by(|(key, (left, _))| (key, left.unwrap_or(-1)))
            .process("sliding", move |ctx| sliding.open(&sum(), ctx))
            .map(|output| output.result().map(|result| (result.key, result.window, result.value)))
            .sink("sliding-out", world.output("sliding"));
        let session = TimeWindows::session(Duration::from_millis(7));
        again
            .key_by(|(key, (_, right))| (key, right.unwrap_or(-1)))
            .process("session", move |ctx| session.open(&sum(), ctx))
            .map(|output| output.result().map(|result| (result.key, result.window, result.value)))
            .sink("session-out", world.output("session"));
        // One result for each record, whatever their order.
        let count = Running::new(strandline_operators::Count::new()).upserts();
        alone
            .key_by(|(key, _)| (key, ()))
            .process("count", move |ctx| count.open(ctx))
            .map(|change| change.into_row())
            .sink("counts-out", world.output("counts"));
        pipeline
    })
}
