//! W2: the operations of each kind of state, each beside the same on a plain map.
//!
//! Sizes: `STRANDLINE_BENCH_KEYS`, for lists and maps `STRANDLINE_BENCH_COLLECTIONS`, separated by commas.

use std::sync::Arc;

use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main, measurement::WallTime};
use strandline_backend_memory::MemoryBackendFactory;
use strandline_benches::Subject;
use strandline_benches::criterion_support::{bench, or_panic, sizes};
use strandline_benches::keys::shuffled;
use strandline_benches::table::thousands;
use strandline_benches::w2::list::{ListOp, Lists, PlainLists};
use strandline_benches::w2::map::{MapOp, Maps, PlainMaps};
use strandline_benches::w2::value::{PlainValues, ValueOp, Values};
use strandline_state_api::backend::BackendFactory;

fn both<Op: Copy>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    (name, backend, op): (&str, &str, Op),
    ours: &mut impl Subject<Op>,
    plain: &mut impl Subject<Op>,
) {
    bench(group, format!("{name}/{backend}"), op, ours);
    bench(group, format!("{name}/plain map"), op, plain);
}

fn w2(criterion: &mut Criterion) {
    of(criterion, &MemoryBackendFactory::default());
    #[cfg(feature = "rocksdb")]
    {
        let (factory, _dir) = or_panic(strandline_benches::rocks::factory(Default::default()));
        of(criterion, &factory);
        beside_raw(criterion, &factory);
    }
}

/// RocksDB itself, and the backend without its table.
#[cfg(feature = "rocksdb")]
fn beside_raw(criterion: &mut Criterion, usual: &strandline_backend_rocksdb::RocksBackendFactory) {
    use strandline_benches::rocks::{Access, Ours, Raw, factory, options};
    use strandline_connectors::keys::Distribution;

    let (bare, _dir) = or_panic(factory(options(0.0)));
    for count in sizes("STRANDLINE_BENCH_COLLECTIONS", &[100_000]) {
        let mut group = criterion.benchmark_group(format!("RocksDB, {} keys", thousands(count as u64)));
        for accesses in [&Access::VALUES[..], &Access::LISTS, &Access::MAPS] {
            let mut ours = or_panic(Ours::new(&bare, count));
            let mut table = or_panic(Ours::new(usual, count));
            let mut raw = or_panic(Raw::new(&bare, count));
            for access in accesses {
                for (distribution, of) in [(Distribution::Uniform, "uniform"), (Distribution::Zipf, "Zipf")] {
                    let (name, op) = (format!("{}, {of}", access.name()), (*access, distribution));
                    bench(&mut group, format!("{name}/no table"), op, &mut ours);
                    bench(&mut group, format!("{name}/table"), op, &mut table);
                    bench(&mut group, format!("{name}/RocksDB itself"), op, &mut raw);
                }
            }
        }
        group.finish();
    }
}

fn of<F: BackendFactory>(criterion: &mut Criterion, factory: &F) {
    let backend = factory.name();
    for count in sizes("STRANDLINE_BENCH_KEYS", &[500_000, 10_000_000]) {
        let mut group = criterion.benchmark_group(format!("W2, {backend}, {} keys", thousands(count as u64)));
        let keys = shuffled(count);
        let mut ours = or_panic(Values::new(factory.clone(), Arc::clone(&keys)));
        let mut plain = PlainValues::new(keys);
        for op in ValueOp::ALL {
            both(&mut group, (op.name(), backend, op), &mut ours, &mut plain);
        }
        group.finish();
    }
    for count in sizes("STRANDLINE_BENCH_COLLECTIONS", &[500_000]) {
        let mut group = criterion.benchmark_group(format!("W2, {backend}, {} keys", thousands(count as u64)));
        let keys = shuffled(count);
        let (mut ours, mut plain) = (or_panic(Lists::new(factory, &keys)), PlainLists::new(&keys));
        for op in ListOp::ALL {
            both(&mut group, (op.name(), backend, op), &mut ours, &mut plain);
        }
        drop((ours, plain));
        let (mut ours, mut plain) = (or_panic(Maps::new(factory.clone(), &keys)), PlainMaps::new(&keys));
        for op in MapOp::ALL {
            both(&mut group, (op.name(), backend, op), &mut ours, &mut plain);
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = w2
}
criterion_main!(benches);
