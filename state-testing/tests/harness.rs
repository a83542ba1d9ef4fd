//! The harness drives an operator as the runtime does, in one thread.

#![allow(clippy::unwrap_used, missing_docs)]

use strandline_backend_memory::MemoryBackendFactory;
use strandline_state_api::backend::{KeyedBackendExt, SnapshotKind};
use strandline_state_api::host::Steps;
use strandline_state_api::{
    BroadcastContext, BroadcastDescriptor, BroadcastOperator, BroadcastState, Context, ErrorKind,
    KeyedBackend, Open, Operator, OrFail, Result, TimeDomain, Timer, TimerDescriptor, TimerService,
    Timestamp, ValueDescriptor, ValueState,
};
use strandline_state_testing::Harness;

/// Counts the records of a key. A broadcast record sets the weight of a record and restarts all counts. Emits
/// the count in event time, and removes it in processing time.
#[derive(Debug)]
struct Weigh {
    weights: BroadcastState<(), u64>,
    counts: ValueState<u64>,
    reports: TimerService,
    removals: TimerService,
}

/// The key, the count, and the subtask with the parallelism.
type Report = (u64, u64, (u32, u32));

fn counts() -> ValueDescriptor<u64> {
    ValueDescriptor::new("counts")
}

impl Weigh {
    fn open<B: KeyedBackend>(ctx: &mut Open<'_, B>) -> Result<Self> {
        Ok(Self {
            weights: ctx.register(&BroadcastDescriptor::new("weights"))?,
            counts: ctx.register(&counts())?,
            reports: ctx.register(&TimerDescriptor::event_time("reports"))?,
            removals: ctx.register(&TimerDescriptor::processing_time("removals"))?,
        })
    }
}

impl Operator for Weigh {
    type Key = u64;
    type In = i64;
    type Out = Report;
    type Namespace = ();

    fn process<B>(&mut self, delay: i64, ctx: &mut Context<'_, B, Report>) -> Result<()>
    where
        B: KeyedBackend<Key = u64>,
    {
        let weight = ctx.broadcast(self.weights)?.get(&()).copied().unwrap_or(1);
        let n = ctx.state(self.counts).update_or_default(|n| {
            *n += weight;
            *n
        })?;
        match ctx.timestamp() {
            Some(time) => drop(ctx.state(self.reports).register(time.plus_millis(delay))?),
            None => ctx.emit((*ctx.key(), n, (ctx.subtask(), ctx.parallelism()))),
        }
        if let Some(now) = ctx.processing_time() {
            ctx.state(self.removals).register(now.plus_millis(delay))?;
        }
        Ok(())
    }

    fn on_timer<B>(&mut self, timer: &Timer<u64>, ctx: &mut Context<'_, B, Report>) -> Result<()>
    where
        B: KeyedBackend<Key = u64>,
    {
        if timer.service == self.removals {
            return ctx.state(self.counts).clear().map(drop);
        }
        let n = ctx.state(self.counts).get()?.copied().unwrap_or(0);
        ctx.emit((timer.key, n, (ctx.subtask(), ctx.parallelism())));
        Ok(())
    }
}

impl BroadcastOperator for Weigh {
    type Broadcast = u64;

    fn process_broadcast<B>(&mut self, weight: u64, ctx: &mut BroadcastContext<'_, B, Report>) -> Result<()>
    where
        B: KeyedBackend<Key = u64>,
    {
        ctx.broadcast(self.weights)?.put((), weight);
        let counts = self.counts;
        ctx.backend().apply_to_all_keys(counts, &(), |key| key.state(counts).put(0))?;
        ctx.emit((u64::MAX, weight, (ctx.subtask(), ctx.parallelism())));
        Ok(())
    }
}

type Weighing<M> = Harness<MemoryBackendFactory, Weigh, M>;

fn count<M>(harness: &mut Weighing<M>, key: u64) -> Option<u64> {
    harness.state(key, |weigh, key| Ok(key.state(weigh.counts).get()?.copied())).unwrap()
}

macro_rules! weighing {
    ($parallelism:expr) => {
        Harness::with_parallelism(MemoryBackendFactory::default(), "weigh", Weigh::open, $parallelism)
            .unwrap()
    };
}

#[test]
fn a_timestamp_is_a_number_an_instant_or_nothing() {
    let mut harness = weighing!(1);
    harness.process(1u64, 5, 10).unwrap();
    harness.process(2u64, 5, Timestamp::from_millis(20)).unwrap();
    harness.process(3u64, 5, Some(Timestamp::from_millis(30))).unwrap();
    harness.process(4u64, 5, None).unwrap();
    let timers = harness.timers(TimeDomain::Event).unwrap();
    let times: Vec<_> = timers.iter().map(|timer| (timer.key, timer.time.as_millis())).collect();
    assert_eq!(times, [(1, 15), (2, 25), (3, 35)]);
    let output = harness.take_output();
    assert_eq!(output.records(), [(4, 1, (0, 1))]);
    assert_eq!(output.timestamps(), [None]);
    assert!(harness.take_output().is_empty());
}

#[test]
fn a_broadcast_record_reaches_every_subtask() {
    let mut harness = weighing!(3);
    for key in 0..20u64 {
        harness.process(key, 5, 10).unwrap();
    }
    harness.broadcast(7, None).unwrap();
    let weights: Vec<_> = harness.take_output().into_iter().map(|(record, _)| record).collect();
    assert_eq!(weights, [0, 1, 2].map(|subtask| (u64::MAX, 7, (subtask, 3))));
    for key in 0..20u64 {
        assert_eq!(count(&mut harness, key), Some(0), "the broadcast side sees the keyed state");
        harness.process(key, 5, 10).unwrap();
        assert_eq!(count(&mut harness, key), Some(7));
    }
    harness.rescale(5).unwrap();
    harness.process(99u64, 5, 10).unwrap();
    assert_eq!(count(&mut harness, 99), Some(7), "every new subtask has the broadcast state");
    for subtask in 0..5 {
        let entries = harness.operator_state(subtask, |_, state| state.snapshot()).unwrap();
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0].elements.len(), 1, "subtask {subtask} has the one weight");
    }
}

#[test]
fn the_next_processing_timer_is_that_of_all_subtasks() {
    let mut harness = weighing!(4);
    assert_eq!(harness.next_processing_timer().unwrap(), None);
    harness.processing_time(1_000).unwrap();
    for key in 0..20u64 {
        harness.process(key, 100 - key as i64, 10).unwrap();
    }
    assert_eq!(harness.next_processing_timer().unwrap(), Some(1_081.into()));
    assert_eq!(harness.processing_time(1_082).unwrap(), Steps::Done);
    assert_eq!(harness.next_processing_timer().unwrap(), Some(1_083.into()));
    assert_eq!([17, 18, 19].map(|key| count(&mut harness, key)), [Some(1), None, None]);
    assert!(harness.take_output().is_empty(), "event timers wait for a watermark");
}

#[test]
fn a_restore_continues_at_the_barrier_at_any_parallelism() {
    let mut harness = weighing!(2);
    harness.max_timers(1);
    for key in 0..8u64 {
        harness.process(key, 5, 10 * key as i64).unwrap();
    }
    harness.processing_time(500).unwrap();
    assert_eq!(harness.watermark(1_000).unwrap(), Steps::More, "each subtask fires one timer");
    assert_eq!(harness.take_output().len(), 2);
    let snapshot = harness.snapshot(SnapshotKind::Full).unwrap();
    assert_eq!(snapshot.watermark(), Some(1_000.into()));
    assert_eq!(snapshot.processing_time(), Some(500.into()));
    assert!(snapshot.full_bytes() > 0 && snapshot.written_bytes() == snapshot.full_bytes());
    harness.process(0u64, 5, None).unwrap();
    harness.take_output();
    for parallelism in [1, 3, 2] {
        let restored = harness.restore(&snapshot, parallelism).unwrap();
        assert_eq!((restored.entries, restored.orphans.len()), (8 + 6, 0));
        assert!(harness.take_output().is_empty(), "a restore fires nothing");
        assert_eq!(count(&mut harness, 0), Some(1), "the failure lost the later record");
        while harness.watermark(1_000).unwrap() == Steps::More {}
        let output = harness.take_output();
        assert_eq!(output.len(), 6);
        assert!(output.records().iter().all(|report| report.2.1 == parallelism));
        harness.end().unwrap();
        assert_eq!(harness.process(1u64, 5, 1).unwrap_err().kind(), ErrorKind::Invalid);
        assert_eq!(harness.broadcast(1, 1).unwrap_err().kind(), ErrorKind::Invalid);
    }
}

#[test]
fn errors_name_operator_and_subtask() {
    let mut harness = weighing!(2);
    let error = harness.operator_state(2, |_, _| Ok(())).unwrap_err();
    assert_eq!((error.kind(), error.context("subtask")), (ErrorKind::Invalid, Some("2")));
    let fail = strandline_state_api::Error::invalid("enough");
    let error = harness.state(1u64, |_, _| Err::<(), _>(fail)).unwrap_err();
    assert_eq!(error.context("operator"), Some("weigh"));
    let snapshot = harness.snapshot(SnapshotKind::Incremental).unwrap();
    let mut other = Harness::new(MemoryBackendFactory::default(), "other", Weigh::open).unwrap();
    let error = other.restore(&snapshot, 1).unwrap_err();
    assert!(error.to_string().contains("weigh") && error.to_string().contains("other"), "{error}");
    let error = harness.restore(&snapshot, 0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[test]
fn state_can_be_read_without_its_handle() {
    let mut harness = weighing!(2);
    harness.process(3u64, 5, 1).unwrap();
    let read = harness.state(3u64, |_, key| {
        let counts = key.backend().register(&counts())?;
        Ok(key.state(counts).get()?.copied())
    });
    assert_eq!(read.unwrap(), Some(1));
    assert_eq!(harness.entries(), 2);
}

/// Parses orders in ways that fail with the errors of other libraries.
#[derive(Debug)]
struct Parse;

impl Parse {
    fn open<B: KeyedBackend>(_: &mut Open<'_, B>) -> Result<Self> {
        Ok(Self)
    }
}

impl Operator for Parse {
    type Key = u64;
    type In = Vec<u8>;
    type Out = u64;
    type Namespace = ();

    fn process<B>(&mut self, bytes: Vec<u8>, ctx: &mut Context<'_, B, u64>) -> Result<()>
    where
        B: KeyedBackend<Key = u64>,
    {
        use std::fmt::Write;

        let text = std::str::from_utf8(&bytes)?;
        let number = match text.split_once(' ') {
            Some(("int", rest)) => rest.parse::<u64>()?,
            Some(("float", rest)) => rest.parse::<f64>()? as u64,
            Some(("narrow", rest)) => u8::try_from(rest.len() * 100)?.into(),
            Some(("read", rest)) => std::fs::read(rest)?.len() as u64,
            Some(("format", _)) => write!(Full, "x").map(|()| 0)?,
            Some(("boxed", rest)) => boxed(rest)?,
            Some(("named", rest)) => rest.parse().or_fail("the price of an order is no number")?,
            _ => 0,
        };
        ctx.emit(number);
        Ok(())
    }
}

/// Takes no text.
struct Full;

impl std::fmt::Write for Full {
    fn write_str(&mut self, _: &str) -> std::fmt::Result {
        Err(std::fmt::Error)
    }
}

fn boxed(text: &str) -> std::result::Result<u64, Box<dyn std::error::Error + Send + Sync>> {
    Ok(text.parse::<std::net::IpAddr>().map(|_| 1)?)
}

#[test]
fn a_question_mark_converts_the_errors_of_other_libraries() {
    for (record, message, cause) in [
        (b"\xff".as_slice(), "bytes are no UTF-8", "invalid utf-8 sequence of 1 bytes from index 0"),
        (b"int x", "a text is no number", "invalid digit found in string"),
        (b"float x", "a text is no number", "invalid float literal"),
        (b"narrow xxxx", "a number does not fit its type", "out of range integral type conversion attempted"),
        (
            b"read /nowhere/at/all",
            "an input or output operation failed",
            "No such file or directory (os error 2)",
        ),
        (b"format ", "a value cannot be formatted", "an error occurred when formatting an argument"),
        (b"boxed x", "a function returned an error", "invalid IP address syntax"),
        (b"named x", "the price of an order is no number", "invalid digit found in string"),
    ] {
        let mut harness = Harness::new(MemoryBackendFactory::default(), "parse", Parse::open).unwrap();
        let error = harness.process(7u64, record.to_vec(), None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::User, "{error}");
        let whole = format!("user code failed: {message} (operator parse, subtask 0): {cause}");
        assert_eq!(error.to_string(), whole);
    }
}
