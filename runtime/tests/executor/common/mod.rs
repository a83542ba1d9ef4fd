//! Small sources, sinks and operators that the tests of the executor share.

#![allow(missing_docs, unreachable_pub)]

mod counting;
pub mod rated;

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

pub use counting::counting;
use strandline_runtime::sink::{
    DeadOutputs, Figure, Sink, SinkContext, SinkFactory, SinkRecovery, Summary, Term,
};
use strandline_runtime::source::{Source, SourceContext, SourceFactory, SourceStatus};
use strandline_runtime::{JobEvent, Observer};
use strandline_state_api::backend::KeyedBackendExt;
use strandline_state_api::*;

/// Fails once a countdown of records has run out; then never again until it is set anew.
#[derive(Clone, Debug)]
pub struct Fuse(Arc<AtomicI64>);

impl Default for Fuse {
    fn default() -> Self {
        Self(Arc::new(AtomicI64::new(i64::MAX)))
    }
}

impl Fuse {
    /// Fails when so many records from now have come by.
    pub fn set(&self, records: i64) {
        self.0.store(records, SeqCst);
    }

    pub fn burn(&self, records: usize) -> Result<()> {
        let before = self.0.fetch_sub(records as i64, SeqCst);
        if before > 0 && before <= records as i64 {
            self.0.store(i64::MAX, SeqCst);
            // As if the machine failed: an error of the user's code at the same record would end the job.
            return Err(Error::new(ErrorKind::Unavailable, "injected failure"));
        }
        Ok(())
    }
}

/// Long enough that no periodic checkpoint comes in a test.
pub const NEVER: Duration = Duration::from_secs(100_000);

/// Records in splits that subtasks share out by number; rewinds exactly.
#[derive(Clone, Debug)]
pub struct VecSource<T> {
    pub splits: Arc<Vec<Vec<T>>>,
    /// How far every split may be read: beyond, the source idles.
    pub gate: Arc<AtomicU64>,
    pub fuse: Fuse,
    /// At most so many records a poll.
    pub step: usize,
}

impl<T: Clone> VecSource<T> {
    pub fn new(records: &[T], splits: usize) -> Self {
        let mut parts = vec![Vec::new(); splits];
        for (i, record) in records.iter().enumerate() {
            parts[i % splits].push(record.clone());
        }
        let gate = Arc::new(AtomicU64::new(u64::MAX));
        Self { splits: Arc::new(parts), gate, fuse: Fuse::default(), step: usize::MAX }
    }

    /// Lets every split be read up to `position`.
    pub fn gated(self, position: u64) -> Self {
        self.gate.store(position, SeqCst);
        self
    }

    pub fn open_gate(&self) {
        self.gate.store(u64::MAX, SeqCst);
    }
}

pub struct VecReader<T> {
    of: VecSource<T>,
    mine: Vec<(usize, usize)>,
    turn: usize,
}

impl<T: Clone + Send + Sync + 'static> SourceFactory for VecSource<T> {
    type Source = VecReader<T>;

    fn open(&self, context: SourceContext<(u64, u64)>) -> Result<VecReader<T>> {
        let mut positions = vec![0; self.splits.len()];
        if let Some(restored) = context.restored {
            assert_eq!(restored.len(), self.splits.len(), "every split has one position");
            for (split, position) in restored {
                positions[split as usize] = position as usize;
            }
        }
        let (p, s) = (context.parallelism as usize, context.subtask as usize);
        let mine = positions.into_iter().enumerate().filter(|(split, _)| split % p == s).collect();
        Ok(VecReader { of: self.clone(), mine, turn: 0 })
    }
}

impl<T: Clone + Send + Sync + 'static> Source for VecReader<T> {
    type Out = T;
    /// A split, and how many records of it were read.
    type Position = (u64, u64);

    fn poll(&mut self, max: usize, output: &mut Batch<T>) -> Result<SourceStatus> {
        let max = max.min(self.of.step);
        let gate = self.of.gate.load(SeqCst) as usize;
        let mut ended = true;
        for _ in 0..self.mine.len() {
            let turn = self.turn % self.mine.len();
            self.turn += 1;
            let (split, position) = &mut self.mine[turn];
            let records = &self.of.splits[*split];
            let end = records.len().min(gate).min(*position + max);
            if *position < end {
                for record in &records[*position..end] {
                    output.push(record.clone(), None);
                }
                self.of.fuse.burn(end - *position)?;
                *position = end;
                return Ok(SourceStatus::More);
            }
            ended &= *position == records.len();
        }
        Ok(if ended { SourceStatus::End } else { SourceStatus::Idle })
    }

    fn positions(&self) -> Result<Vec<(u64, u64)>> {
        Ok(self.mine.iter().map(|(split, position)| (*split as u64, *position as u64)).collect())
    }
}

/// A store of transactions: what is committed is visible, the rest is not.
#[derive(Debug)]
pub struct VecSink<T> {
    pub shared: Arc<Mutex<Transactions<T>>>,
    pub fuse: Fuse,
    /// `commit` fails when this one does.
    pub commit_fuse: Fuse,
    /// `write` waits while this is locked.
    pub hold: Arc<Mutex<()>>,
}

impl<T> Clone for VecSink<T> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            fuse: self.fuse.clone(),
            commit_fuse: self.commit_fuse.clone(),
            hold: self.hold.clone(),
        }
    }
}

#[derive(Debug)]
pub struct Transactions<T> {
    /// By name, and by the term that wrote it.
    staged: BTreeMap<String, (Term, Vec<T>)>,
    /// With the checkpoint, too.
    committed: BTreeMap<String, (Term, CheckpointId, Vec<T>)>,
    pub written: u64,
    pub recoveries: u32,
}

impl<T> Default for VecSink<T> {
    fn default() -> Self {
        let transactions =
            Transactions { staged: BTreeMap::new(), committed: BTreeMap::new(), written: 0, recoveries: 0 };
        let (fuse, commit_fuse) = Default::default();
        Self { shared: Arc::new(Mutex::new(transactions)), fuse, commit_fuse, hold: Arc::default() }
    }
}

impl<T: Clone + Ord> VecSink<T> {
    /// What a reader of the output sees, sorted.
    pub fn visible(&self) -> Vec<T> {
        let shared = self.shared.lock().unwrap();
        let mut all: Vec<T> =
            shared.committed.values().flat_map(|(_, _, records)| records).cloned().collect();
        all.sort();
        all
    }

    /// Forgets everything.
    pub fn reset(&self) {
        let mut shared = self.shared.lock().unwrap();
        shared.staged.clear();
        shared.committed.clear();
    }

    /// Transactions that are neither visible nor gone.
    pub fn staged(&self) -> usize {
        self.shared.lock().unwrap().staged.len()
    }
}

pub struct VecWriter<T> {
    of: VecSink<T>,
    context: SinkContext<String>,
    open: Vec<T>,
    pending: BTreeMap<CheckpointId, String>,
    written: u64,
}

impl<T: Clone + Send + 'static> SinkFactory for VecSink<T> {
    type Sink = VecWriter<T>;

    fn open(&self, context: SinkContext<String>) -> Result<VecWriter<T>> {
        let (open, pending) = Default::default();
        Ok(VecWriter { of: self.clone(), context, open, pending, written: 0 })
    }

    fn recover(&self, recovery: &SinkRecovery<'_, String>) -> Result<()> {
        let mut shared = self.shared.lock().unwrap();
        shared.recoveries += 1;
        shared.sweep(recovery.dead);
        for name in recovery.committables {
            shared.commit(name);
            assert!(shared.committed.contains_key(name), "{name} was pre-committed and is lost");
        }
        Ok(())
    }

    fn sweep(&self, dead: &DeadOutputs) -> Result<()> {
        self.shared.lock().unwrap().sweep(dead);
        Ok(())
    }
}

impl<T> Transactions<T> {
    fn sweep(&mut self, dead: &DeadOutputs) {
        self.staged.retain(|_, (term, _)| !dead.is_pre_committed_dead(*term));
        self.committed.retain(|_, (term, checkpoint, _)| !dead.is_committed_dead(*term, *checkpoint));
    }

    fn commit(&mut self, name: &str) {
        let checkpoint = name.rsplit_once('-').and_then(|(_, checkpoint)| checkpoint.parse().ok());
        let checkpoint = CheckpointId(checkpoint.expect("the checkpoint is part of the name"));
        if let Some((term, records)) = self.staged.remove(name) {
            self.committed.insert(name.to_owned(), (term, checkpoint, records));
        }
    }
}

/// How many records a subtask wrote.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Written(u64);

impl Summary for Written {
    fn add(&mut self, other: Self) {
        self.0 += other.0;
    }

    fn figures(&self) -> Vec<Figure> {
        vec![Figure::count("records", self.0)]
    }
}

impl<T: Clone + Send + 'static> Sink for VecWriter<T> {
    type In = T;
    /// The name of a transaction.
    type Committable = String;
    type Summary = Written;

    fn write(&mut self, batch: &mut Batch<T>) -> Result<()> {
        drop(self.of.hold.lock().unwrap());
        self.of.fuse.burn(batch.len())?;
        let records = batch.len() as u64;
        self.of.shared.lock().unwrap().written += records;
        self.open.extend(batch.drain().map(|(record, _)| record));
        self.written += records;
        Ok(())
    }

    fn pre_commit(&mut self, checkpoint: CheckpointId) -> Result<Vec<String>> {
        if !self.open.is_empty() {
            let name = format!("{}-{}-{checkpoint}", self.context.attempt, self.context.subtask);
            let mut shared = self.of.shared.lock().unwrap();
            let records = std::mem::take(&mut self.open);
            let before = shared.staged.insert(name.clone(), (self.context.term, records));
            assert!(before.is_none(), "{name} was used before");
            self.pending.insert(checkpoint, name);
        }
        Ok(self.pending.values().cloned().collect())
    }

    fn commit(&mut self, checkpoint: CheckpointId) -> Result<()> {
        self.of.commit_fuse.burn(1)?;
        let later = self.pending.split_off(&checkpoint.next());
        for name in std::mem::replace(&mut self.pending, later).into_values() {
            self.of.shared.lock().unwrap().commit(&name);
        }
        Ok(())
    }

    fn summary(&self) -> Written {
        Written(self.written)
    }
}

/// Counts, and emits each key with its count after every record.
#[derive(Debug)]
pub struct Count<K> {
    counts: ValueState<u64>,
    key: PhantomData<K>,
}

impl<K: StateKey> Count<K> {
    pub fn open<B: KeyedBackend<Key = K>>(ctx: &mut Open<'_, B>) -> Result<Self> {
        Self::open_in(&ValueDescriptor::new("counts"), ctx)
    }

    /// As [`open`](Self::open), with a state of another name.
    pub fn open_in<B: KeyedBackend<Key = K>>(
        counts: &ValueDescriptor<u64>,
        ctx: &mut Open<'_, B>,
    ) -> Result<Self> {
        Ok(Self { counts: ctx.register(counts)?, key: PhantomData })
    }
}

impl<K: StateKey> Operator for Count<K> {
    type Key = K;
    type In = ();
    type Out = (K, u64);
    type Namespace = ();

    fn process<B: KeyedBackend<Key = K>>(&mut self, _: (), ctx: &mut Context<'_, B, (K, u64)>) -> Result<()> {
        let n = ctx.state(self.counts).update_or_default(|n| {
            *n += 1;
            *n
        })?;
        ctx.emit((ctx.key().clone(), n));
        // For the count alone: each record is one.
        ctx.count_too_late();
        Ok(())
    }
}

/// Counts, and emits the totals at the end.
#[derive(Debug)]
pub struct Totals<K> {
    counts: ValueState<u64>,
    key: PhantomData<K>,
}

impl<K: StateKey> Totals<K> {
    pub fn open<B: KeyedBackend<Key = K>>(ctx: &mut Open<'_, B>) -> Result<Self> {
        Ok(Self { counts: ctx.register(&ValueDescriptor::new("totals"))?, key: PhantomData })
    }
}

impl<K: StateKey> Operator for Totals<K> {
    type Key = K;
    type In = ();
    type Out = (K, u64);
    type Namespace = ();

    fn process<B: KeyedBackend<Key = K>>(&mut self, _: (), ctx: &mut Context<'_, B, (K, u64)>) -> Result<()> {
        ctx.state(self.counts).update_or_default(|n| *n += 1)
    }

    fn on_end<B: KeyedBackend<Key = K>>(
        &mut self,
        backend: &mut B,
        output: &mut Batch<(K, u64)>,
    ) -> Result<()> {
        backend.for_each_value(self.counts, |key: &K, _: &(), n: &u64| {
            output.push((key.clone(), *n), None);
            Ok(())
        })
    }
}

/// Sums in tumbling windows of event time; what comes after its window has fired is dropped.
#[derive(Debug)]
pub struct WindowSum<K> {
    sums: ValueState<i64, TimeWindow>,
    timers: TimerService<TimeWindow>,
    size: i64,
    key: PhantomData<K>,
}

impl<K: StateKey> WindowSum<K> {
    pub fn open<B: KeyedBackend<Key = K>>(size: i64, ctx: &mut Open<'_, B, TimeWindow>) -> Result<Self> {
        Ok(Self {
            sums: ctx.register(&ValueDescriptor::new("sums").namespaced())?,
            timers: ctx.register(&TimerDescriptor::event_time("windows"))?,
            size,
            key: PhantomData,
        })
    }
}

impl<K: StateKey> Operator for WindowSum<K> {
    type Key = K;
    type In = i64;
    type Out = (K, i64, i64);
    type Namespace = TimeWindow;

    fn process<B: KeyedBackend<Key = K>>(
        &mut self,
        value: i64,
        ctx: &mut Context<'_, B, Self::Out>,
    ) -> Result<()> {
        let window = TimeWindow::tumbling(ctx.timestamp().expect("events have times"), self.size);
        if Some(window.max_timestamp()) <= ctx.watermark() {
            return Ok(());
        }
        ctx.state_in(self.sums, &window).update_or_default(|sum| *sum += value)?;
        ctx.state_in(self.timers, &window).register(window.max_timestamp())?;
        Ok(())
    }

    fn on_timer<B: KeyedBackend<Key = K>>(
        &mut self,
        timer: &Timer<K, TimeWindow>,
        ctx: &mut Context<'_, B, Self::Out>,
    ) -> Result<()> {
        let window = timer.namespace;
        let sum = ctx.state_in(self.sums, &window).get()?.copied();
        ctx.state_in(self.sums, &window).clear()?;
        let key = ctx.key().clone();
        ctx.emit((key, window.start, sum.expect("a window that fires has a sum")));
        Ok(())
    }
}

/// Remembers events and lets a test wait for one.
#[derive(Debug, Default)]
pub struct Events {
    events: Mutex<Vec<JobEvent>>,
    more: Condvar,
    over: AtomicBool,
}

impl Observer for Events {
    fn event(&self, event: &JobEvent) {
        self.events.lock().unwrap().push(event.clone());
        self.more.notify_all();
    }
}

impl Events {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Waits until `wanted` accepts the events so far.
    pub fn wait(&self, wanted: impl Fn(&[JobEvent]) -> bool) {
        let events = self.events.lock().unwrap();
        let waiting = |events: &mut Vec<JobEvent>| !wanted(events) && !self.over.load(SeqCst);
        let events = self.more.wait_while(events, waiting).unwrap();
        let last = &events[events.len().saturating_sub(3)..];
        assert!(wanted(&events), "the job ended, and what was waited for never came; the last were {last:?}");
    }

    /// Runs the one job that reports these events; a wait for more ends with it.
    pub fn of<T>(&self, job: impl FnOnce() -> T) -> T {
        struct Over<'a>(&'a Events);
        impl Drop for Over<'_> {
            fn drop(&mut self) {
                let _events = self.0.events.lock();
                self.0.over.store(true, SeqCst);
                self.0.more.notify_all();
            }
        }
        let _over = Over(self);
        job()
    }

    pub fn all(&self) -> Vec<JobEvent> {
        self.events.lock().unwrap().clone()
    }

    /// Waits for the `n`th completed checkpoint.
    pub fn wait_completed(&self, n: usize) {
        self.wait(|events| completed(events) >= n);
    }
}

pub fn completed(events: &[JobEvent]) -> usize {
    events.iter().filter(|event| matches!(event, JobEvent::CheckpointCompleted(_))).count()
}

/// What [`Count`] emits over `records`, sorted.
pub fn counted<K: Ord + Clone>(records: &[K]) -> Vec<(K, u64)> {
    let mut totals = BTreeMap::new();
    let mut all: Vec<_> = records
        .iter()
        .map(|key| {
            let n = totals.entry(key.clone()).or_insert(0);
            *n += 1;
            (key.clone(), *n)
        })
        .collect();
    all.sort();
    all
}

/// `STRANDLINE_CASES` times `cases`.
pub fn cases(cases: u64) -> u64 {
    cases * std::env::var("STRANDLINE_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(1)
}

/// What [`Totals`] emits over `records`, sorted.
pub fn totals<K: Ord + Clone>(records: &[K]) -> Vec<(K, u64)> {
    let mut totals = BTreeMap::new();
    for key in records {
        *totals.entry(key.clone()).or_insert(0) += 1;
    }
    totals.into_iter().collect()
}

/// Key, time, value.
pub type Event = (u64, i64, i64);

/// The event time of an [`Event`].
pub fn time_of(event: &Event) -> Timestamp {
    Timestamp::from_millis(event.1)
}

pub fn millis(millis: i64) -> Duration {
    Duration::from_millis(millis as u64)
}

/// How far the events of [`disordered`] are out of order, in milliseconds.
pub const DISORDER: i64 = 50;

/// Events about a millisecond apart, out of order by less than [`DISORDER`].
pub fn disordered(n: i64) -> Vec<Event> {
    let mut random = fastrand::Rng::with_seed(7);
    (0..n).map(|i| (random.u64(0..20), i + random.i64(0..DISORDER), random.i64(-9..10))).collect()
}

/// What [`WindowSum`] emits over `records` when none is late, sorted.
pub fn window_sums(records: &[Event], size: i64) -> Vec<(u64, i64, i64)> {
    let mut sums = BTreeMap::new();
    for (key, time, value) in records {
        *sums.entry((*key, TimeWindow::tumbling(*time, size).start)).or_insert(0) += value;
    }
    sums.into_iter().map(|((key, start), sum)| (key, start, sum)).collect()
}
