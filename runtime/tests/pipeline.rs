//! Jobs without faults: what comes out is what a plain loop computes.

mod common;

use common::*;
use strandline_backend_memory::MemoryBackendFactory;
use strandline_runtime::*;

fn config(parallelism: u32) -> JobConfig {
    JobConfig { parallelism, batch_size: 64, ..JobConfig::default() }
}

fn text() -> Vec<String> {
    (0..2_000_u64).map(|i| format!("the quick {} fox jumps over {} dogs", i % 7, i % 101)).collect()
}

#[test]
fn a_word_count_equals_that_of_a_loop() {
    let lines = text();
    let words: Vec<String> =
        lines.iter().flat_map(|line| line.split_whitespace().map(str::to_owned)).collect();
    for parallelism in [1, 2, 3] {
        let sink = VecSink::default();
        let pipeline = Pipeline::new("word-count", MemoryBackendFactory::default());
        pipeline
            .source("lines", VecSource::new(&lines, 4))
            .flat_map(|line: String, out| line.split_whitespace().for_each(|word| out.emit(word.to_owned())))
            .key_by(|word| (word, ()))
            .process("count", Count::open)
            .sink("counts", sink.clone());
        let report = run(&pipeline, config(parallelism), &JobControl::new()).unwrap();
        assert_eq!(report.outcome, Outcome::Finished);
        assert_eq!(sink.visible(), counted(&words));
        assert_eq!(report.read["lines"], lines.len() as u64);
        assert_eq!((report.done, report.emitted["counts"]), (words.len() as u64, words.len() as u64));
        assert_eq!((report.restarts, report.resumed_from), (0, None));
    }
}
