//! The job file, checked before anything runs.
//!
//! A job file is TOML. The reader builds a tree in which each key and value has its location, so that a
//! report of a mistake shows where it is and what was expected there. It follows the columns and their types
//! through all steps.

mod aggregate;
mod expression;
mod field;
mod path;
mod problem;
mod restart;
mod scope;
mod section;
mod settings;
mod sink;
mod source;
mod step;
mod tree;

#[cfg(test)]
mod tests;

use std::path::Path;

use strandline_connectors::Column;

pub(crate) use aggregate::{Aggregate, Function};
pub(crate) use expression::{Expression, Fault};
#[cfg_attr(
    not(feature = "rocksdb"),
    expect(unused_imports, reason = "only that backend reads its settings")
)]
pub(crate) use settings::RocksDb;
pub(crate) use settings::{Backend, Settings};
pub(crate) use sink::{SinkFormat, SinkSpec};
pub(crate) use source::{BadRecordPolicy, Files, SourceKind, SourceSpec};
pub(crate) use step::{Emit, Group, Step};

use problem::{Documents, Problem};
use section::Section;
use tree::{Node, Tree};

/// The operator id of the sink for records that cannot be decoded.
pub(crate) const DEAD_LETTERS: &str = "dead-letters";

/// A job as its file describes it, checked.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) settings: Settings,
    pub(crate) source: SourceSpec,
    pub(crate) steps: Vec<Step>,
    pub(crate) sink: SinkSpec,
    /// The columns of the rows that reach the sink.
    pub(crate) output: Vec<Column>,
    /// Where rows go that come after their window has closed, and their columns; they are dropped otherwise.
    pub(crate) late: Option<(SinkSpec, Vec<Column>)>,
}

impl Job {
    /// Reads the file at `path`; each of `overrides` is a `key=value` that replaces a value of the file.
    ///
    /// # Errors
    /// A text for the terminal: where the mistake is, what was expected, and often what was meant.
    pub(crate) fn load(path: &Path, overrides: &[String], color: bool) -> Result<Self, String> {
        let text = std::fs::read_to_string(path)
            .map_err(|e| format!("error: the job file {} cannot be read: {e}\n", path.display()))?;
        let mut documents = Documents::new(path.display().to_string(), text, overrides);
        let folder = path.parent().unwrap_or(Path::new(""));
        let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
        Self::parse(&mut documents, &folder).map_err(|problem| documents.render(&problem, color))
    }

    /// Whether its input can be read once only.
    pub(crate) fn reads_stream(&self) -> bool {
        self.source.files().is_some_and(|files| files.path.is_stream())
    }

    fn parse(documents: &mut Documents, folder: &Path) -> Result<Self, Problem> {
        let tree = Tree::parse(documents)?;
        let keys = &[
            "name",
            "parallelism",
            "batch_size",
            "chain",
            "checkpoint",
            "restart",
            "state",
            "source",
            "step",
            "sink",
            "late",
        ];
        let job = Section::new(tree.root(), "a job", keys)?;
        let settings = Settings::parse(&job, folder)?;
        let mut source = SourceSpec::parse(job.required("source")?, folder)?;
        let late = job.optional("late");
        let (steps, output) = step::parse_all(job.optional("step"), &mut source, late.is_some())?;
        let sink = SinkSpec::parse(job.required("sink")?, folder, &output)?;
        sink.check_against(&source, job.required("sink")?)?;
        let late = late.map(|node| late_sink(node, folder, &source, &steps, &sink)).transpose()?;
        Ok(Self { settings, source, steps, sink, output, late })
    }
}

/// The sink of rows that come late to the one window of a job, and their columns.
fn late_sink(
    node: &Node,
    folder: &Path,
    source: &SourceSpec,
    steps: &[Step],
    results: &SinkSpec,
) -> Result<(SinkSpec, Vec<Column>), Problem> {
    let columns = step::late_columns(steps, node)?;
    let late = SinkSpec::parse(node, folder, &columns)?;
    late.check_against(source, node)?;
    match (&late, results) {
        (SinkSpec::Files { directory, .. }, SinkSpec::Files { directory: other, .. })
            if path::same(directory, other) =>
        {
            let label = "expected a directory that is not the one of [sink]";
            Err(Problem::new(&node.location, "late rows would be among the results", label))
        }
        _ => Ok((late, columns)),
    }
}
