//! The job of most tests.

use strandline_backend_memory::MemoryBackendFactory;
use strandline_runtime::Pipeline;

use super::{Count, VecSink, VecSource};

/// The source `numbers`, the operator `count`, which counts each number, and the sink `results`.
pub fn counting(source: &VecSource<u64>, sink: &VecSink<(u64, u64)>) -> Pipeline<MemoryBackendFactory> {
    let pipeline = Pipeline::new("job", MemoryBackendFactory::default());
    pipeline
        .source("numbers", source.clone())
        .key_by(|n| (n, ()))
        .process("count", Count::open)
        .flat_map(|count, out| {
            // For the count alone.
            out.count_left_out();
            out.emit(count);
        })
        .sink("results", sink.clone());
    pipeline
}
