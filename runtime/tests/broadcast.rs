//! Keyed operators with a broadcast side. A mismatch here means that a subtask missed a rule, had one twice, or forgot one.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use common::rated::*;
use common::*;
use strandline_backend_memory::MemoryBackendFactory;
use strandline_checkpoint_storage::{RecoverOptions, Storage};
use strandline_runtime::*;
use strandline_state_api::*;

/// Long enough that no periodic checkpoint comes in a test.
const NEVER: Duration = Duration::from_secs(100_000);

/// Orders and rules, where they come together, and where results go.
#[derive(Clone)]
struct Job {
    orders: VecSource<Order>,
    rules: VecSource<Rule>,
    sink: VecSink<(u64, u64, i64)>,
    storage: Storage,
    how: How,
}

impl Job {
    fn new(orders: &[Order]) -> Self {
        Self {
            orders: VecSource { step: 40, ..VecSource::new(orders, 5) },
            rules: VecSource { step: 3, ..VecSource::new(&rules(), 3) },
            sink: VecSink::default(),
            storage: Storage::in_memory().unwrap(),
            how: How::default(),
        }
    }

    fn pipeline(&self) -> Pipeline<MemoryBackendFactory> {
        let pipeline = Pipeline::new("rated", MemoryBackendFactory::default());
        let how = self.how.clone();
        let rules = pipeline.source("rules", self.rules.clone());
        pipeline
            .source("orders", self.orders.clone())
            .key_by(|(key, rule, amount): Order| (key, (rule, amount)))
            .connect_broadcast(rules)
            .process("rate", move |ctx| Rated::open(&how, ctx))
            .sink("results", self.sink.clone());
        pipeline
    }

    fn config(&self, parallelism: u32, interval: Duration) -> JobConfig {
        let checkpointing = CheckpointConfig {
            tolerable_failures: u32::MAX,
            ..CheckpointConfig::new(self.storage.clone(), interval)
        };
        JobConfig { parallelism, batch_size: 64, checkpointing: Some(checkpointing), ..JobConfig::default() }
    }

    /// Runs the job while `meanwhile` watches and steers it.
    fn run_while(&self, config: JobConfig, meanwhile: impl FnOnce(&Events, &JobControl)) -> JobReport {
        let (events, control) = (Events::new(), JobControl::new());
        let config = JobConfig { observer: Some(events.clone()), ..config };
        std::thread::scope(|scope| {
            let job = scope.spawn(|| events.of(|| run(&self.pipeline(), config, &control).unwrap()));
            meanwhile(&events, &control);
            job.join().unwrap()
        })
    }
}

fn wait_done(events: &Events, records: u64) {
    let is_done =
        |event: &JobEvent| matches!(event, JobEvent::Progress(progress) if progress.done >= records);
    events.wait(|events| events.iter().any(is_done));
}

#[test]
fn every_subtask_gets_every_rule_once() {
    let orders = orders(3_000);
    for (parallelism, chain_keyed) in [(1, false), (1, true), (2, false), (3, false)] {
        let job = Job::new(&orders);
        let config = JobConfig { chain_keyed, batch_size: 64, parallelism, ..JobConfig::default() };
        let report = run(&job.pipeline(), config, &JobControl::new()).unwrap();
        assert_eq!(report.outcome, Outcome::Finished);
        assert!(job.sink.visible() == rated(&orders, &rules()), "parallelism {parallelism}");
        assert_eq!(job.how.applied.get(), RULES * u64::from(parallelism));
        assert_eq!(report.done, 3_000, "only orders are counted");
    }
}

#[test]
fn many_streams_of_both_sides_meet_with_channels_of_one_batch() {
    // One source feeds both sides, so each of its barriers goes two ways to the same task; another one unites with each.
    let (all, other) = (orders(4_000), orders(500));
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
    let orders = [orders(4_000), orders(500)].concat();
    assert!(job.sink.visible() == rated(&orders, &rules()));
}

/// Lights one of the fuses at every restart, until there have been enough.
fn relight(seed: u64, failures: u32, job: &Job) -> impl Fn(&JobEvent) + Send + Sync + 'static {
    let fuses = [job.orders.fuse.clone(), job.rules.fuse.clone(), job.sink.fuse.clone()];
    let (random, left) = (Mutex::new(fastrand::Rng::with_seed(seed)), AtomicU32::new(failures));
    move |event| {
        if matches!(event, JobEvent::Started { .. }) && left.load(SeqCst) > 0 {
            left.fetch_sub(1, SeqCst);
            let mut random = random.lock().unwrap();
            match random.usize(0..3) {
                1 => fuses[1].set(random.i64(1..=RULES as i64)),
                side => fuses[side].set(random.i64(1..8_000)),
            }
        }
    }
}

#[test]
fn failures_change_nothing_in_the_result() {
    let (mut restarts, mut resumed) = (0, 0);
    for seed in 0..cases(12) {
        let mut random = fastrand::Rng::with_seed(seed);
        let orders = orders(15_000);
        let job = Job::new(&orders);
        let events = Events::new();
        let relight = relight(seed, 4, &job);
        let seen = events.clone();
        let observer = move |event: &JobEvent| {
            relight(event);
            seen.event(event);
        };
        let config = JobConfig {
            restart: Some(RestartStrategy::FixedDelay { attempts: 1000, delay: Duration::ZERO }),
            observer: Some(Arc::new(observer)),
            ..job.config(random.u32(1..4), Duration::from_millis(1))
        };
        let report = run(&job.pipeline(), config, &JobControl::new()).unwrap();
        assert_eq!(report.outcome, Outcome::Finished, "seed {seed}");
        assert!(job.sink.visible() == rated(&orders, &rules()), "seed {seed}: the result differs");
        restarts += report.restarts;
        let is_resumed = |event: &&JobEvent| matches!(event, JobEvent::Started { from: Some(_), .. });
        resumed += events.all().iter().filter(is_resumed).count();
    }
    assert!(restarts > 0 && resumed > 0, "nothing was ever restored: the test tests nothing");
}

#[test]
fn a_rescale_keeps_the_rules_in_every_subtask() {
    let orders = orders(6_000);
    let mut job = Job::new(&orders);
    job.orders.gate.store(0, SeqCst);
    for (parallelism, per_split) in [(1, 400), (3, 800), (2, u64::MAX)] {
        let first = parallelism == 1;
        let report = job.run_while(job.config(parallelism, NEVER), |events, control| {
            if first {
                job.how.applied.wait(RULES);
            }
            job.orders.gate.store(per_split, SeqCst);
            if per_split < u64::MAX {
                wait_done(events, 2_000);
                control.stop();
            }
        });
        assert_eq!(report.resumed_from.is_some(), !first);
        assert_eq!(job.how.applied.get(), RULES, "rules are restored, not read again");
        // From now on there is no order without a rule.
        job.how.strict = true;
    }
    assert!(job.sink.visible() == rated(&orders, &rules()));
}

/// Whether the newest checkpoint has all of `operator` as ended.
fn has_ended(storage: &Storage, operator: &str) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let recovery = runtime.block_on(storage.recover(RecoverOptions::default())).unwrap();
    let manifest = recovery.restored.unwrap().manifest;
    let operator = manifest.operators.iter().find(|of| of.id.as_str() == operator).unwrap();
    operator.subtasks.iter().all(|subtask| subtask.finished)
}

/// Takes checkpoints until one has `operator` as ended.
fn checkpoint_behind_the_end_of(operator: &str, job: &Job, events: &Events, control: &JobControl) {
    for n in 1.. {
        control.trigger_checkpoint();
        events.wait_completed(n);
        if has_ended(&job.storage, operator) {
            return;
        }
    }
}

#[test]
fn checkpoints_go_on_when_the_broadcast_side_has_ended() {
    let orders = orders(4_000);
    let job = Job::new(&orders);
    job.orders.gate.store(400, SeqCst);
    let report = job.run_while(job.config(2, NEVER), |events, control| {
        wait_done(events, 2_000);
        checkpoint_behind_the_end_of("rules", &job, events, control);
        control.cancel();
    });
    assert_eq!(report.outcome, Outcome::Cancelled);
    job.orders.open_gate();
    let report = job.run_while(job.config(2, NEVER), |_, _| {});
    assert_eq!((report.outcome, report.read["orders"]), (Outcome::Finished, 2_000));
    assert_eq!(job.how.applied.get(), RULES * 2, "once in each subtask, not again after the restart");
    assert!(job.sink.visible() == rated(&orders, &rules()));
}

#[test]
fn checkpoints_go_on_when_the_keyed_side_has_ended() {
    let orders = orders(4_000);
    let job = Job::new(&orders);
    job.rules.gate.store(0, SeqCst);
    let report = job.run_while(job.config(2, NEVER), |events, control| {
        wait_done(events, 4_000);
        checkpoint_behind_the_end_of("orders", &job, events, control);
        control.cancel();
    });
    assert_eq!(report.outcome, Outcome::Cancelled);
    assert!(job.sink.visible().is_empty(), "the end of one side is not the end of time: all orders wait");
    job.rules.open_gate();
    let report = job.run_while(job.config(3, NEVER), |_, _| {});
    assert_eq!(report.outcome, Outcome::Finished);
    assert!(!report.read.contains_key("orders") || report.read["orders"] == 0);
    assert!(job.sink.visible() == rated(&orders, &rules()));
}

/// A broadcast side that only has a time.
impl<B: KeyedBackend> BroadcastOperator<B> for WindowSum {
    type Broadcast = i64;

    fn process_broadcast(&mut self, _: i64, _: &mut BroadcastContext<'_, B, Self::Out>) -> Result<()> {
        Ok(())
    }
}

#[test]
fn time_is_that_of_the_slower_side() {
    let records = disordered(10_000);
    let times = VecSource::new(&[2_500_i64, 5_500, 99_999], 1).gated(1);
    let (sink, storage, events, control) =
        (VecSink::default(), Storage::in_memory().unwrap(), Events::new(), JobControl::new());
    let pipeline = Pipeline::new("times", MemoryBackendFactory::default());
    let side = pipeline.source("times", times.clone()).timestamps(0, |time| *time);
    pipeline
        .source("events", VecSource::new(&records, 1))
        .timestamps(DISORDER, |event: &Event| event.1)
        .key_by(|(key, _, value)| (key, value))
        .connect_broadcast(side)
        .process("sums", |ctx| WindowSum::open(1_000, ctx))
        .sink("results", sink.clone());
    let config = JobConfig {
        parallelism: 2,
        checkpointing: Some(CheckpointConfig::new(storage, NEVER)),
        observer: Some(events.clone()),
        ..JobConfig::default()
    };
    let up_to = |end: i64| {
        let mut sums = window_sums(&records, 1_000);
        sums.retain(|(_, start, _)| start + 1_000 <= end);
        sums
    };
    std::thread::scope(|scope| {
        let job = scope.spawn(|| events.of(|| run(&pipeline, config, &control).unwrap()));
        wait_done(&events, 10_000);
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
        job.join().unwrap();
    });
    assert_eq!(sink.visible(), window_sums(&records, 1_000));
}

/// Counts; a broadcast record subtracts from the counts of all keys and says so.
struct Rebased {
    counts: ValueState<u64>,
    done: Tally,
}

impl<B: KeyedBackend<Key = u64>> Operator<B> for Rebased {
    type In = ();
    type Out = (u64, u64);
    type Namespace = ();

    fn process(&mut self, _: (), ctx: &mut Context<'_, B, Self::Out>) -> Result<()> {
        ctx.state().value(self.counts).modify(|| 0, |n| *n += 1)
    }

    fn on_end(&mut self, backend: &mut B, output: &mut Output<Self::Out>) -> Result<()> {
        backend.value_for_each(self.counts, |key: &u64, _: &(), n: &u64| {
            output.push((*key, *n), NO_TIMESTAMP);
            Ok(())
        })
    }
}

impl<B: KeyedBackend<Key = u64>> BroadcastOperator<B> for Rebased {
    type Broadcast = u64;

    fn process_broadcast(&mut self, less: u64, ctx: &mut BroadcastContext<'_, B, Self::Out>) -> Result<()> {
        let mut keys = Vec::new();
        ctx.backend().value_for_each(self.counts, |key: &u64, _: &(), _: &u64| {
            keys.push(*key);
            Ok(())
        })?;
        for key in keys {
            KeyScope::new(ctx.backend(), Keyed::new(&key)).value(self.counts).modify(|| 0, |n| *n -= less)?;
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
    let (sink, events, done) = (VecSink::default(), Events::new(), Tally::default());
    let pipeline = Pipeline::new("rebased", MemoryBackendFactory::default());
    let side = pipeline.source("less", less.clone());
    let tally = done.clone();
    pipeline
        .source("numbers", numbers.clone())
        .key_by(|n| (n, ()))
        .connect_broadcast(side)
        .process("rebase", move |ctx| {
            Ok(Rebased { counts: ctx.value(&ValueDescriptor::new("counts"))?, done: tally.clone() })
        })
        .sink("results", sink.clone());
    let config = JobConfig { parallelism: 2, observer: Some(events.clone()), ..JobConfig::default() };
    std::thread::scope(|scope| {
        let job = scope.spawn(|| events.of(|| run(&pipeline, config, &JobControl::new()).unwrap()));
        wait_done(&events, 300);
        less.open_gate();
        done.wait(2);
        numbers.open_gate();
        job.join().unwrap();
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
