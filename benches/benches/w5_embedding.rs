//! W5: the count of W1 as a bare loop, with the embedding API, and with the executor; the time of one record.

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use strandline_backend_memory::MemoryBackendFactory;
use strandline_benches::criterion_support::{bench, or_panic};
use strandline_benches::w1::KEYS;
use strandline_benches::w5::{Counting, Embedding, Floor, executor, stream};
use strandline_connectors::keys::Distribution;
use strandline_state_api::backend::BackendFactory;

fn w5(criterion: &mut Criterion) {
    of(criterion, &MemoryBackendFactory::default());
    #[cfg(feature = "rocksdb")]
    {
        let (factory, _dir) = or_panic(strandline_benches::rocks::factory(Default::default()));
        of(criterion, &factory);
    }
}

fn of<F: BackendFactory>(criterion: &mut Criterion, factory: &F) {
    // A run as a test only shows that it works.
    let measured = std::env::args().any(|argument| argument == "--bench");
    let (keys, records) = if measured { (KEYS, 4_000_000) } else { (1_000, 10_000) };
    for (distribution, of) in [(Distribution::Uniform, "uniform"), (Distribution::Zipf, "Zipf")] {
        let mut group = criterion.benchmark_group(format!("W5, {}, {of}", factory.name()));
        let endless = or_panic(stream(u64::MAX, keys, distribution));
        let mut floor = Floor::new(endless.clone(), 5 * keys);
        bench(&mut group, "bare loop", Embedding::Scope, &mut floor);
        for way in Embedding::ALL {
            let mut ours = or_panic(Counting::new(factory, way, endless.clone(), 5 * keys));
            bench(&mut group, way.name(), way, &mut ours);
        }
        group.throughput(Throughput::Elements(1));
        let finite = or_panic(stream(records, keys, distribution));
        for (name, chained) in [("executor, one thread", true), ("executor, two threads", false)] {
            group.bench_function(name, |bencher| {
                bencher.iter_custom(|iterations| {
                    // The time of a record behind the first third, from as many whole runs as the iterations
                    // ask for.
                    let runs = iterations.div_ceil(records).max(1);
                    let one = || or_panic(executor(factory.clone(), finite.clone(), chained)).1;
                    let total: Duration = (0..runs).map(|_| one()).sum();
                    total.mul_f64(iterations as f64 / runs as f64)
                });
            });
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10);
    targets = w5
}
criterion_main!(benches);
