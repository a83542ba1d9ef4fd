//! What it costs to make a checkpoint exist on a local disk, beside the same files written plainly.

use criterion::{Criterion, criterion_group, criterion_main};
use strandline_benches::commit::{CommitOp, Commits, PlainFiles};
use strandline_benches::criterion_support::{bench, or_panic};

fn commit(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("commit");
    let (mut ours, mut plain) = (or_panic(Commits::new()), or_panic(PlainFiles::new()));
    for op in CommitOp::ALL {
        bench(&mut group, format!("{}/storage", op.name()), op, &mut ours);
        bench(&mut group, format!("{}/plain files", op.name()), op, &mut plain);
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10);
    targets = commit
}
criterion_main!(benches);
