//! The plan of a pipeline.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use strandline_state_api::backend::BackendFactory;
use strandline_state_api::{OperatorId, Result};

use super::parcel::EdgeCodec;
use crate::channel::{EdgeId, Pattern};
use crate::config::{JobConfig, Unaligned};
use crate::pipeline::Pipeline;
use crate::pipeline::graph::{Job, Vertex, VertexKind};
use crate::sync::lock;

/// A pipeline as vertices and edges: what a host wires.
#[derive(Clone, Debug)]
pub struct Plan {
    job: String,
    vertices: Vec<PlanVertex>,
    edges: Vec<PlanEdge>,
    is_unaligned: bool,
}

/// A source, keyed operator or sink with inputs of its own, and all steps and sinks behind it that run with it.
#[derive(Clone)]
pub struct PlanVertex {
    pub(crate) number: u32,
    pub(crate) vertex: Arc<Vertex>,
}

/// A way from the subtasks of one vertex to those of another.
#[derive(Clone, Debug)]
pub struct PlanEdge {
    /// Its number among the edges of the plan.
    pub number: u32,
    /// The numbers of the vertices that it connects.
    pub from: u32,
    /// See [`from`](Self::from).
    pub to: u32,
    /// Which of their subtasks it connects.
    pub routing: Routing,
    /// How its records become bytes; `None` where their stream has no codec.
    pub codec: Option<EdgeCodec>,
}

/// Which subtasks of two vertices an edge connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Routing {
    /// Each with each.
    Exchange,
    /// Each with that of the same number.
    Local,
}

impl Plan {
    /// The plan of a pipeline that runs as `config` has it.
    ///
    /// # Errors
    /// `Invalid` for a mistake in the pipeline.
    pub fn of<F: BackendFactory>(pipeline: &Pipeline<F>, config: &JobConfig) -> Result<Self> {
        let job = lock(&pipeline.graph).job()?;
        Ok(Self::new(&job, config))
    }

    pub(crate) fn new(job: &Job, config: &JobConfig) -> Self {
        let chained: HashSet<EdgeId> = job.chained(config);
        let number_of = |id: &OperatorId| job.vertices.iter().position(|vertex| vertex.id == *id);
        let mut edges = Vec::new();
        for connection in job.connections.iter().filter(|connection| !chained.contains(&connection.edge)) {
            let (from, to) = (number_of(&connection.from), number_of(&connection.to));
            // What feeds a chained operator runs with the vertex that feeds that.
            let (Some(from), Some(to)) = (from.map(|from| job.head_of(from, &chained)), to) else { continue };
            edges.push(PlanEdge {
                number: connection.edge.0,
                from: from as u32,
                to: to as u32,
                routing: match connection.pattern {
                    Pattern::AllToAll => Routing::Exchange,
                    Pattern::OneToOne => Routing::Local,
                },
                codec: connection.format.clone().map(EdgeCodec),
            });
        }
        let numbered = (0..).zip(&job.vertices).filter(|(_, vertex)| !vertex.is_chained(&chained));
        let vertices = numbered.map(|(number, vertex)| PlanVertex { number, vertex: Arc::clone(vertex) });
        let is_unaligned = config.unaligned() != Unaligned::Off;
        Self { job: job.name.clone(), vertices: vertices.collect(), edges, is_unaligned }
    }

    /// The name of the job.
    pub fn job(&self) -> &str {
        &self.job
    }

    /// The vertices, each behind those that feed it.
    pub fn vertices(&self) -> &[PlanVertex] {
        &self.vertices
    }

    /// The edges.
    pub fn edges(&self) -> &[PlanEdge] {
        &self.edges
    }

    /// Whether barriers are to overtake records, which a host brings about by itself or refuses.
    pub fn is_unaligned(&self) -> bool {
        self.is_unaligned
    }
}

impl PlanVertex {
    /// Its number in the job; a plan may lack some.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The id of the source, operator or sink at its head.
    pub fn id(&self) -> &OperatorId {
        &self.vertex.id
    }

    /// Whether it is a source.
    pub fn is_source(&self) -> bool {
        self.vertex.kind == VertexKind::Source
    }
}

impl fmt::Debug for PlanVertex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.number, self.vertex)
    }
}
