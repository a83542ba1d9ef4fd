//! The behaviour suite of `strandline-conformance`, with the default options and with extreme ones.

#![allow(clippy::unwrap_used)]

#[path = "../../conformance/tests/naive/mod.rs"]
#[allow(missing_docs, unreachable_pub)]
mod naive;

use strandline_backend_memory::{MemoryBackendFactory, MemoryOptions};
use strandline_conformance::Subject;
use strandline_conformance::backend::forms::random_lives_of_two_backends;
use strandline_conformance::backend::portability::from_one_backend_to_another;

strandline_conformance::backend_tests!(MemoryBackendFactory::default());

fn with(change: impl FnOnce(&mut MemoryOptions)) -> MemoryBackendFactory {
    let mut factory = MemoryBackendFactory::default();
    change(&mut factory.options);
    factory
}

/// The writer folds deltas only for a full snapshot.
mod never_folds {
    use super::with;
    use strandline_conformance::Capabilities;

    strandline_conformance::backend_tests!(
        with(|options| {
            options.fold_ratio = f64::INFINITY;
            options.max_deltas = usize::MAX;
            options.full_share = 2.0;
        }),
        // Each delta stays an object.
        Capabilities { few_objects: false, ..Capabilities::default() }
    );
}

/// The writer folds every delta at once.
mod always_folds {
    use super::with;
    use strandline_conformance::Capabilities;

    strandline_conformance::backend_tests!(
        with(|options| {
            options.max_deltas = 0;
            options.full_share = 2.0;
        }),
        // A fold writes the whole base again.
        Capabilities { incremental: false, ..Capabilities::default() }
    );
}

fn memory_and_naive() -> (Subject<MemoryBackendFactory>, Subject<naive::NaiveFactory>) {
    let naive = Subject::new(naive::NaiveFactory).with_capabilities(naive::NaiveFactory::CAPABILITIES);
    (Subject::new(MemoryBackendFactory::default()), naive)
}

#[test]
fn a_job_that_moves_to_another_backend_and_migrates() {
    let (memory, naive) = memory_and_naive();
    random_lives_of_two_backends(&memory, &naive);
    random_lives_of_two_backends(&naive, &memory);
}

#[test]
fn snapshots_move_to_another_backend_and_back() {
    let (memory, naive) = memory_and_naive();
    from_one_backend_to_another(&memory, &naive);
    from_one_backend_to_another(&naive, &memory);
}
