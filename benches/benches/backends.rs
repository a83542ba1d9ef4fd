//! The backends side by side: a group for each operation, with a bench for each backend and one for the plain map.
//! With the feature `plots` each group is a page, and `target/criterion/report/index.html` leads to them.
//!
//! Sizes, separated by commas: `STRANDLINE_BENCH_KEYS` for values, lists, maps and timers,
//! `STRANDLINE_BENCH_COUNTERS` for snapshots and restores.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use strandline_backend_memory::MemoryBackendFactory;
use strandline_benches::Subject;
use strandline_benches::criterion_support::{bench, bench_timed, or_panic, sizes};
use strandline_benches::keys::shuffled;
use strandline_benches::table::thousands;
use strandline_benches::w2::list::{ListOp, Lists, PlainLists};
use strandline_benches::w2::map::{MapOp, Maps, PlainMaps};
use strandline_benches::w2::timers::{PlainTimers, TimerOp, Timers};
use strandline_benches::w2::value::{PlainValues, ValueOp, Values};
use strandline_benches::w3::Counters;
use strandline_state_api::Result;
use strandline_state_api::backend::BackendFactory;

/// The name of a subject, and how it is made.
type Named<'a, Op> = (&'a str, Box<dyn Fn() -> Result<Box<dyn Subject<Op>>> + 'a>);

/// Measures the same operations on each subject. A subject is filled once, and dropped before the next one.
fn side_by_side<Op: Copy + fmt::Debug>(
    criterion: &mut Criterion,
    of: &str,
    operations: &[(&str, Op)],
    subjects: &[Named<'_, Op>],
) {
    for (subject, make) in subjects {
        let mut made = or_panic(make());
        for (name, operation) in operations {
            let mut group = criterion.benchmark_group(format!("{name}, {of}"));
            bench(&mut group, *subject, *operation, &mut *made);
            group.finish();
        }
    }
}

fn backends(criterion: &mut Criterion) {
    let memory = MemoryBackendFactory::default();
    #[cfg(feature = "rocksdb")]
    let (rocksdb, _dir) = or_panic(strandline_benches::rocks::factory(Default::default()));

    /// One kind of state, on each backend and on the plain map.
    macro_rules! kind {
        ($of:expr, $keys:expr, $operations:expr, $ours:expr, $plain:expr) => {{
            let (keys, operations) = ($keys, $operations.map(|operation| (operation.name(), operation)));
            let subjects: Vec<Named<'_, _>> = vec![
                ("memory", Box::new(|| Ok(Box::new($ours(&memory, &keys)?)))),
                #[cfg(feature = "rocksdb")]
                ("rocksdb", Box::new(|| Ok(Box::new($ours(&rocksdb, &keys)?)))),
                ("plain map", Box::new(|| Ok(Box::new($plain(&keys))))),
            ];
            side_by_side(criterion, $of, &operations, &subjects);
        }};
    }

    for count in sizes("STRANDLINE_BENCH_KEYS", &[100_000]) {
        let of = format!("{} keys", thousands(count as u64));
        kind!(&of, shuffled(count), ValueOp::ALL, values, |keys| PlainValues::new(Arc::clone(keys)));
        kind!(&of, shuffled(count), ListOp::ALL, Lists::new, PlainLists::new);
        kind!(&of, shuffled(count), MapOp::ALL, maps, PlainMaps::new);
        kind!(&of, shuffled(count), TimerOp::ALL, Timers::new, PlainTimers::new);
    }
    for count in sizes("STRANDLINE_BENCH_COUNTERS", &[1_000_000]) {
        snapshots(criterion, &memory, count);
        #[cfg(feature = "rocksdb")]
        snapshots(criterion, &rocksdb, count);
    }
}

fn values<F: BackendFactory>(factory: &F, keys: &Arc<[u64]>) -> Result<Values<F>> {
    Values::new(factory.clone(), Arc::clone(keys))
}

fn maps<F: BackendFactory>(factory: &F, keys: &Arc<[u64]>) -> Result<Maps<F>> {
    Maps::new(factory.clone(), keys)
}

/// A snapshot of which a tenth has changed, from the barrier to its files, and a restore.
fn snapshots<F: BackendFactory>(criterion: &mut Criterion, factory: &F, count: usize) {
    let mut counters = or_panic(Counters::new(factory.clone(), count as u64));
    or_panic(counters.fill());
    or_panic(counters.snapshot());
    let of = format!("{} counters", thousands(count as u64));
    let mut group = criterion.benchmark_group(format!("snapshot, 10 % changed, {of}"));
    bench_timed(&mut group, factory.name(), || {
        counters.update(10)?;
        let cost = counters.snapshot()?;
        counters.tidy()?;
        Ok(cost.pause + cost.drained.total + cost.commit)
    });
    group.finish();
    let mut group = criterion.benchmark_group(format!("restore, {of}"));
    bench_timed(&mut group, factory.name(), || Ok(counters.restore(0, 1)?.restore));
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).warm_up_time(Duration::from_millis(500));
    targets = backends
}
criterion_main!(benches);
