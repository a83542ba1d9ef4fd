//! Windows of 60 s, hand-written, tumbling and sliding by 1 s; the time of one record.

use criterion::{Criterion, criterion_group, criterion_main};
use strandline_backend_memory::MemoryBackendFactory;
use strandline_benches::criterion_support::{bench, or_panic};
use strandline_benches::windows::{Load, by_hand, sliding, tumbling};
use strandline_state_api::backend::BackendFactory;

fn windows(criterion: &mut Criterion) {
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
    let loads = if measured { &Load::ALL[..] } else { &[Load::SMALL] };
    for load in loads.iter().copied() {
        let mut group = criterion.benchmark_group(format!("windows, {}, {}", factory.name(), load.name));
        bench(&mut group, "by hand", load, &mut or_panic(by_hand(factory, load)));
        bench(&mut group, "tumbling", load, &mut or_panic(tumbling(factory, load)));
        bench(&mut group, "sliding", load, &mut or_panic(sliding(factory, load)));
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10);
    targets = windows
}
criterion_main!(benches);
