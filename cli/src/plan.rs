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
mod slot;
mod source;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use strandline_connectors::{Row, Value};
use strandline_runtime::{Pipeline, Stream};
use strandline_state_api::Result;
use strandline_state_api::backend::BackendFactory;

use crate::jobfile::{BadRecordPolicy, Job, Step};
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
    /// Late records by the id of the group.
    late: BTreeMap<String, Arc<AtomicU64>>,
    /// Whether they have a sink of their own.
    keeps_late: bool,
    left_out: Arc<AtomicU64>,
    bad: Option<Arc<dyn Fn() -> BadRecords + Send + Sync>>,
}

/// The records that could not be decoded.
#[derive(Clone, Debug, Default)]
pub(crate) struct BadRecords {
    pub(crate) count: u64,
    /// The first one and its place.
    pub(crate) first: Option<String>,
    /// Whether they are in the sink for dead letters.
    pub(crate) kept: bool,
}

impl Counters {
    /// What becomes of late records.
    pub(crate) fn fate_of_late(&self) -> &'static str {
        if self.keeps_late { "written to the sink for late rows" } else { "dropped" }
    }

    /// Records that came after their window had closed, for each group that has some, those of failed
    /// attempts included.
    pub(crate) fn late_by_group(&self) -> impl Iterator<Item = (&str, u64)> {
        let counts = self.late.iter().map(|(id, late)| (id.as_str(), late.load(Ordering::Relaxed)));
        counts.filter(|(_, late)| *late > 0)
    }

    /// Results that their columns could not hold, those of failed attempts included.
    pub(crate) fn left_out(&self) -> u64 {
        self.left_out.load(Ordering::Relaxed)
    }

    /// Records that could not be decoded.
    pub(crate) fn bad(&self) -> BadRecords {
        self.bad.as_ref().map(|bad| bad()).unwrap_or_default()
    }
}

impl std::fmt::Debug for Counters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Counters").field("late", &self.late).field("bad", &self.bad()).finish()
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

pub(crate) use source::inspect;
/// The first steps, up to the last one before a group whose expressions may fail. A source of files runs them
/// on each record: so what fails in them is a bad record, with its place.
fn steps_within_source(job: &Job) -> Vec<RowStep> {
    if job.source.files().is_none() {
        return Vec::new();
    }
    let mut steps: Vec<RowStep> = job.steps.iter().map_while(RowStep::new).collect();
    let last = steps.iter().rposition(RowStep::may_fail);
    steps.truncate(last.map_or(0, |last| last + 1));
    steps
}

/// Builds the pipeline of `job` on `backend`.
///
/// # Errors
/// Those of the connectors.
pub(crate) fn plan<F: BackendFactory>(job: &Job, backend: F) -> Result<Plan<F>> {
    let pipeline = Pipeline::new(&job.settings.name, backend);
    let mut counters = Counters { keeps_late: job.late.is_some(), ..Counters::default() };
    let within = steps_within_source(job);
    let mut flow = source::source(&pipeline, job, within.as_slice().into(), &mut counters)?;
    let skip = job.source.files().is_some_and(|files| files.bad_records == BadRecordPolicy::Skip);
    for step in job.steps.iter().skip(within.len()) {
        if let Step::Group(group) = step {
            let (results, late) = group::group(flow, group, &mut counters, skip);
            flow = results;
            if let (Some(rows), Some((sink, columns))) = (late, &job.late) {
                sink::sink(Flow::Rows(rows), "late", sink, columns)?;
            }
        } else if let Some(step) = RowStep::new(step) {
            let left_out = skip.then(|| Arc::clone(&counters.left_out));
            flow = Flow::Rows(step.add_to(flow.rows(), left_out));
        }
    }
    sink::sink(flow, "sink", &job.sink, &job.output)?;
    Ok(Plan { pipeline, counters })
}
