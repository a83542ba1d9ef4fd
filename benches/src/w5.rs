//! W5: the cost of the embedding API and of the executor. The work is W1's count: read a key, add one to its
//! counter, add to the checksum.

use std::time::{Duration, Instant};

use strandline_connectors::DiscardSink;
use strandline_connectors::keys::{Distribution, GAMMA, KeyStream, KeyStreamConfig, mix};
use strandline_runtime::{JobConfig, JobControl, Pipeline, run};
use strandline_state_api::backend::{BackendFactory, BackendScope, KeyedBackendExt};
use strandline_state_api::host::KeyedProcess;
use strandline_state_api::{
    Batch, Context, Error, ErrorKind, KeyHash, KeyScope, Keyed, KeyedBackend, Open, Operator, Result,
    StateKey, ValueDescriptor, ValueState,
};

use crate::compare::Subject;
use crate::plain::PlainMap;
use crate::w2::value::{BATCH, add_one};

/// How many records a slice has.
const SLICE: u64 = 100_000;
/// How many records the driver takes at a time, as the executor does.
const CHUNK: usize = 1024;

/// A way to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Embedding {
    /// Record by record, as in a plain loop.
    Scope,
    /// In batches, with a prefetch.
    Batches,
    /// An operator, driven by [`KeyedProcess`] in batches.
    Driver,
}

impl Embedding {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Scope, Self::Batches, Self::Driver];

    /// For the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scope => "embedding API, record by record",
            Self::Batches => "embedding API, batches",
            Self::Driver => "operator and driver, batches",
        }
    }
}

/// Makes the stream of W1.
///
/// # Errors
/// When there are no keys.
pub fn stream(records: u64, keys: u64, distribution: Distribution) -> Result<KeyStream> {
    KeyStream::new(KeyStreamConfig { records, keys, seed: 42, distribution })
}

/// Returns the part of a record in the checksum.
#[inline]
pub fn checksum_of(key: u64, count: u64) -> u64 {
    mix(key.wrapping_mul(GAMMA).wrapping_add(count))
}

/// The floor: a loop over a plain map.
#[derive(Debug)]
pub struct Floor {
    stream: KeyStream,
    warm_up: u64,
    next: u64,
    counts: PlainMap<u64>,
}

impl Floor {
    /// Counts `stream`, from its start; the first `warm_up` records before anything is timed.
    pub fn new(stream: KeyStream, warm_up: u64) -> Self {
        Self { stream, warm_up, next: 0, counts: PlainMap::default() }
    }

    /// Counts the next records; returns their checksum.
    pub fn count(&mut self, records: u64) -> u64 {
        let (from, mut sum) = (self.next, 0u64);
        self.next += records;
        for sequence in from..self.next {
            let key = self.stream.key(sequence);
            sum = sum.wrapping_add(checksum_of(key, add_one(self.counts.entry(key).or_insert(0))));
        }
        sum
    }

    /// Counts the first `records` of a new stream. Returns the checksum, and the time for each record behind
    /// the first third.
    pub fn whole(stream: KeyStream, records: u64) -> (u64, Duration) {
        let mut floor = Self::new(stream, 0);
        let cold = floor.count(records / 3);
        let start = Instant::now();
        let warm = floor.count(records - records / 3);
        (cold.wrapping_add(warm), start.elapsed().div_f64((records - records / 3).max(1) as f64))
    }
}

impl Subject<Embedding> for Floor {
    fn slice(&self, _: Embedding) -> usize {
        SLICE as usize
    }

    fn ready(&mut self, _: Embedding) -> Result<()> {
        let left = self.warm_up.saturating_sub(self.next);
        self.count(left);
        Ok(())
    }

    fn work(&mut self, _: Embedding) -> Result<u64> {
        Ok(self.count(SLICE))
    }
}

/// The same with a backend.
pub struct Counting<F: BackendFactory> {
    engine: Engine<F>,
    stream: KeyStream,
    warm_up: u64,
    next: u64,
    keys: Vec<u64>,
    hashes: Vec<KeyHash>,
    output: Batch<(u64, u64)>,
}

impl<F: BackendFactory> std::fmt::Debug for Counting<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Counting").field("next", &self.next).finish_non_exhaustive()
    }
}

/// The way in which the backend is used.
enum Engine<F: BackendFactory> {
    Loop { backend: F::Backend<u64>, counts: ValueState<u64>, batches: bool },
    Driven(Box<KeyedProcess<Count, F::Backend<u64>>>),
}

impl<F: BackendFactory> Counting<F> {
    /// Counts `stream` in one `way`; the first `warm_up` records before anything is timed.
    ///
    /// # Errors
    /// What the factory fails with.
    pub fn new(factory: &F, way: Embedding, stream: KeyStream, warm_up: u64) -> Result<Self> {
        let mut backend = factory.create(BackendScope::whole("count")?)?;
        let engine = match way {
            Embedding::Scope | Embedding::Batches => {
                let counts = backend.register(&ValueDescriptor::new("counts"))?;
                Engine::Loop { backend, counts, batches: way == Embedding::Batches }
            }
            Embedding::Driver => {
                Engine::Driven(Box::new(KeyedProcess::open(Count::open, backend, Vec::new())?))
            }
        };
        let (keys, hashes, output) = (Vec::new(), Vec::new(), Batch::new());
        Ok(Self { engine, stream, warm_up, next: 0, keys, hashes, output })
    }

    /// Counts the next records; returns their checksum.
    ///
    /// # Errors
    /// What the backend fails with.
    pub fn count(&mut self, records: u64) -> Result<u64> {
        let Self { engine, stream, next, keys, hashes, output, .. } = self;
        let (end, mut sum) = (*next + records, 0u64);
        // Reads at most `max` of the records before the end.
        let read = |next: &mut u64, max: usize, keys: &mut Vec<u64>, hashes: &mut Vec<KeyHash>| {
            let until = end.min(*next + max as u64);
            keys.clear();
            keys.extend((*next..until).map(|sequence| stream.key(sequence)));
            hashes.clear();
            hashes.extend(keys.iter().map(StateKey::key_hash));
            *next = until;
        };
        while *next < end {
            match engine {
                Engine::Loop { backend, counts, batches: false } => {
                    let key = stream.key(*next);
                    *next += 1;
                    let count = backend.at(&key).state(*counts).update_or_default(add_one)?;
                    sum = sum.wrapping_add(checksum_of(key, count));
                }
                Engine::Loop { backend, counts, batches: true } => {
                    read(next, BATCH, keys, hashes);
                    backend.prefetch(keys, hashes)?;
                    for (key, hash) in keys.iter().zip(&*hashes) {
                        let mut scope = KeyScope::new(backend, Keyed::with_hash(key, *hash));
                        let count = scope.state(*counts).update_or_default(add_one)?;
                        sum = sum.wrapping_add(checksum_of(*key, count));
                    }
                }
                Engine::Driven(process) => {
                    read(next, CHUNK, keys, hashes);
                    for start in (0..keys.len()).step_by(BATCH) {
                        let until = keys.len().min(start + BATCH);
                        let (keys, hashes) = (&keys[start..until], &hashes[start..until]);
                        process.prefetch(keys, hashes)?;
                        for (key, hash) in keys.iter().zip(hashes) {
                            process.process(Keyed::with_hash(key, *hash), (), None, output)?;
                        }
                    }
                    for (key, count) in output.records() {
                        sum = sum.wrapping_add(checksum_of(*key, *count));
                    }
                    output.clear();
                }
            }
        }
        Ok(sum)
    }
}

impl<F: BackendFactory> Subject<Embedding> for Counting<F> {
    fn slice(&self, _: Embedding) -> usize {
        SLICE as usize
    }

    fn ready(&mut self, _: Embedding) -> Result<()> {
        let left = self.warm_up.saturating_sub(self.next);
        self.count(left).map(drop)
    }

    fn work(&mut self, _: Embedding) -> Result<u64> {
        self.count(SLICE)
    }
}

/// W1's operator.
#[derive(Debug)]
pub struct Count {
    counts: ValueState<u64>,
}

impl Count {
    fn open<B: KeyedBackend>(ctx: &mut Open<'_, B>) -> Result<Self> {
        Ok(Self { counts: ctx.register(&ValueDescriptor::new("counts"))? })
    }
}

impl Operator for Count {
    type Key = u64;
    type In = ();
    type Out = (u64, u64);
    type Namespace = ();

    #[inline]
    fn process<B: KeyedBackend<Key = u64>>(
        &mut self,
        (): (),
        ctx: &mut Context<'_, B, (u64, u64)>,
    ) -> Result<()> {
        let count = ctx.state(self.counts).update_or_default(add_one)?;
        ctx.emit((*ctx.key(), count));
        Ok(())
    }
}

/// The count as a pipeline: `source`, `count` with the state `counts`, and `sink`, which discards and keeps a checksum.
pub fn pipeline<F: BackendFactory>(factory: F, stream: KeyStream) -> Pipeline<F> {
    let pipeline = Pipeline::new("w5", factory);
    let sink = DiscardSink::with_checksum(|(key, count): &(u64, u64)| checksum_of(*key, *count));
    pipeline
        .source("source", stream)
        .key_by(|key| (key, ()))
        .process("count", Count::open)
        .sink("sink", sink);
    pipeline
}

/// Counts all of `stream` with the executor: chained in one thread, or with an exchange between two. Returns
/// the checksum, and the time for each record behind the first third.
///
/// # Errors
/// What the job fails with.
pub fn executor<F: BackendFactory>(factory: F, stream: KeyStream, chained: bool) -> Result<(u64, Duration)> {
    let pipeline = pipeline(factory, stream);
    let config = JobConfig::default().chain_keyed(chained);
    let report = run(&pipeline, config, &JobControl::new())?;
    let checksum = report.sinks.get("sink").and_then(|figures| figures.iter().find(|f| f.name == "checksum"));
    let checksum = checksum.ok_or_else(|| Error::new(ErrorKind::Internal, "the sink has no checksum"))?;
    Ok((checksum.value, Duration::from_secs_f64(1.0 / report.warm_rate().max(1e-9))))
}
