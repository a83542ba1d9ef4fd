//! Jobs that break one rule each. The simulation has to find every one of them, within so many seeds.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use strandline_backend_memory::MemoryBackendFactory;
use strandline_checkpoint_storage::{BlobStore, ClaimOutcome, ClaimStore, Listed, Storage};
use strandline_runtime::Pipeline;
use strandline_runtime::sink::{DeadOutputs, Sink, SinkContext, SinkFactory, SinkRecovery};
use strandline_runtime::source::{SourceContext, SourceFactory};
use strandline_simulation::{Faults, InputReader, Job, Output, OutputWriter, Simulation, World};
use strandline_state_api::{Batch, CheckpointId, Context, KeyedBackend, Open, Operator, Result};

use crate::common::{Count, SPLITS, counting, good, records};

type Counted = (u64, u64);

/// Returns the first seed that shows that the job breaks a rule, and panics if none below `seeds` does. The
/// same seed lets a good job pass.
fn found_within(seeds: u64, job: &Job) -> u64 {
    let good = good();
    let expected = Simulation::new(0).expect(&good).unwrap_or_else(|violation| panic!("{violation}"));
    for seed in 0..seeds {
        let simulation = Simulation::new(seed).faults(Faults::all());
        if let Err(violation) = simulation.run(job, &expected) {
            println!("seed {seed}: {}", violation.problem);
            simulation.run(&good, &expected).unwrap_or_else(|violation| panic!("{violation}"));
            return seed;
        }
    }
    panic!("{seeds} seeds do not find it");
}

// ---- sinks

/// How a sink is wrong.
#[derive(Clone, Copy, PartialEq)]
enum Wrong {
    /// It makes its records visible with the pre-commit.
    CommitsEarly,
    /// It commits nothing when it recovers.
    ForgetsRecovery,
}

#[derive(Clone)]
struct WrongSink(Wrong, Output<Counted>);

struct WrongWriter(Wrong, OutputWriter<Counted>);

impl SinkFactory for WrongSink {
    type Sink = WrongWriter;

    fn open(&self, context: SinkContext<String>) -> Result<WrongWriter> {
        Ok(WrongWriter(self.0, self.1.open(context)?))
    }

    fn recover(&self, recovery: &SinkRecovery<'_, String>) -> Result<()> {
        let committables = if self.0 == Wrong::ForgetsRecovery { &[] } else { recovery.committables };
        self.1.recover(&SinkRecovery { committables, ..recovery.clone() })
    }

    fn sweep(&self, dead: &DeadOutputs) -> Result<()> {
        self.1.sweep(dead)
    }
}

impl Sink for WrongWriter {
    type In = Counted;
    type Committable = String;
    type Summary = ();

    fn write(&mut self, batch: &mut Batch<Counted>) -> Result<()> {
        self.1.write(batch)
    }

    fn pre_commit(&mut self, checkpoint: CheckpointId) -> Result<Vec<String>> {
        let pending = self.1.pre_commit(checkpoint)?;
        if self.0 == Wrong::CommitsEarly {
            self.1.commit(checkpoint)?;
        }
        Ok(pending)
    }

    fn commit(&mut self, checkpoint: CheckpointId) -> Result<()> {
        self.1.commit(checkpoint)
    }
}

fn with_sink(wrong: Wrong) -> Job {
    counting(|world| world.input(records(), SPLITS), move |world| WrongSink(wrong, world.output("results")))
}

#[test]
fn a_sink_that_commits_with_its_pre_commit_is_found() {
    found_within(20, &with_sink(Wrong::CommitsEarly));
}

#[test]
fn a_sink_that_forgets_to_commit_when_it_recovers_is_found() {
    found_within(50, &with_sink(Wrong::ForgetsRecovery));
}

// ---- sources and operators

/// A source that begins one record too late where it goes on.
struct LateSource(strandline_simulation::Input<u64>);

impl SourceFactory for LateSource {
    type Source = InputReader<u64>;

    fn open(&self, mut context: SourceContext<(u32, u64)>) -> Result<InputReader<u64>> {
        let end = records().count() as u64 / SPLITS as u64;
        for (_, read) in context.restored.iter_mut().flatten().filter(|(_, read)| *read > 0) {
            *read = (*read + 1).min(end);
        }
        self.0.open(context)
    }
}

#[test]
fn a_source_that_goes_on_a_record_too_late_is_found() {
    let job = counting(|world| LateSource(world.input(records(), SPLITS)), |world| world.output("results"));
    found_within(20, &job);
}

/// Counts in a map of its own, which no checkpoint holds.
struct Forgetful(HashMap<u64, u64>);

impl Forgetful {
    fn open<B: KeyedBackend<Key = u64>>(ctx: &mut Open<'_, B>) -> Result<Self> {
        Count::open(ctx)?;
        Ok(Self(HashMap::new()))
    }
}

impl Operator for Forgetful {
    type Key = u64;
    type In = ();
    type Out = Counted;
    type Namespace = ();

    fn process<B: KeyedBackend<Key = u64>>(
        &mut self,
        (): (),
        ctx: &mut Context<'_, B, Counted>,
    ) -> Result<()> {
        let count = self.0.entry(*ctx.key()).or_default();
        *count += 1;
        ctx.emit((*ctx.key(), *count));
        Ok(())
    }
}

#[test]
fn an_operator_that_keeps_its_state_to_itself_is_found() {
    let job = Job::new(|world: &World| {
        let pipeline = Pipeline::new("counts", MemoryBackendFactory::default());
        let numbers = pipeline.source("numbers", world.input(records(), SPLITS));
        let counted = numbers.key_by(|key| (key, ())).process("count", Forgetful::open);
        counted.sink("results", world.output("results"));
        pipeline
    });
    found_within(20, &job);
}

// ---- stores

/// How a store is wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Broken {
    /// It acknowledges an object when it has it in memory.
    AnswersEarly,
    /// It deletes one file more than it should.
    DeletesTooMuch,
    /// It replaces a slot that exists: no term is fenced.
    Replaces,
}

#[derive(Clone, Debug)]
struct BrokenStore {
    broken: Broken,
    blobs: Arc<dyn BlobStore>,
    claims: Arc<dyn ClaimStore>,
    /// Acknowledged, and not written.
    unwritten: Arc<Mutex<Vec<(String, Bytes)>>>,
}

fn with_store(broken: Broken) -> Job {
    good().storage(move |storage, _| {
        let (blobs, claims) = (Arc::clone(storage.blobs()), Arc::clone(storage.claims()));
        let store = Arc::new(BrokenStore { broken, blobs, claims, unwritten: Arc::default() });
        Storage::from_parts(storage.uri(), Arc::clone(&store) as _, store)
    })
}

impl BrokenStore {
    fn unwritten(&self, path: &str) -> Option<Bytes> {
        let unwritten = self.unwritten.lock().unwrap_or_else(PoisonError::into_inner);
        unwritten.iter().find(|(of, _)| of == path).map(|(_, bytes)| bytes.clone())
    }
}

#[async_trait]
impl BlobStore for BrokenStore {
    async fn put(&self, path: &str, bytes: Bytes) -> Result<()> {
        if self.broken != Broken::AnswersEarly {
            return self.blobs.put(path, bytes).await;
        }
        let before = {
            let mut unwritten = self.unwritten.lock().unwrap_or_else(PoisonError::into_inner);
            unwritten.push((path.to_owned(), bytes));
            let first = unwritten.len().saturating_sub(2);
            unwritten.drain(..first).collect::<Vec<_>>()
        };
        for (path, bytes) in before {
            self.blobs.put(&path, bytes).await?;
        }
        Ok(())
    }

    async fn len(&self, path: &str) -> Result<Option<u64>> {
        match self.unwritten(path) {
            Some(bytes) => Ok(Some(bytes.len() as u64)),
            None => self.blobs.len(path).await,
        }
    }

    async fn read(&self, path: &str, range: Range<u64>) -> Result<Bytes> {
        match self.unwritten(path) {
            Some(bytes) => Ok(bytes.slice(range.start as usize..range.end as usize)),
            None => self.blobs.read(path, range).await,
        }
    }

    async fn list(&self, dir: &str) -> Result<Vec<Listed>> {
        self.blobs.list(dir).await
    }

    async fn delete(&self, path: &str) -> Result<()> {
        if self.broken == Broken::DeletesTooMuch && path.starts_with("segments/") {
            let mut segments = self.blobs.list("segments").await?;
            segments.sort();
            let next = segments.iter().find(|other| format!("segments/{}", other.name).as_str() > path);
            if let Some(next) = next {
                self.blobs.delete(&format!("segments/{}", next.name)).await?;
            }
        }
        self.blobs.delete(path).await
    }
}

#[async_trait]
impl ClaimStore for BrokenStore {
    async fn claim(&self, path: &str, bytes: Bytes) -> Result<ClaimOutcome> {
        let outcome = self.claims.claim(path, bytes.clone()).await?;
        if self.broken == Broken::Replaces && outcome == ClaimOutcome::Exists {
            self.claims.delete(path).await?;
            return self.claims.claim(path, bytes).await;
        }
        Ok(outcome)
    }

    async fn read(&self, path: &str, limit: u64) -> Result<Option<Bytes>> {
        self.claims.read(path, limit).await
    }

    async fn list(&self, dir: &str) -> Result<Vec<Listed>> {
        self.claims.list(dir).await
    }

    async fn delete(&self, path: &str) -> Result<()> {
        self.claims.delete(path).await
    }
}

#[test]
fn a_store_that_answers_before_it_stores_is_found() {
    found_within(50, &with_store(Broken::AnswersEarly));
}

#[test]
fn a_sweep_that_deletes_too_much_is_found() {
    found_within(50, &with_store(Broken::DeletesTooMuch));
}

#[test]
fn a_store_that_fences_nobody_is_found() {
    found_within(200, &with_store(Broken::Replaces));
}
