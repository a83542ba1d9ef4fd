//! W3: the parts of a snapshot of many counters, and its restore, on a local disk with every file synced.
//!
//! Sizes: `STRANDLINE_BENCH_COUNTERS`, separated by commas.

use std::cell::RefCell;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use strandline_backend_memory::MemoryBackendFactory;
use strandline_benches::criterion_support::{bench_timed, or_panic, sizes};
use strandline_benches::table::thousands;
use strandline_benches::w3::{Counters, SnapshotCost};
use strandline_state_api::Result;
use strandline_state_api::backend::BackendFactory;

/// How a part of the cost is read off.
type Part = fn(&SnapshotCost) -> Duration;

fn w3(criterion: &mut Criterion) {
    of(criterion, &MemoryBackendFactory::default());
    #[cfg(feature = "rocksdb")]
    {
        let (factory, _dir) = or_panic(strandline_benches::rocks::factory(Default::default()));
        of(criterion, &factory);
    }
}

fn of<F: BackendFactory>(criterion: &mut Criterion, factory: &F) {
    for count in sizes("STRANDLINE_BENCH_COUNTERS", &[1_000_000]) {
        let mut group = criterion.benchmark_group(format!(
            "W3, {}, {} counters",
            factory.name(),
            thousands(count as u64)
        ));
        let counters = RefCell::new(or_panic(Counters::new(factory.clone(), count as u64)));
        or_panic(counters.borrow_mut().fill());
        or_panic(counters.borrow_mut().snapshot());
        let snapshot = |stride, part: Part| -> Result<Duration> {
            let mut counters = counters.borrow_mut();
            counters.update(stride)?;
            let cost = counters.snapshot()?;
            counters.tidy()?;
            Ok(part(&cost))
        };
        let parts: [(&str, Part); 4] = [
            ("pause", |cost| cost.pause),
            ("drain", |cost| cost.drained.total),
            ("worst step of the drain", |cost| cost.drained.worst),
            ("commit", |cost| cost.commit),
        ];
        for (share, stride) in [("1 %", 100), ("10 %", 10)] {
            for (name, part) in parts {
                bench_timed(&mut group, format!("{name}, {share} changed"), || snapshot(stride, part));
            }
        }
        for (name, parallelism) in [("restore, whole", 1), ("restore, half", 2)] {
            bench_timed(&mut group, name, || Ok(counters.borrow().restore(0, parallelism)?.restore));
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).warm_up_time(Duration::from_millis(500));
    targets = w3
}
criterion_main!(benches);
