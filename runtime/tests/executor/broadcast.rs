//! Keyed operators with a broadcast side, without faults: what comes out is what a plain loop computes.

use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc;
use std::time::Duration;

use crate::common::rated::*;
use crate::common::*;
use strandline_backend_memory::MemoryBackendFactory;
use strandline_checkpoint_storage::Storage;
use strandline_runtime::*;
use strandline_state_api::backend::KeyedBackendExt;
use strandline_state_api::*;

#[test]
fn every_subtask_gets_every_rule_once() {
    let orders = orders(3_000);
    for (parallelism, chain_keyed) in [(1, false), (1, true), (2, false), (3, false)] {
        let job = Job::new(&orders);
        let config = JobConfig::default().chain_keyed(chain_keyed).batch_size(64).parallelism(parallelism);
        let report = run(&job.pipeline(), config, &JobControl::new()).unwrap();
        assert_eq!(report.outcome, Outcome::Finished);
        assert!(job.sink.visible() == rated(&orders, &rules()), "parallelism {parallelism}");
        assert_eq!(job.how.applied.get(), RULES * u64::from(parallelism));
        assert_eq!(report.done, 3_000, "only orders are counted");
    }
}

#[test]
fn many_streams_of_both_sides_meet_with_channels_of_one_batch() {
    // One source feeds both sides, so each of its barriers goes two ways to the same task; another one unites
    // with each.
    let (all, other) = (orders(1_500), orders(500));
    let (finished, wait) = mpsc::channel();
    let job = Job { orders: VecSource { step: 7, ..VecSource::new(&all, 4) }, ..Job::new(&other) };
    let watched = job.clone();
    std::thread::spawn(move || {
        let pipeline = Pipeline::new("diamond", MemoryBackendFactory::default());
        let (left, rules) = pipeline.source("orders", watched.orders.clone()).fork();
        let one_of_each =
            |(_, rule, amount): Order| (amount < RULES as i64).then_some((rule, 3 + rule as i64));
        let rules =
            rules.flat_map(move |order, out| one_of_each(order).into_iter().for_each(|r| out.emit(r)));
        let none = pipeline.source("none", VecSource::new(&[(0, 0); 0], 1));
        let right = pipeline.source("others", VecSource { step: 7, ..VecSource::new(&other, 2) });
        let how = watched.how.clone();
        left.union(right)
            .key_by(|(key, rule, amount): Order| (key, (rule, amount)))
            .connect_broadcast(rules.union(none))
            .process("rate", move |ctx| Rated::open(&how, ctx))
            .sink("results", watched.sink.clone());
        let mut config = watched.config(3, Duration::from_millis(1));
        (config.batch_size, config.channel_capacity) = (5, 1);
        if let Some(checkpointing) = &mut config.checkpointing {
            checkpointing.max_concurrent = 3;
        }
        finished.send(run(&pipeline, config, &JobControl::new()).unwrap()).unwrap();
    });
    let report = wait.recv_timeout(Duration::from_secs(120)).expect("the job came to its end");
    assert!(report.checkpoints.len() > 1, "barriers did flow");
    let orders = [orders(1_500), orders(500)].concat();
    assert!(job.sink.visible() == rated(&orders, &rules()));
}

/// A broadcast side that only has a time.
impl<K: StateKey> BroadcastOperator for WindowSum<K> {
    type Broadcast = i64;

    fn process_broadcast<B: KeyedBackend<Key = K>>(
        &mut self,
        _: i64,
        _: &mut BroadcastContext<'_, B, Self::Out>,
    ) -> Result<()> {
        Ok(())
    }
}

#[test]
fn time_is_that_of_the_slower_side() {
    let records = disordered(10_000);
    let times = VecSource::new(&[2_500_i64, 5_500, 99_999], 1).gated(1);
    let (sink, storage) = (VecSink::default(), Storage::in_memory().unwrap());
    let pipeline = Pipeline::new("times", MemoryBackendFactory::default());
    let side = pipeline
        .source("times", times.clone())
        .timestamps(Duration::ZERO, |time| Timestamp::from_millis(*time));
    pipeline
        .source("events", VecSource::new(&records, 1))
        .timestamps(millis(DISORDER), time_of)
        .key_by(|(key, _, value)| (key, value))
        .connect_broadcast(side)
        .process("sums", |ctx| WindowSum::open(1_000, ctx))
        .sink("results", sink.clone());
    let config = JobConfig::default().parallelism(2).checkpointing(CheckpointConfig::new(storage, NEVER));
    let up_to = |end: i64| {
        let mut sums = window_sums(&records, 1_000);
        sums.retain(|(_, start, _)| start + 1_000 <= end);
        sums
    };
    run_while(&pipeline, config, |events, control| {
        wait_done(events, 10_000);
        for (gate, end) in [(1, 2_000), (2, 5_000)] {
            times.gate.store(gate, SeqCst);
            // Both have seen all records; what fires next depends on the other side alone.
            while sink.visible().len() < up_to(end).len() {
                let before = completed(&events.all());
                control.trigger_checkpoint();
                events.wait_completed(before + 1);
            }
            assert_eq!(sink.visible(), up_to(end));
        }
        times.open_gate();
    });
    assert_eq!(sink.visible(), window_sums(&records, 1_000));
}

/// Counts; a broadcast record subtracts from the counts of all keys and emits them.
struct Rebased {
    counts: ValueState<u64>,
    done: Tally,
}

impl Operator for Rebased {
    type Key = u64;
    type In = ();
    type Out = (u64, u64);
    type Namespace = ();

    fn process<B: KeyedBackend<Key = u64>>(
        &mut self,
        _: (),
        ctx: &mut Context<'_, B, Self::Out>,
    ) -> Result<()> {
        ctx.state(self.counts).update_or_default(|n| *n += 1)
    }

    fn on_end<B: KeyedBackend<Key = u64>>(
        &mut self,
        backend: &mut B,
        output: &mut Batch<Self::Out>,
    ) -> Result<()> {
        backend.for_each_value(self.counts, |key: &u64, _: &(), n: &u64| {
            output.push((*key, *n), None);
            Ok(())
        })
    }
}

impl BroadcastOperator for Rebased {
    type Broadcast = u64;

    fn process_broadcast<B: KeyedBackend<Key = u64>>(
        &mut self,
        less: u64,
        ctx: &mut BroadcastContext<'_, B, Self::Out>,
    ) -> Result<()> {
        let mut keys = Vec::new();
        ctx.backend().for_each_value(self.counts, |key: &u64, _: &(), _: &u64| {
            keys.push(*key);
            Ok(())
        })?;
        for key in keys {
            ctx.backend().at(&key).state(self.counts).update_or_default(|n| *n -= less)?;
            ctx.emit((key, 1_000));
        }
        self.done.add();
        Ok(())
    }
}

#[test]
fn the_broadcast_side_reaches_the_keyed_state_of_all_keys() {
    let records: Vec<u64> = (0..600).map(|i| i % 30).collect();
    let (numbers, less) = (VecSource::new(&records, 3).gated(100), VecSource::new(&[4_u64], 1).gated(0));
    let (sink, done) = (VecSink::default(), Tally::default());
    let pipeline = Pipeline::new("rebased", MemoryBackendFactory::default());
    let side = pipeline.source("less", less.clone());
    let tally = done.clone();
    pipeline
        .source("numbers", numbers.clone())
        .key_by(|n| (n, ()))
        .connect_broadcast(side)
        .process("rebase", move |ctx| {
            Ok(Rebased { counts: ctx.register(&ValueDescriptor::new("counts"))?, done: tally.clone() })
        })
        .sink("results", sink.clone());
    let config = JobConfig::default().parallelism(2);
    run_while(&pipeline, config, |events, _| {
        wait_done(events, 300);
        less.open_gate();
        done.wait(2);
        numbers.open_gate();
    });
    let expected: Vec<_> = (0..30).flat_map(|key| [(key, 16), (key, 1_000)]).collect();
    assert_eq!(sink.visible(), expected, "20 of each key, 4 less, each key in one subtask");
}

#[test]
fn streams_of_two_pipelines_are_refused() {
    let [one, two] = ["one", "two"].map(|name| Pipeline::new(name, MemoryBackendFactory::default()));
    let job = Job::new(&[]);
    let rules = two.source("rules", job.rules.clone());
    one.source("orders", job.orders.clone())
        .key_by(|(key, rule, amount): Order| (key, (rule, amount)))
        .connect_broadcast(rules)
        .process("rate", move |ctx| Rated::open(&How::default(), ctx))
        .sink("results", job.sink);
    let error = run(&one, JobConfig::default(), &JobControl::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.message().contains("another pipeline"), "{error}");
}
