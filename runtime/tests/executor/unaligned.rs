//! Barriers that overtake records: checkpoints under backpressure wait for nobody, and each record counts
//! once, whatever the topology, at whatever parallelism a job goes on. A mismatch here means that what was in
//! flight was lost, or processed twice.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use crate::common::*;
use strandline_backend_memory::MemoryBackendFactory;
use strandline_checkpoint_storage::Storage;
use strandline_runtime::sink::{Sink, SinkContext, SinkFactory};
use strandline_runtime::source::{Source, SourceContext, SourceFactory, SourceStatus};
use strandline_runtime::*;
use strandline_state_api::*;

type Backend = MemoryBackendFactory;

/// Lets a step pass so many batches.
#[derive(Clone, Default)]
struct Permits(Arc<(Mutex<u64>, Condvar)>, Arc<AtomicU64>);

impl Permits {
    fn grant(&self, batches: u64) {
        let mut left = self.0.0.lock().unwrap();
        *left = left.saturating_add(batches);
        self.0.1.notify_all();
    }

    fn take(&self) {
        let left = self.0.0.lock().unwrap();
        let mut left = self.0.1.wait_while(left, |left| *left == 0).unwrap();
        *left -= 1;
        self.1.fetch_add(1, SeqCst);
    }

    fn taken(&self) -> u64 {
        self.1.load(SeqCst)
    }
}

/// Becomes true once, for whoever waits.
#[derive(Clone, Default)]
struct Flag(Arc<(Mutex<bool>, Condvar)>);

impl Flag {
    fn set(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    fn wait(&self) {
        drop(self.0.1.wait_while(self.0.0.lock().unwrap(), |set| !*set).unwrap());
    }
}

/// A [`VecSource`] that shows when a barrier has left it.
#[derive(Clone)]
struct WatchedSource(VecSource<u64>, Flag);

struct WatchedReader {
    reader: <VecSource<u64> as SourceFactory>::Source,
    at_barrier: Cell<bool>,
    left: Flag,
}

impl SourceFactory for WatchedSource {
    type Source = WatchedReader;

    fn open(&self, context: SourceContext<(u64, u64)>) -> Result<WatchedReader> {
        let (reader, left) = (self.0.open(context)?, self.1.clone());
        Ok(WatchedReader { reader, at_barrier: Cell::new(false), left })
    }
}

impl Source for WatchedReader {
    type Out = u64;
    type Position = (u64, u64);

    fn poll(&mut self, max: usize, output: &mut Batch<u64>) -> Result<SourceStatus> {
        if self.at_barrier.get() {
            self.left.set();
        }
        self.reader.poll(max, output)
    }

    fn positions(&self) -> Result<Vec<(u64, u64)>> {
        self.at_barrier.set(true);
        self.reader.positions()
    }
}

/// A [`VecSink`] that takes a batch for each permit.
#[derive(Clone)]
struct SlowSink(VecSink<(u64, u64)>, Permits);

struct SlowWriter(<VecSink<(u64, u64)> as SinkFactory>::Sink, Permits);

impl SinkFactory for SlowSink {
    type Sink = SlowWriter;

    fn open(&self, context: SinkContext<String>) -> Result<SlowWriter> {
        Ok(SlowWriter(self.0.open(context)?, self.1.clone()))
    }

    fn recover(&self, recovery: &strandline_runtime::sink::SinkRecovery<'_, String>) -> Result<()> {
        self.0.recover(recovery)
    }

    fn sweep(&self, dead: &strandline_runtime::sink::DeadOutputs) -> Result<()> {
        self.0.sweep(dead)
    }
}

impl Sink for SlowWriter {
    type In = (u64, u64);
    type Committable = String;
    type Summary = Written;

    fn write(&mut self, batch: &mut Batch<(u64, u64)>) -> Result<()> {
        self.1.take();
        self.0.write(batch)
    }

    fn pre_commit(&mut self, checkpoint: CheckpointId) -> Result<Vec<String>> {
        self.0.pre_commit(checkpoint)
    }

    fn commit(&mut self, checkpoint: CheckpointId) -> Result<()> {
        self.0.commit(checkpoint)
    }

    fn summary(&self) -> Written {
        self.0.summary()
    }
}

fn slow_counting(source: &WatchedSource, sink: &SlowSink) -> Pipeline<Backend> {
    let pipeline = Pipeline::new("job", Backend::default());
    pipeline
        .source("numbers", source.clone())
        .key_by(|n| (n, ()))
        .codec(SerdeCodec)
        .process("count", Count::open)
        .sink("results", sink.clone());
    pipeline
}

fn config(storage: &Storage, unaligned: Unaligned) -> CheckpointConfig {
    CheckpointConfig::new(storage.clone(), Duration::from_secs(3600)).interval(None).unaligned(unaligned)
}

/// A sink that hardly moves, and a full channel before it: the checkpoint waits for the batch that the sink
/// is at, and what waits in the channel is part of it. The job goes on from it at other parallelisms, in one
/// thread, too.
#[test]
fn a_checkpoint_waits_for_one_batch_of_a_slow_sink() {
    const BATCH: usize = 10;
    const CAPACITY: usize = 8;
    let records: Vec<u64> = (0..2_000).map(|n| n * n % 37).collect();
    for (unaligned, parallelism, chain) in [
        (Unaligned::On, 1, true),
        (Unaligned::On, 1, false),
        (Unaligned::On, 3, false),
        (Unaligned::After(Duration::from_millis(1)), 2, false),
    ] {
        let storage = Storage::in_memory().unwrap();
        let left = Flag::default();
        let source = VecSource { step: BATCH, ..VecSource::new(&records, 4) };
        let source = WatchedSource(source, left.clone());
        let sink = SlowSink(VecSink::default(), Permits::default());
        let (control, events) = (JobControl::new(), Events::new());
        let first = JobConfig::default()
            .batch_size(BATCH)
            .channel_capacity(CAPACITY)
            .chain_keyed(false)
            .checkpointing(config(&storage, unaligned))
            .observer(Arc::clone(&events) as Arc<dyn Observer>);
        let report = std::thread::scope(|scope| {
            let job =
                scope.spawn(|| events.of(|| run(&slow_counting(&source, &sink), first, &control).unwrap()));
            // One batch at the sink, and as many as fill the channel behind it.
            let full = ((CAPACITY + 1) * BATCH) as u64;
            let is_full = |event: &JobEvent| matches!(event, JobEvent::Progress(p) if p.read >= full);
            events.wait(|events| events.iter().any(is_full));
            let request = control.trigger_checkpoint();
            left.wait();
            // With a timeout the sink takes more batches until that has passed.
            let since = Instant::now();
            while since.elapsed() < Duration::from_millis(2) {
                std::thread::yield_now();
            }
            sink.1.grant(1);
            let report = request.wait().unwrap();
            assert!(sink.1.taken() <= 1, "{unaligned:?}: the sink took {} batches", sink.1.taken());
            control.cancel();
            sink.1.grant(u64::MAX);
            job.join().unwrap();
            report
        });
        let waiting = (CAPACITY * BATCH) as u64;
        assert!(report.in_flight_records >= waiting, "{unaligned:?}: {report:?}");
        assert!(report.in_flight_bytes > 20 * waiting && report.written_bytes > report.in_flight_bytes);
        let second = JobConfig::default()
            .parallelism(parallelism)
            .chain_keyed(chain)
            .checkpointing(config(&storage, Unaligned::Off));
        let report = run(&slow_counting(&source, &sink), second, &JobControl::new()).unwrap();
        assert_eq!(report.resumed_from, Some(CheckpointId::FIRST));
        assert!(sink.0.visible() == counted(&records), "{unaligned:?}, parallelism {parallelism}");
        let left = (records.len() - BATCH) as u64;
        assert!(report.done >= left, "{}: the sink had taken one batch, or none yet", report.done);
    }
}

/// How long a checkpoint takes with a sink at a hundredth of the rate; for people.
#[test]
#[ignore = "a measurement"]
fn duration_of_checkpoints_under_backpressure() {
    for unaligned in [Unaligned::Off, Unaligned::After(Duration::from_millis(50)), Unaligned::On] {
        let storage = Storage::in_memory().unwrap();
        let records: Vec<u64> = (0..400_000).collect();
        let source = VecSource { step: 1_000, ..VecSource::new(&records, 1) };
        let source = WatchedSource(source, Flag::default());
        let sink = SlowSink(VecSink::default(), Permits::default());
        let (control, events) = (JobControl::new(), Events::new());
        let config = JobConfig::default()
            .chain_keyed(false)
            .batch_size(1_000)
            .checkpointing(config(&storage, unaligned).interval(Duration::from_secs(1)))
            .observer(Arc::clone(&events) as Arc<dyn Observer>);
        std::thread::scope(|scope| {
            let permits = sink.1.clone();
            let over = Arc::new(AtomicU64::new(0));
            let is_over = Arc::clone(&over);
            scope.spawn(move || {
                while is_over.load(SeqCst) == 0 {
                    std::thread::sleep(Duration::from_millis(100));
                    permits.grant(1);
                }
                permits.grant(u64::MAX);
            });
            let job = scope.spawn(|| events.of(|| run(&slow_counting(&source, &sink), config, &control)));
            events.wait_completed(4);
            control.cancel();
            over.store(1, SeqCst);
            let report = job.join().unwrap().unwrap();
            for done in &report.checkpoints {
                let (duration, alignment) = (done.duration, done.alignment);
                let (records, bytes) = (done.in_flight_records, done.in_flight_bytes);
                println!(
                    "{unaligned:?}: {duration:?}, alignment {alignment:?}, {records} records, {bytes} B"
                );
            }
        });
    }
}

/// Counts for each key; knows that it sees the records of its broadcast side once and in order.
struct Announced {
    counts: ValueState<u64>,
    last: BroadcastState<(), u64>,
}

impl Announced {
    fn open<B: KeyedBackend<Key = u64>>(ctx: &mut Open<'_, B>) -> Result<Self> {
        let counts = ctx.register(&ValueDescriptor::new("counts"))?;
        Ok(Self { counts, last: ctx.register(&BroadcastDescriptor::new("last"))? })
    }
}

impl Operator for Announced {
    type Key = u64;
    type In = ();
    type Out = (u64, u64);
    type Namespace = ();

    fn process<B: KeyedBackend<Key = u64>>(
        &mut self,
        (): (),
        ctx: &mut Context<'_, B, (u64, u64)>,
    ) -> Result<()> {
        let n = ctx.state(self.counts).update_or_default(|n| {
            *n += 1;
            *n
        })?;
        ctx.emit((*ctx.key(), n));
        Ok(())
    }
}

impl BroadcastOperator for Announced {
    type Broadcast = u64;

    fn process_broadcast<B: KeyedBackend<Key = u64>>(
        &mut self,
        number: u64,
        ctx: &mut BroadcastContext<'_, B, (u64, u64)>,
    ) -> Result<()> {
        let last = ctx.broadcast(self.last)?.get(&()).copied().unwrap_or(0);
        if number != last + 1 {
            return Err(Error::invalid(format!("{number} came behind {last}")));
        }
        ctx.broadcast(self.last)?.put((), number);
        Ok(())
    }
}

/// Holds up whom it comes to, so that channels fill.
fn work<T>(record: T) -> T {
    std::hint::black_box((0..300u64).fold(0u64, |a, b| a.wrapping_mul(31) ^ std::hint::black_box(b)));
    record
}

/// One of the shapes that a job may have.
#[derive(Clone)]
struct Topology {
    shape: u32,
    first: VecSource<u64>,
    second: VecSource<u64>,
    numbers: VecSource<u64>,
    sink: VecSink<(u64, u64)>,
}

const SHAPES: u32 = 5;

impl Topology {
    fn pipeline(&self) -> Pipeline<Backend> {
        let pipeline = Pipeline::new("job", Backend::default());
        let first = pipeline.source("first", self.first.clone());
        match self.shape {
            0 => {
                let counts = first.key_by(|n| (n, ())).codec(SerdeCodec).process("count", Count::open);
                counts.map(work).sink("results", self.sink.clone());
            }
            // Two sources into one operator.
            1 => {
                let both = first.union(pipeline.source("second", self.second.clone()));
                let counts = both.key_by(|n| (n, ())).codec(SerdeCodec).process("count", Count::open);
                counts.map(work).sink("results", self.sink.clone());
            }
            // Two exchanges in a row.
            2 => {
                let counts = first.key_by(|n| (n, ())).codec(SerdeCodec).process("count", Count::open);
                let again = counts.key_by(|(n, _)| (n % 7, ())).codec(SerdeCodec);
                again.process("again", Count::open).map(work).sink("results", self.sink.clone());
            }
            // Pointwise edges into one sink.
            3 => {
                let second = pipeline.source("second", self.second.clone());
                let one = first.key_by(|n| (n, ())).codec(SerdeCodec).process("one", Count::open);
                let two = second.key_by(|n| (n, ())).codec(SerdeCodec).process("two", Count::open);
                one.union(two).codec(SerdeCodec).sink("results", self.sink.clone());
            }
            // A broadcast side.
            _ => {
                let numbers = pipeline.source("numbers", self.numbers.clone());
                let counts = first.key_by(|n| (n, ())).codec(SerdeCodec).connect_broadcast(numbers);
                counts.process("count", Announced::open).map(work).sink("results", self.sink.clone());
            }
        }
        pipeline
    }

    fn expected(&self) -> Vec<(u64, u64)> {
        let of = |source: &VecSource<u64>| source.splits.concat();
        let (first, second) = (of(&self.first), of(&self.second));
        match self.shape {
            1 => counted(&[first, second].concat()),
            2 => counted(&first.iter().map(|n| n % 7).collect::<Vec<_>>()),
            3 => {
                let mut all = [counted(&first), counted(&second)].concat();
                all.sort_unstable();
                all
            }
            _ => counted(&first),
        }
    }
}

/// Random topologies, delays, stops, crashes and savepoints; aligned, unaligned and switching; another
/// parallelism in each life of the job.
#[test]
fn each_record_counts_once_whatever_was_in_flight() {
    let (mut lives, mut in_flight, mut checkpoints) = (0, 0, 0);
    for seed in 0..cases(30) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut some = |n: usize| -> Vec<u64> { (0..n).map(|_| random.u64(0..200)).collect() };
        let (first, second) = (some(6_000), some(4_000));
        let (step, splits) = (random.usize(5..60), random.usize(1..5));
        let source = |records: &[u64]| VecSource { step, ..VecSource::new(records, splits) };
        let topology = Topology {
            shape: (seed % u64::from(SHAPES)) as u32,
            first: source(&first),
            second: source(&second),
            numbers: VecSource { step: 3, ..VecSource::new(&(1..=500).collect::<Vec<_>>(), 1) },
            sink: VecSink::default(),
        };
        let storage = Storage::in_memory().unwrap();
        for life in 0.. {
            let unaligned = match random.u8(0..4) {
                0 => Unaligned::Off,
                1 => Unaligned::After(Duration::from_micros(random.u64(0..3_000))),
                _ => Unaligned::On,
            };
            let (control, last) = (JobControl::new(), life == 5);
            let (of_observer, after) = (control.clone(), random.usize(1..8));
            let (stops, savepoint) = (random.bool(), random.u8(0..4) == 0);
            let completed = AtomicU64::new(0);
            let found = Arc::new(AtomicU64::new(0));
            let seen = Arc::clone(&found);
            let observer = move |event: &JobEvent| {
                let JobEvent::CheckpointCompleted(report) = event else { return };
                seen.fetch_add(report.in_flight_records, SeqCst);
                if matches!(report.kind, "savepoint" | "final") {
                    assert_eq!(report.in_flight_records, 0, "it is aligned");
                }
                let completed = completed.fetch_add(1, SeqCst) as usize;
                if completed == 0 && savepoint {
                    drop(of_observer.trigger_savepoint());
                }
                match completed >= after && !last {
                    true if stops => of_observer.stop(),
                    true => of_observer.cancel(),
                    false => {}
                }
            };
            let checkpointing = CheckpointConfig::new(storage.clone(), Duration::from_millis(1))
                .initial_delay(Duration::ZERO)
                .max_concurrent(random.u32(1..4))
                .tolerable_failures(u32::MAX)
                .unaligned(unaligned);
            let config = JobConfig::default()
                .parallelism(random.u32(1..4))
                .chain_keyed(random.bool())
                .batch_size(random.usize(4..40))
                .channel_capacity(random.usize(1..9))
                .checkpointing(checkpointing)
                .observer(Arc::new(observer));
            let report = run(&topology.pipeline(), config, &control).unwrap();
            (lives, in_flight) = (lives + 1, in_flight + found.load(SeqCst));
            checkpoints += report.checkpoints.len();
            if matches!(report.outcome, Outcome::Finished | Outcome::AlreadyFinished) {
                break;
            }
        }
        let Topology { sink, shape, .. } = &topology;
        assert!(sink.visible() == topology.expected(), "seed {seed}, shape {shape}: the result differs");
        assert_eq!(sink.staged(), 0, "seed {seed}");
    }
    println!("{lives} lives, {checkpoints} checkpoints, {in_flight} records in flight");
    assert!(in_flight > 0, "nothing was ever in flight: the test tests nothing");
}

#[test]
fn a_stream_without_a_codec_is_refused() {
    let pipeline = |codec: bool| {
        let pipeline = Pipeline::new("job", Backend::default());
        let keyed = pipeline.source("numbers", VecSource::new(&[1u64, 2], 1)).key_by(|n| (n, ()));
        let keyed = if codec { keyed.codec(SerdeCodec) } else { keyed };
        keyed.process("count", Count::open).sink("results", VecSink::default());
        pipeline
    };
    let storage = Storage::in_memory().unwrap();
    let config = |chain| {
        let checkpointing = config(&storage, Unaligned::On);
        JobConfig::default().chain_keyed(chain).checkpointing(checkpointing)
    };
    let error = run(&pipeline(false), config(false), &JobControl::new()).unwrap_err();
    assert_eq!((error.kind(), error.context("operator")), (ErrorKind::Invalid, Some("count")));
    assert!(error.message().contains("give their stream one with `codec`"), "{error}");
    assert!(run(&pipeline(true), config(false), &JobControl::new()).is_ok());
    let other = Storage::in_memory().unwrap();
    let chained = JobConfig::default().chain_keyed(true);
    let chained =
        chained.checkpointing(CheckpointConfig::new(other, Duration::from_secs(9)).unaligned(Unaligned::On));
    assert!(run(&pipeline(false), chained, &JobControl::new()).is_ok(), "it has no channels");
}
