//! The job that the tests simulate.

use std::collections::BTreeMap;

use strandline_backend_memory::MemoryBackendFactory;
use strandline_runtime::Pipeline;
use strandline_runtime::sink::SinkFactory;
use strandline_runtime::source::{Source, SourceFactory};
use strandline_simulation::{Job, World};
use strandline_state_api::{Context, KeyedBackend, Open, Operator, Result, ValueDescriptor, ValueState};

/// Counts the records of each key, and emits the count after each.
pub(crate) struct Count(ValueState<u64>);

impl Count {
    pub(crate) fn open<B: KeyedBackend<Key = u64>>(ctx: &mut Open<'_, B>) -> Result<Self> {
        Ok(Self(ctx.register(&ValueDescriptor::new("counts"))?))
    }
}

impl Operator for Count {
    type Key = u64;
    type In = ();
    type Out = (u64, u64);
    type Namespace = ();

    fn process<B: KeyedBackend<Key = u64>>(
        &mut self,
        (): (),
        ctx: &mut Context<'_, B, (u64, u64)>,
    ) -> Result<()> {
        let count = ctx.state(self.0).update_or_default(|count| {
            *count += 1;
            *count
        })?;
        ctx.emit((*ctx.key(), count));
        Ok(())
    }
}

/// How many records there are, of how many keys, in how many splits.
const RECORDS: u64 = 120;
const KEYS: u64 = 9;
pub(crate) const SPLITS: usize = 4;

pub(crate) fn records() -> impl Iterator<Item = u64> {
    (0..RECORDS).map(|n| (n * n + n / 7) % KEYS)
}

/// What the job puts out.
pub(crate) fn counted() -> Vec<(u64, u64)> {
    let mut counts = BTreeMap::<u64, u64>::new();
    let count = |key| {
        let count = counts.entry(key).or_default();
        *count += 1;
        (key, *count)
    };
    let mut all: Vec<_> = records().map(count).collect();
    all.sort();
    all
}

/// A job with this source and this sink around [`Count`].
pub(crate) fn counting<S: SourceFactory, O: SinkFactory>(
    source: impl Fn(&World) -> S + Send + Sync + 'static,
    sink: impl Fn(&World) -> O + Send + Sync + 'static,
) -> Job
where
    S::Source: Source<Out = u64>,
    O::Sink: strandline_runtime::sink::Sink<In = (u64, u64)>,
{
    Job::new(move |world| {
        let pipeline = Pipeline::new("counts", MemoryBackendFactory::default());
        let numbers = pipeline.source("numbers", source(world));
        numbers.key_by(|key| (key, ())).process("count", Count::open).sink("results", sink(world));
        pipeline
    })
}

pub(crate) fn good() -> Job {
    counting(|world| world.input(records(), SPLITS), |world| world.output("results"))
}
