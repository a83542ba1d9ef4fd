//! From a job file to a pipeline.
//!
//! Every source, operator, sink and step that a job can have is compiled for every state backend, so their
//! types are kept few: rows of one type with keys of two, and the key stream, which benchmarks use, besides.

mod accumulator;
mod call;
mod change;
mod flows;
mod fold;
mod group;
mod join;
mod key;
mod layout;
mod operators;
mod order;
mod rows;
mod sink;
mod slot;
mod source;
mod windows;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use strandline_connectors::{Row, Value};
use strandline_runtime::{Pipeline, Stream};
use strandline_state_api::Result;
use strandline_state_api::backend::BackendFactory;

use crate::jobfile::{BadRecordPolicy, Job, Origin, Output, SourceSpec, Step};
use flows::Flows;
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
    /// The group whose late records have a sink of their own.
    keeps_late: Option<String>,
    /// The bad records of each source.
    bad: Vec<Arc<dyn Fn() -> BadRecords + Send + Sync>>,
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
    /// What becomes of the late records of the operator `id`.
    pub(crate) fn fate_of_late(&self, id: &str) -> &'static str {
        if self.keeps_late.as_deref() == Some(id) { "written to the sink for late rows" } else { "dropped" }
    }

    /// Records that came after their window had closed, for each group that has some, those of failed
    /// attempts included.
    pub(crate) fn late_by_group(&self) -> impl Iterator<Item = (&str, u64)> {
        let counts = self.late.iter().map(|(id, late)| (id.as_str(), late.load(Ordering::Relaxed)));
        counts.filter(|(_, late)| *late > 0)
    }

    /// Records that could not be decoded, of all sources.
    pub(crate) fn bad(&self) -> BadRecords {
        let mut all = BadRecords::default();
        for bad in self.bad.iter().map(|bad| bad()).filter(|bad| bad.count > 0) {
            all.count += bad.count;
            all.first = all.first.or(bad.first);
            all.kept |= bad.kept;
        }
        all
    }

    /// What counts the late records of the operator `id`.
    fn late_of(&mut self, id: &str) -> Arc<AtomicU64> {
        Arc::clone(self.late.entry(id.to_owned()).or_default())
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

/// Builds the pipeline of `job` on `backend`.
///
/// # Errors
/// Those of the connectors.
pub(crate) fn plan<F: BackendFactory>(job: &Job, backend: F) -> Result<Plan<F>> {
    let pipeline = Pipeline::new(&job.settings.name, backend);
    let mut counters = Counters::default();
    let mut flows = Flows::new(job);
    for number in 0..job.sources.len() {
        flows.add_source(&pipeline, number, &mut counters)?;
    }
    let skips =
        |spec: &SourceSpec| spec.files().is_some_and(|files| files.bad_records == BadRecordPolicy::Skip);
    let skip = job.sources.iter().any(skips);
    for (number, placed) in job.steps.iter().enumerate() {
        let origin = Origin::Step(number);
        if flows.has(origin) {
            // It runs within its source.
            continue;
        }
        let mut inputs: Vec<_> = placed.inputs.iter().filter_map(|input| flows.take(*input)).collect();
        let Some(last) = inputs.pop() else { continue };
        let flow = match &placed.step {
            Step::Group(group) => {
                let (results, late) = group::group(last, group, &mut counters, skip);
                if let (Some(rows), Some((sink, columns))) = (late, &job.late) {
                    counters.keeps_late = Some(group.id.clone());
                    sink::sink(Flow::Rows(rows), "late", sink, columns)?;
                }
                results
            }
            Step::Coalesce(of) => Flow::Rows(change::coalesce(last.rows(), of)),
            Step::Call(of) => Flow::Rows(call::call(last.rows(), of)),
            Step::Deduplicate(of) => Flow::Rows(change::deduplicate(last.rows(), of)),
            Step::Union(union) => match join::union(inputs.into_iter().chain([last]), union) {
                Some(rows) => Flow::Rows(rows),
                None => continue,
            },
            Step::Join(of) => {
                let Some(left) = inputs.pop() else { continue };
                Flow::Rows(join::join(left.rows(), last.rows(), of, &mut counters))
            }
            step => match RowStep::new(step) {
                Some(step) => Flow::Rows(step.add_to(last.rows(), skip)),
                None => continue,
            },
        };
        flows.put(origin, flow);
    }
    for Output { id, sink, input, columns } in &job.sinks {
        if let Some(flow) = flows.take(*input) {
            sink::sink(flow, id, sink, columns)?;
        }
    }
    Ok(Plan { pipeline, counters })
}
