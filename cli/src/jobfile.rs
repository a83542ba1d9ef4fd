//! The job file, checked before anything runs.
//!
//! A job file is TOML. The reader builds a tree in which each key and value has its location, so that a
//! report of a mistake shows where it is and what was expected there. It follows the columns and their types
//! through all steps.

mod aggregate;
mod expression;
mod field;
pub(crate) mod keys;
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

pub(crate) use aggregate::{AGGREGATES, Aggregate, Function};
pub(crate) use expression::{Expression, FORMS, FUNCTIONS, Fault};
#[cfg_attr(
    not(feature = "rocksdb"),
    expect(unused_imports, reason = "only that backend reads its settings")
)]
pub(crate) use settings::RocksDb;
pub(crate) use settings::{Backend, Settings};
pub(crate) use sink::{SinkFormat, SinkSpec};
pub(crate) use source::{BadRecordPolicy, Files, SourceKind, SourceSpec};
pub(crate) use step::{Emit, Group, Step};

pub(crate) use problem::Mistakes;
pub(crate) use section::UNITS;

use problem::{Documents, Problem, Problems};
use section::Section;
use source::Input;
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
    /// All mistakes: where each is, what was expected, and often what was meant.
    pub(crate) fn load(path: &Path, overrides: &[String]) -> Result<Self, Mistakes> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|e| Mistakes::unreadable(&name, &e))?;
        let documents = Documents::new(name, text, overrides);
        let folder = path.parent().unwrap_or(Path::new(""));
        let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
        Self::parse(&documents, &folder).map_err(|problems| Mistakes::new(documents, problems))
    }

    /// Whether its input can be read once only.
    pub(crate) fn reads_stream(&self) -> bool {
        self.source.files().is_some_and(|files| files.path.is_stream())
    }

    fn parse(documents: &Documents, folder: &Path) -> Result<Self, Vec<Problem>> {
        let problems = Problems::default();
        let tree = Tree::parse(documents, &problems);
        match Self::read(&tree, folder, &problems) {
            Some(job) if problems.is_empty() => Ok(job),
            _ => Err(problems.into_sorted()),
        }
    }

    fn read(tree: &Tree, folder: &Path, problems: &Problems) -> Option<Self> {
        let job = Section::new(tree.root(), &keys::JOB, problems)?;
        let settings = Settings::parse(&job, folder);
        let late = job.get("late");
        let (mut source, input) = match job.get("source") {
            Some(node) => SourceSpec::parse(node, folder, problems),
            None => (None, Input::unknown()),
        };
        let (steps, output) =
            step::parse_all(job.get("step"), source.as_mut(), &input, late.is_some(), problems);
        let sink = |node: &Node, columns: Option<&[Column]>| {
            let sink = SinkSpec::parse(node, folder, columns, problems)?;
            if let Some(source) = &source {
                problems.ok(sink.check_against(source, node))?;
            }
            Some(sink)
        };
        let known = (!output.others).then_some(output.known.as_slice());
        let results = job.get("sink").and_then(|node| sink(node, known));
        let late = late.map(|node| {
            let columns = problems.ok(step::late_columns(&steps, job.get("step"), node));
            let late = sink(node, columns.as_deref())?;
            problems.ok(check_late(&late, results.as_ref(), node))?;
            Some((late, columns?))
        });
        let late = match late {
            Some(None) => return None,
            Some(late) => late,
            None => None,
        };
        Some(Self { settings, source: source?, steps, sink: results?, output: output.known, late })
    }
}

/// Refuses late rows among the results.
fn check_late(late: &SinkSpec, results: Option<&SinkSpec>, node: &Node) -> Result<(), Problem> {
    match (late, results) {
        (SinkSpec::Files { directory, .. }, Some(SinkSpec::Files { directory: other, .. }))
            if directory == other =>
        {
            let label = "expected a directory that is not the one of [sink]";
            Err(Problem::new(node.member("path"), "late rows would be among the results", label))
        }
        _ => Ok(()),
    }
}
