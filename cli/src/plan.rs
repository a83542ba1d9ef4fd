//! From a job file to a pipeline.
//!
//! Every source, operator, sink and step that a job can have is compiled for every state backend, so their
//! types are kept few: rows of one type with keys of two, and the key stream, which benchmarks use, besides.

mod accumulator;
mod group;
mod key;
mod operators;
mod rows;
mod sink;
mod source;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use strandline_connectors::{Row, Value};
use strandline_runtime::{Pipeline, Stream};
use strandline_state_api::Result;
use strandline_state_api::backend::BackendFactory;

use crate::jobfile::{Job, Step};
use operators::Shape;
use rows::RowStep;

/// A pipeline, and what it counts beside the report of the runtime.
#[derive(Debug)]
pub(crate) struct Plan<F> {
    pub(crate) pipeline: Pipeline<F>,
    pub(crate) counters: Counters,
}

/// How many records a job leaves out on purpose.
#[derive(Clone, Default)]
pub(crate) struct Counters {
    late: Arc<AtomicU64>,
    skipped: Option<Arc<dyn Fn() -> u64 + Send + Sync>>,
}

impl Counters {
    /// Records that came after their window had closed, those of failed attempts included.
    pub(crate) fn late(&self) -> u64 {
        self.late.load(Ordering::Relaxed)
    }

    /// Records that could not be decoded.
    pub(crate) fn skipped(&self) -> u64 {
        self.skipped.as_ref().map_or(0, |skipped| skipped())
    }
}

impl std::fmt::Debug for Counters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Counters").field("late", &self.late()).field("skipped", &self.skipped()).finish()
    }
}

/// The records between two steps: rows, or a smaller form of them that lasts until a step needs rows.
enum Flow<F> {
    Rows(Stream<F, Row>),
    /// The keys of a key stream.
    Keys(Stream<F, u64>),
    /// Keys of a key stream with their counts.
    Counts(Stream<F, (u64, u64)>, Arc<Shape>),
}

impl<F: BackendFactory> Flow<F> {
    fn rows(self) -> Stream<F, Row> {
        match self {
            Self::Rows(rows) => rows,
            Self::Keys(keys) => keys.map(|key| [Value::UInt(key)].into_iter().collect()),
            Self::Counts(counts, shape) => counts.map(move |(key, count)| shape.count(&key, count)),
        }
    }
}

/// Builds the pipeline of `job` on `backend`.
///
/// # Errors
/// Those of the connectors.
pub(crate) fn plan<F: BackendFactory>(job: &Job, backend: F) -> Result<Plan<F>> {
    let pipeline = Pipeline::new(&job.settings.name, backend);
    let mut counters = Counters::default();
    let mut flow = source::source(&pipeline, &job.source, &mut counters)?;
    for step in &job.steps {
        let step = match step {
            Step::Filter(condition) => RowStep::Filter(Arc::new(condition.clone())),
            Step::Project(columns) => RowStep::Project(columns.as_slice().into()),
            Step::Words(column) => RowStep::Words(*column),
            Step::Group(group) => {
                flow = group::group(flow, group, &counters.late);
                continue;
            }
        };
        flow = Flow::Rows(step.add_to(flow.rows()));
    }
    sink::sink(flow, job)?;
    Ok(Plan { pipeline, counters })
}
