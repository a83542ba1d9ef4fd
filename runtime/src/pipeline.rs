//! What a job computes: the builder.

mod connected_stream;
pub(crate) mod graph;
mod keyed_stream;
mod stream;

use std::fmt;
use std::sync::{Arc, Mutex};

use strandline_checkpoint_storage::decode_positions;
use strandline_state_api::Result;
use strandline_state_api::backend::BackendFactory;
use strandline_state_api::schema::JobSchema;

pub use connected_stream::ConnectedStream;
pub use keyed_stream::KeyedStream;
pub use stream::Stream;

use self::graph::{Ending, Graph, Origin, SourceInput, VertexKind};
use crate::chain::slot::Slot;
use crate::source::{PlanContext, Source, SourceFactory, Unread};
use crate::sync::lock;
use crate::task::source::SourceTask;

/// A job under construction: sources, steps, keyed operators and sinks, wired into a graph without loops.
///
/// Every source, keyed operator and sink has an id that you choose
/// ([`OperatorId`](strandline_state_api::OperatorId)): a restore finds its state by the id.
/// [`run`](crate::run) reports mistakes, such as an id that is used twice.
///
/// ```no_run
/// # use strandline_runtime::source::{Source, SourceFactory};
/// # use strandline_runtime::{JobConfig, JobControl, Pipeline, run, sink::SinkFactory};
/// # use strandline_state_api::backend::BackendFactory;
/// # use strandline_state_api::*;
/// # struct Count { counts: ValueState<u64> }
/// # impl Count { fn open<B: KeyedBackend>(ctx: &mut Open<'_, B>) -> Result<Self> {
/// #     Ok(Self { counts: ctx.register(&ValueDescriptor::new("counts"))? }) } }
/// # impl Operator for Count {
/// #     type Key = String; type In = (); type Out = (String, u64); type Namespace = ();
/// #     fn process<B: KeyedBackend<Key = String>>(
/// #         &mut self, _: (), ctx: &mut Context<'_, B, (String, u64)>) -> Result<()> {
/// #         let n = ctx.state(self.counts).update_or_default(|n| { *n += 1; *n })?;
/// #         ctx.emit((ctx.key().clone(), n)); Ok(()) } }
/// # fn job<L, S, F: BackendFactory>(lines: L, counts: S, backend: F) -> Result<()>
/// # where L: SourceFactory, L::Source: Source<Out = String>,
/// #       S: SinkFactory, S::Sink: strandline_runtime::sink::Sink<In = (String, u64)> {
/// let pipeline = Pipeline::new("word-count", backend);
/// pipeline
///     .source("lines", lines)
///     .flat_map(|line: String, out| line.split_whitespace().for_each(|word| out.emit(word.to_owned())))
///     .key_by(|word| (word, ()))
///     .process("count", Count::open)
///     .sink("counts", counts);
/// let report = run(&pipeline, JobConfig::default(), &JobControl::new())?;
/// # drop(report); Ok(()) }
/// ```
pub struct Pipeline<F> {
    pub(crate) factory: F,
    pub(crate) graph: Arc<Mutex<Graph>>,
}

impl<F: BackendFactory> Pipeline<F> {
    /// An empty job. `backend` makes the keyed state of all its operators.
    pub fn new(name: impl Into<String>, backend: F) -> Self {
        Self { factory: backend, graph: Arc::new(Mutex::new(Graph::new(name.into()))) }
    }

    /// Lists the operators with state and the keyed states that they declare, to compare them with a
    /// checkpoint ([`JobSchema::plan`]) or to keep them as a file. Opens each keyed operator once, on a
    /// backend that it drops.
    ///
    /// # Errors
    /// Mistakes of the pipeline, and errors of an operator that opens.
    pub fn schema(&self) -> Result<JobSchema> {
        let job = lock(&self.graph).job()?;
        job.schema()
    }

    /// Adds a source.
    pub fn source<S>(&self, id: &str, factory: S) -> Stream<F, <S::Source as Source>::Out>
    where
        S: SourceFactory,
        S::Source: 'static,
    {
        let mut graph = lock(&self.graph);
        let id = graph.take_id(id);
        let next = Slot::new(id.clone());
        let origin = Origin::source(id.clone());
        if let Some(id) = id {
            let (operator, next) = (id.clone(), next.clone());
            let factory = Arc::new(factory);
            graph.add_source(id.clone(), Input(Arc::clone(&factory)));
            graph.add(id, VertexKind::Source, move |assembly| {
                SourceTask::build(assembly, &operator, &*factory, &next)
            });
        }
        drop(graph);
        Stream::new(self.factory.clone(), Arc::clone(&self.graph), vec![next], origin)
    }
}

struct Input<S>(Arc<S>);

impl<S: SourceFactory> SourceInput for Input<S> {
    fn plan(&self, parallelism: u32, restored: Option<&[Vec<u8>]>, ending: Ending) -> Result<Unread> {
        let restored = restored.map(decode_positions).transpose()?;
        self.0.plan(PlanContext { parallelism, restored, ended: ending.ended, finished: ending.finished })
    }
}

/// The same job.
impl<F: Clone> Clone for Pipeline<F> {
    fn clone(&self) -> Self {
        Self { factory: self.factory.clone(), graph: Arc::clone(&self.graph) }
    }
}

impl<F> fmt::Debug for Pipeline<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pipeline").field(&*lock(&self.graph)).finish()
    }
}
