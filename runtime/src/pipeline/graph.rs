//! The job as a graph of vertices: each one a stateful head and the chain behind it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::sync::Arc;

use strandline_state_api::schema::{JobSchema, OperatorSchema, StateSchema};
use strandline_state_api::{Error, OperatorId, Result};

use crate::chain::assembly::Assembly;
use crate::channel::{EdgeId, Pattern};
use crate::config::JobConfig;
use crate::record_format::RecordFormat;
use crate::sink::{DeadOutputs, SinkRecovery};
use crate::source::Unread;
use crate::task::Head;
use crate::task::input::InputEdge;

/// The graph; types of records are hidden in the functions that build the tasks.
#[derive(Debug)]
pub(crate) struct Graph {
    name: String,
    vertices: Vec<Arc<Vertex>>,
    sources: Vec<Arc<SourceVertex>>,
    /// In the order in which they were added.
    sinks: Vec<Arc<SinkVertex>>,
    ids: BTreeSet<OperatorId>,
    schemas: Vec<Arc<Declared>>,
    /// The sources of each keyed operator.
    origins: BTreeMap<OperatorId, BTreeSet<OperatorId>>,
    edges: u32,
    exchanges: Vec<Exchange>,
    connections: Vec<Connection>,
    /// The first mistake in its description.
    mistake: Option<String>,
}

/// An exchange whose records barriers may overtake.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    edge: EdgeId,
    /// The operator that reads it.
    reader: OperatorId,
    has_codec: bool,
}

/// An edge with both its ends.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) edge: EdgeId,
    /// The operator behind which its records leave.
    pub(crate) from: OperatorId,
    /// The operator that reads them.
    pub(crate) to: OperatorId,
    pub(crate) pattern: Pattern,
    pub(crate) format: Option<Arc<dyn RecordFormat>>,
}

/// What starts a vertex.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum VertexKind {
    /// A source.
    Source,
    /// A keyed operator and the exchanges that feed it.
    Keyed { inputs: Vec<EdgeId> },
    /// A sink that several chains feed.
    Forward,
}

/// What lies between a stream and its sources.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Origin {
    /// How many keyed operators, on the longest way.
    pub(crate) depth: u32,
    pub(crate) sources: BTreeSet<OperatorId>,
}

impl Origin {
    /// That of a stream out of a source.
    pub(crate) fn source(id: Option<OperatorId>) -> Self {
        Self { depth: 0, sources: id.into_iter().collect() }
    }

    /// That of a stream with the records of two.
    pub(crate) fn and(&self, other: &Self) -> Self {
        Self { depth: self.depth.max(other.depth), sources: &self.sources | &other.sources }
    }

    /// That of a stream out of a keyed operator that reads this one.
    pub(crate) fn behind_operator(self) -> Self {
        Self { depth: self.depth + 1, ..self }
    }
}

/// What a keyed operator reads and keeps.
pub(crate) struct Declared {
    pub(crate) id: OperatorId,
    /// The sources and operators whose records come to it.
    pub(crate) inputs: Vec<OperatorId>,
    /// Lists them, by opening an operator that is thrown away.
    pub(crate) states: Box<dyn Fn() -> Result<Vec<StateSchema>> + Send + Sync>,
}

impl fmt::Debug for Declared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.id)
    }
}

type BuildTask = dyn Fn(&mut Assembly) -> Result<Head> + Send + Sync;

/// A head and its chain, to be built once for each subtask and attempt.
pub(crate) struct Vertex {
    pub(crate) id: OperatorId,
    pub(crate) kind: VertexKind,
    pub(crate) build: Box<BuildTask>,
}

impl Vertex {
    /// Whether it runs in the thread of what feeds it.
    pub(crate) fn is_chained(&self, chained: &HashSet<EdgeId>) -> bool {
        match &self.kind {
            VertexKind::Keyed { inputs } => inputs.iter().any(|edge| chained.contains(edge)),
            VertexKind::Source | VertexKind::Forward => false,
        }
    }
}

impl fmt::Debug for Vertex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.id, self.kind)
    }
}

/// A source as its job sees it.
pub(crate) struct SourceVertex {
    pub(crate) id: OperatorId,
    pub(crate) input: Box<dyn SourceInput>,
}

impl fmt::Debug for SourceVertex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.id)
    }
}

/// What had ended when the restored checkpoint was taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ending {
    /// The source.
    pub(crate) ended: bool,
    /// The job.
    pub(crate) finished: bool,
}

/// The part of a source factory that does not depend on its types.
pub(crate) trait SourceInput: Send + Sync {
    /// As [`SourceFactory::plan`](crate::source::SourceFactory::plan), with encoded positions.
    fn plan(&self, parallelism: u32, restored: Option<&[Vec<u8>]>, ending: Ending) -> Result<Unread>;
}

/// A sink as its job sees it.
pub(crate) struct SinkVertex {
    pub(crate) id: OperatorId,
    pub(crate) output: Box<dyn SinkOutput>,
}

impl fmt::Debug for SinkVertex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.id)
    }
}

/// The part of a sink factory that does not depend on its types.
pub(crate) trait SinkOutput: Send + Sync {
    /// As [`SinkFactory::recover`](crate::sink::SinkFactory::recover), with encoded committables.
    fn recover(&self, recovery: &SinkRecovery<'_, Vec<u8>>) -> Result<()>;

    /// As [`SinkFactory::sweep`](crate::sink::SinkFactory::sweep).
    fn sweep(&self, dead: &DeadOutputs) -> Result<()>;
}

impl Graph {
    pub(crate) fn new(name: String) -> Self {
        let (vertices, sources, sinks, schemas) = <_>::default();
        let (ids, origins, exchanges, connections) = <_>::default();
        let (edges, mistake) = (0, None);
        Self { name, vertices, sources, sinks, ids, schemas, origins, edges, exchanges, connections, mistake }
    }

    /// Checks the id of an operator; a bad one is reported by [`check`](Self::check).
    pub(crate) fn take_id(&mut self, id: &str) -> Option<OperatorId> {
        let taken = OperatorId::new(id).and_then(|id| {
            if self.ids.insert(id.clone()) {
                return Ok(id);
            }
            Err(Error::invalid(format!("two operators have the id \"{id}\": every id must be unique")))
        });
        match taken {
            Ok(id) => Some(id),
            Err(error) => {
                self.mistake(error.message());
                None
            }
        }
    }

    /// Remembers a mistake in the description of the job, unless there is one already.
    pub(crate) fn mistake(&mut self, mistake: &str) {
        self.mistake.get_or_insert_with(|| mistake.to_owned());
    }

    pub(crate) fn add(
        &mut self,
        id: OperatorId,
        kind: VertexKind,
        build: impl Fn(&mut Assembly) -> Result<Head> + Send + Sync + 'static,
    ) {
        self.vertices.push(Arc::new(Vertex { id, kind, build: Box::new(build) }));
    }

    pub(crate) fn add_source(&mut self, id: OperatorId, input: impl SourceInput + 'static) {
        self.sources.push(Arc::new(SourceVertex { id, input: Box::new(input) }));
    }

    pub(crate) fn add_sink(&mut self, id: OperatorId, output: impl SinkOutput + 'static) {
        self.sinks.push(Arc::new(SinkVertex { id, output: Box::new(output) }));
    }

    pub(crate) fn declare(
        &mut self,
        id: OperatorId,
        inputs: Vec<OperatorId>,
        states: impl Fn() -> Result<Vec<StateSchema>> + Send + Sync + 'static,
    ) {
        self.schemas.push(Arc::new(Declared { id, inputs, states: Box::new(states) }));
    }

    /// Notes from which sources a keyed operator gets its records.
    pub(crate) fn note_origin(&mut self, id: &OperatorId, origin: &Origin) {
        self.origins.insert(id.clone(), origin.sources.clone());
    }

    /// Notes exchanges that bring records to `reader`, each to one of its subtasks.
    pub(crate) fn add_exchange(&mut self, reader: &OperatorId, edges: &[EdgeId], has_codec: bool) {
        let exchange = |edge: &EdgeId| Exchange { edge: *edge, reader: reader.clone(), has_codec };
        self.exchanges.extend(edges.iter().map(exchange));
    }

    /// Notes which operators edges connect: those whose records leave over them, and the one that reads.
    pub(crate) fn connect<'a>(
        &mut self,
        from: impl IntoIterator<Item = Option<&'a OperatorId>>,
        to: &OperatorId,
        inputs: &[InputEdge],
    ) {
        for (from, InputEdge { edge, pattern, format, .. }) in from.into_iter().zip(inputs) {
            // Without an id the job has a mistake.
            let Some(from) = from.cloned() else { continue };
            let (edge, pattern, format) = (*edge, *pattern, format.clone());
            self.connections.push(Connection { edge, from, to: to.clone(), pattern, format });
        }
    }

    pub(crate) fn edge(&mut self) -> EdgeId {
        self.edges += 1;
        EdgeId(self.edges - 1)
    }

    /// The job as it stands.
    ///
    /// # Errors
    /// `Invalid` names the first mistake.
    pub(crate) fn job(&self) -> Result<Job> {
        if let Some(mistake) = &self.mistake {
            return Err(Error::invalid(mistake).with("job", &self.name));
        }
        if !self.vertices.iter().any(|vertex| vertex.kind == VertexKind::Source) {
            let message = "the job has no source: add one with Pipeline::source";
            return Err(Error::invalid(message).with("job", &self.name));
        }
        let (vertices, sources, sinks) = (self.vertices.clone(), self.sources.clone(), self.sinks.clone());
        let (ids, schemas) = (self.ids.clone(), self.schemas.clone());
        let (origins, exchanges) = (self.origins.clone(), self.exchanges.clone());
        let (name, connections) = (self.name.clone(), self.connections.clone());
        Ok(Job { name, vertices, sources, sinks, ids, schemas, origins, exchanges, connections })
    }
}

/// A graph that is complete.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) name: String,
    pub(crate) vertices: Vec<Arc<Vertex>>,
    pub(crate) sources: Vec<Arc<SourceVertex>>,
    pub(crate) sinks: Vec<Arc<SinkVertex>>,
    /// The ids of all operators with state.
    pub(crate) ids: BTreeSet<OperatorId>,
    /// The keyed ones among them, with their inputs and states.
    pub(crate) schemas: Vec<Arc<Declared>>,
    /// The sources of each of those.
    pub(crate) origins: BTreeMap<OperatorId, BTreeSet<OperatorId>>,
    exchanges: Vec<Exchange>,
    pub(crate) connections: Vec<Connection>,
}

impl Job {
    /// Checks that barriers can overtake the records of all exchanges but the `chained` ones, which have no
    /// channels.
    ///
    /// # Errors
    /// `Invalid` names an operator whose records have no codec.
    pub(crate) fn check_unaligned(&self, chained: &HashSet<EdgeId>) -> Result<()> {
        let lacks = |exchange: &&Exchange| !exchange.has_codec && !chained.contains(&exchange.edge);
        let Some(exchange) = self.exchanges.iter().find(lacks) else { return Ok(()) };
        let message = "checkpoints cannot be unaligned: records in flight on their way to the operator become part of \
                       them, and have no codec; give their stream one with `codec`, or set `unaligned` to off";
        Err(Error::invalid(message).with("job", &self.name).with("operator", &exchange.reader))
    }

    /// All operators with state, and the keyed states that they declare.
    pub(crate) fn schema(&self) -> Result<JobSchema> {
        let mut operators = Vec::new();
        for id in &self.ids {
            let declared = self.schemas.iter().find(|declared| declared.id == *id);
            let states = declared.map_or(Ok(Vec::new()), |declared| (declared.states)());
            let states = states.map_err(|error| error.with("operator", id))?;
            operators.push(OperatorSchema { id: id.clone(), renamed_from: Vec::new(), states });
        }
        Ok(JobSchema { operators })
    }

    /// Whether it has a keyed operator.
    pub(crate) fn is_keyed(&self) -> bool {
        self.vertices.iter().any(|vertex| matches!(vertex.kind, VertexKind::Keyed { .. }))
    }

    /// The edges that are no channels, as `config` has it.
    pub(crate) fn chained(&self, config: &JobConfig) -> HashSet<EdgeId> {
        let is_chained = config.chain_keyed && config.parallelism == 1;
        if is_chained { self.chainable().collect() } else { HashSet::new() }
    }

    /// The vertex in whose thread the one at `place` runs.
    pub(crate) fn head_of(&self, place: usize, chained: &HashSet<EdgeId>) -> usize {
        let Some(vertex) = self.vertices.get(place).filter(|vertex| vertex.is_chained(chained)) else {
            return place;
        };
        let feeds =
            |connection: &&Connection| connection.to == vertex.id && chained.contains(&connection.edge);
        let from = self.connections.iter().find(feeds).map(|connection| &connection.from);
        let from = from.and_then(|from| self.vertices.iter().position(|vertex| vertex.id == *from));
        // A graph has no circles.
        from.map_or(place, |from| self.head_of(from, chained))
    }

    /// The edges that need no channel when keyed operators are chained: those that are the only input.
    pub(crate) fn chainable(&self) -> impl Iterator<Item = EdgeId> {
        self.vertices.iter().filter_map(|vertex| match &vertex.kind {
            VertexKind::Keyed { inputs } if inputs.len() == 1 => inputs.first().copied(),
            _ => None,
        })
    }
}
