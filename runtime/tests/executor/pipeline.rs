//! Jobs without faults: what comes out is what a plain loop computes.

use crate::common::*;
use strandline_backend_memory::MemoryBackendFactory;
use strandline_runtime::sink::Figure;
use strandline_runtime::*;

fn config(parallelism: u32) -> JobConfig {
    JobConfig::default().parallelism(parallelism).batch_size(64)
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

fn numbers(n: u64) -> Vec<u64> {
    (0..n).map(|i| i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56).collect()
}

#[test]
fn chained_or_not_the_result_is_the_same() {
    let records = numbers(5_000);
    for chain_keyed in [false, true] {
        let sink = VecSink::default();
        let pipeline = Pipeline::new("chained", MemoryBackendFactory::default());
        pipeline
            .source("numbers", VecSource::new(&records, 3))
            .filter(|n| n % 2 == 0)
            .key_by(|n| (n, ()))
            .process("count", Count::open)
            .map(|(key, n)| (key, n))
            .sink("results", sink.clone());
        let config = config(1).chain_keyed(chain_keyed);
        run(&pipeline, config, &JobControl::new()).unwrap();
        let even: Vec<_> = records.iter().copied().filter(|n| n % 2 == 0).collect();
        assert_eq!(sink.visible(), counted(&even), "chained: {chain_keyed}");
    }
}

#[test]
fn streams_fork_and_unite_and_operators_follow_each_other() {
    let records = numbers(3_000);
    let (all, odd, again) = (VecSink::default(), VecSink::default(), VecSink::default());
    for (parallelism, chain_keyed) in [(1, false), (1, true), (2, false), (3, false)] {
        for sink in [&all, &odd, &again] {
            sink.reset();
        }
        let pipeline = Pipeline::new("graph", MemoryBackendFactory::default());
        let left = pipeline.source("left", VecSource::new(&records, 2));
        let right = pipeline.source("right", VecSource::new(&records, 5)).map(|n| n + 1_000);
        let (both, copy) = left.union(right).fork();
        // The sink of a united stream has tasks of its own; the other branch goes through two exchanges.
        copy.filter(|n| n % 2 == 1).map(|n| (n, 0)).sink("odd", odd.clone());
        let (counts, copy) = both.key_by(|n| (n, ())).process("count", Count::open).fork();
        counts.sink("all", all.clone());
        copy.key_by(|(_, n): (u64, u64)| (n, ()))
            .process("count-again", Count::open)
            .sink("again", again.clone());
        let config = config(parallelism).chain_keyed(chain_keyed);
        let report = run(&pipeline, config, &JobControl::new()).unwrap();

        let both: Vec<_> = records.iter().copied().chain(records.iter().map(|n| n + 1_000)).collect();
        assert_eq!(all.visible(), counted(&both));
        let mut expected: Vec<_> = both.iter().filter(|n| *n % 2 == 1).map(|n| (*n, 0)).collect();
        expected.sort_unstable();
        assert_eq!(odd.visible(), expected);
        let ranks: Vec<_> = counted(&both).into_iter().map(|(_, n)| n).collect();
        assert_eq!(again.visible(), counted(&ranks));
        assert_eq!(report.done, 6_000, "only the first keyed operator counts");
    }
}

#[test]
fn a_stream_that_nobody_consumes_is_read_to_its_end() {
    let pipeline = Pipeline::new("nothing", MemoryBackendFactory::default());
    drop(pipeline.source("numbers", VecSource::new(&numbers(1_000), 2)));
    let report = run(&pipeline, config(2), &JobControl::new()).unwrap();
    assert_eq!((report.outcome, report.read["numbers"]), (Outcome::Finished, 1_000));
}

#[test]
fn a_job_without_keyed_operators_counts_at_its_sinks() {
    let sink = VecSink::default();
    let pipeline = Pipeline::new("plain", MemoryBackendFactory::default());
    pipeline.source("numbers", VecSource::new(&numbers(1_000), 2)).sink("all", sink.clone());
    let report = run(&pipeline, config(2), &JobControl::new()).unwrap();
    assert_eq!((report.done, sink.visible().len()), (1_000, 1_000));
    assert_eq!(report.sinks["all"], [Figure::count("records", 1_000)], "the sum over both subtasks");
}

#[test]
fn results_of_the_end_come_once_and_in_full() {
    let records = numbers(10_000);
    for parallelism in [1, 3] {
        let sink = VecSink::default();
        let pipeline = Pipeline::new("totals", MemoryBackendFactory::default());
        pipeline
            .source("numbers", VecSource::new(&records, 3))
            .key_by(|n| (n, ()))
            .process("totals", Totals::open)
            .sink("results", sink.clone());
        run(&pipeline, config(parallelism), &JobControl::new()).unwrap();
        assert_eq!(sink.visible(), totals(&records));
    }
}

#[test]
fn windows_of_records_out_of_order_equal_a_plain_sum() {
    let records = disordered(5_000);
    for (parallelism, chain_keyed) in [(1, false), (1, true), (2, false), (4, false)] {
        let sink = VecSink::default();
        let pipeline = Pipeline::new("windows", MemoryBackendFactory::default());
        pipeline
            .source("events", VecSource { step: 7, ..VecSource::new(&records, 1) })
            .timestamps(millis(DISORDER), time_of)
            .key_by(|(key, _, value)| (key, value))
            .process("sums", |ctx| WindowSum::open(100, ctx))
            .sink("results", sink.clone());
        let config = config(parallelism).chain_keyed(chain_keyed);
        let report = run(&pipeline, config, &JobControl::new()).unwrap();
        assert_eq!(sink.visible(), window_sums(&records, 100));
        assert_eq!(report.late, 0);
    }
}

#[test]
fn what_is_later_than_the_delay_allows_is_late() {
    // Record by record: the third is behind the watermark that the second brought.
    let records = vec![(1, 10, 1), (1, 500, 1), (1, 20, 1), (1, 499, 1)];
    let sink = VecSink::default();
    let pipeline = Pipeline::new("late", MemoryBackendFactory::default());
    pipeline
        .source("events", VecSource { step: 1, ..VecSource::new(&records, 1) })
        .timestamps(millis(5), time_of)
        .key_by(|(key, _, value)| (key, value))
        .process("sums", |ctx| WindowSum::open(100, ctx))
        .sink("results", sink.clone());
    let report = run(&pipeline, config(1), &JobControl::new()).unwrap();
    assert_eq!(sink.visible(), [(1, 0, 1), (1, 400, 1), (1, 500, 1)]);
    assert_eq!(report.late, 1);
}

#[test]
fn a_slow_sink_holds_the_source_back() {
    let records = numbers(50_000);
    let sink = VecSink::default();
    let pipeline = counting(&VecSource { step: 10, ..VecSource::new(&records, 2) }, &sink);
    let held = sink.hold.clone();
    let mut guard = Some(held.lock().unwrap());
    let events = Events::new();
    std::thread::scope(|scope| {
        let config = config(1).batch_size(10).channel_capacity(4).observer(events.clone());
        let of = events.clone();
        let job = scope.spawn(move || of.of(|| run(&pipeline, config, &JobControl::new()).unwrap()));
        // Three looks at it: whatever the source has read by then, it is held in the channels.
        events.wait(|events| events.iter().filter(|event| read(event) > 0).count() >= 3);
        drop(guard.take());
        job.join().unwrap()
    });
    let held_back: Vec<_> =
        events.all().iter().map(read).take_while(|read| *read < 1_000).filter(|read| *read > 0).collect();
    // A batch with the source, four in the channel, one with the operator, one with the sink.
    assert!(held_back.iter().take(3).all(|read| *read <= 7 * 10), "{held_back:?}");
    assert_eq!(sink.visible(), counted(&records));
}

fn read(event: &JobEvent) -> u64 {
    match event {
        JobEvent::Progress(progress) => progress.read,
        _ => 0,
    }
}

#[test]
fn mistakes_of_the_builder_are_told_before_anything_runs() {
    let empty = Pipeline::new("empty", MemoryBackendFactory::default());
    let error = run(&empty, config(1), &JobControl::new()).unwrap_err();
    assert!(error.to_string().contains("no source"), "{error}");

    let twice = Pipeline::new("twice", MemoryBackendFactory::default());
    let stream = twice.source("same", VecSource::new(&numbers(1), 1));
    stream.sink("same", VecSink::default());
    let error = run(&twice, config(1), &JobControl::new()).unwrap_err();
    assert!(error.to_string().contains("\"same\""), "{error}");

    let named = Pipeline::new("named", MemoryBackendFactory::default());
    drop(named.source("no/path", VecSource::new(&numbers(1), 1)));
    let error = run(&named, config(1), &JobControl::new()).unwrap_err();
    assert!(error.to_string().contains("no/path"), "{error}");

    let none = JobConfig::default().parallelism(0);
    let error = run(&empty, none, &JobControl::new()).unwrap_err();
    assert_eq!(error.kind(), strandline_state_api::ErrorKind::Invalid);
}
