//! The job file, checked before anything runs.
//!
//! A job file is TOML. The reader builds a tree in which each key and value has its location, so that a
//! report of a mistake shows where it is and what was expected there. It follows the columns and their types
//! through all steps.

mod aggregate;
mod call;
mod coalesce;
mod columns;
mod deduplicate;
mod expression;
mod field;
mod graph;
mod group;
mod join;
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
mod stream;
mod tree;
mod windows;

#[cfg(test)]
mod tests;

use std::path::Path;

use strandline_connectors::Column;

pub(crate) use aggregate::{AGGREGATES, Aggregate, Function};
pub(crate) use call::{Call, ERROR, NUMBER, Program};
pub(crate) use coalesce::Coalesce;
pub(crate) use deduplicate::Deduplicate;
pub(crate) use expression::{Expression, FORMS, FUNCTIONS, Fault, compare};
pub(crate) use group::{Computes, Emit, Firing, Group, Top};
pub(crate) use join::{Join, Matching, Part, Side, Union};
#[cfg_attr(
    not(feature = "rocksdb"),
    expect(unused_imports, reason = "only that backend reads its settings")
)]
pub(crate) use settings::RocksDb;
pub(crate) use settings::{Backend, Settings};
pub(crate) use sink::{SinkFormat, SinkSpec};
pub(crate) use source::{BadRecordPolicy, Files, SourceKind, SourceSpec};
pub(crate) use step::Step;
pub(crate) use stream::Origin;
pub(crate) use windows::{GREATEST_GAP, Shape, Windows};

pub(crate) use problem::Mistakes;
pub(crate) use section::UNITS;

use graph::{Pass, Placed};
use problem::{Documents, Problem, Problems};
use section::Section;
use tree::{Node, Tree, TreeValue};

/// The operator id of the sink for records that cannot be decoded.
pub(crate) const DEAD_LETTERS: &str = "dead-letters";

/// A job as its file describes it, checked.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) settings: Settings,
    pub(crate) sources: Vec<SourceSpec>,
    /// The steps; each takes the rows of sources and of steps before it.
    pub(crate) steps: Vec<Placed>,
    pub(crate) sinks: Vec<Output>,
    /// Where rows go that come after their window has closed, and their columns; they are dropped otherwise.
    pub(crate) late: Option<(SinkSpec, Vec<Column>)>,
}

/// A sink, and what reaches it.
#[derive(Debug)]
pub(crate) struct Output {
    /// The operator id.
    pub(crate) id: String,
    pub(crate) sink: SinkSpec,
    pub(crate) input: Origin,
    /// The columns of the rows that reach it.
    pub(crate) columns: Vec<Column>,
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
        self.sources.iter().filter_map(SourceSpec::files).any(|files| files.path.is_stream())
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
        let nodes = job.get("source").map(Node::tables).unwrap_or_default();
        check_names(nodes, "source", job.get("source"), problems);
        let parsed = nodes.iter().map(|node| SourceSpec::parse(node, folder, problems));
        let (mut specs, mut entries): (Vec<_>, Vec<_>) = parsed.unzip();
        let items = match job.get("step").map(|node| (&node.value, node)) {
            None => &[],
            Some((TreeValue::Array(items), _)) => items.as_slice(),
            Some((_, node)) => {
                problems.add(node.unexpected("steps as `[[step]]` tables"));
                &[]
            }
        };
        let sinks = job.get("sink").map(Node::tables).unwrap_or_default();
        check_names(sinks, "sink", job.get("sink"), problems);
        // The first pass finds every mistake, and which columns of the sources are needed; the second numbers
        // those anew. Late rows have all columns of the source.
        let (needs, first) = {
            let mut pass = Pass::over(&entries, items, folder, problems);
            let results = outputs(sinks, &specs, folder, &mut pass, problems);
            pass.check_taken();
            (pass.needs.of_sources(), (pass.steps, results))
        };
        let late = job.get("late");
        let (mut steps, results) = if late.is_none() && problems.is_empty() {
            for ((spec, entry), needed) in specs.iter_mut().flatten().zip(&mut entries).zip(needs) {
                spec.keep(&needed);
                entry.input.columns.known.clone_from(&spec.columns);
            }
            let mut pass = Pass::over(&entries, items, folder, problems);
            let results = outputs(sinks, &specs, folder, &mut pass, problems);
            (pass.steps, results)
        } else {
            first
        };
        for placed in &mut steps {
            if let Step::Group(group) = &mut placed.step {
                group.keeps_late = late.is_some() && group.may_be_late();
            }
        }
        check_places(&specs, &results, sinks, nodes, problems);
        let late = late.map(|node| {
            let columns = problems.ok(graph::late_columns(&steps, items, node));
            let late = late_sink(node, &specs, &results, columns.as_deref(), folder, problems)?;
            Some((late, columns?))
        });
        let late = match late {
            Some(None) => return None,
            Some(late) => late,
            None => None,
        };
        let (sources, sinks) =
            (specs.into_iter().collect::<Option<_>>()?, results.into_iter().collect::<Option<_>>()?);
        Some(Self { settings, sources, steps, sinks, late })
    }
}

/// Several sources or sinks have names, each its own.
fn check_names(nodes: &[Node], what: &str, whole: Option<&Node>, problems: &Problems) {
    if let (Some(whole), []) = (whole, nodes) {
        problems.add(whole.unexpected(&format!("at least one `[[{what}]]` table")));
    }
    for (number, node) in nodes.iter().enumerate().filter(|_| nodes.len() > 1) {
        match node.text_of("name") {
            None if node.has("name") => {}
            None => {
                let label = format!("expected a key `name` here: the job has {} {what}s", nodes.len());
                problems.add(Problem::new(
                    &node.location,
                    format!("a {what} among several needs a name"),
                    label,
                ));
            }
            Some(name) if nodes.iter().take(number).any(|other| other.text_of("name") == Some(name)) => {
                let message = format!("two {what}s are named `{name}`");
                problems.add(Problem::new(node.member("name"), message, "this is the second"));
            }
            Some(_) => {}
        }
    }
}

/// Reads the sinks, and takes the rows for them.
fn outputs(
    nodes: &[Node],
    sources: &[Option<SourceSpec>],
    folder: &Path,
    pass: &mut Pass<'_>,
    problems: &Problems,
) -> Vec<Option<Output>> {
    nodes.iter().map(|node| output(node, sources, folder, pass, problems)).collect()
}

/// Reads a sink, and takes the rows for it.
fn output(
    node: &Node,
    sources: &[Option<SourceSpec>],
    folder: &Path,
    pass: &mut Pass<'_>,
    problems: &Problems,
) -> Option<Output> {
    let (section, read) = SinkSpec::open(node, problems)?;
    let (input, stream) = pass.take_rows(&section);
    let id = section.get("name").map(|node| problems.ok(graph::sink_name(node)));
    let known = (!stream.columns.others).then_some(stream.columns.known.as_slice());
    let sink = SinkSpec::parse(read, &section, folder, known)?;
    for source in sources.iter().flatten() {
        problems.ok(sink.check_against(source, node))?;
    }
    let id = match id {
        Some(id) => id?,
        None => "sink".to_owned(),
    };
    if let (Some(location), true) = (section.get("name"), pass.has_id(&id)) {
        let message = format!("a sink and a source or step have the id {id:?}");
        problems.add(Problem::new(&location.location, message, "expected another name"));
    }
    Some(Output { id, sink, input: input?, columns: stream.columns.known })
}

/// Reads the sink for late rows.
fn late_sink(
    node: &Node,
    sources: &[Option<SourceSpec>],
    results: &[Option<Output>],
    columns: Option<&[Column]>,
    folder: &Path,
    problems: &Problems,
) -> Option<SinkSpec> {
    let (section, read) = SinkSpec::open(node, problems)?;
    for key in ["from", "name"] {
        if let Some(node) = section.get(key) {
            let label = "leave this out: [late] takes the rows that come late to the window";
            problems.add(Problem::new(&node.location, format!("`{key}` is for [sink]"), label));
        }
    }
    let late = SinkSpec::parse(read, &section, folder, columns)?;
    for source in sources.iter().flatten() {
        problems.ok(late.check_against(source, node))?;
    }
    for result in results.iter().flatten() {
        problems.ok(check_late(&late, &result.sink, node))?;
    }
    Some(late)
}

/// Refuses results in one directory with others, and dead letters of several sources in one.
fn check_places(
    sources: &[Option<SourceSpec>],
    results: &[Option<Output>],
    sinks: &[Node],
    nodes: &[Node],
    problems: &Problems,
) {
    let directory =
        |output: &Option<Output>| output.as_ref().and_then(|output| output.sink.directory().cloned());
    for (number, node) in sinks.iter().enumerate() {
        let Some(own) = results.get(number).and_then(directory) else { continue };
        if results.iter().take(number).any(|other| directory(other).as_ref() == Some(&own)) {
            let label = "expected a directory that no other sink has";
            problems.add(Problem::new(node.member("path"), "the results of two sinks would mix", label));
        }
    }
    let letters = |source: &Option<SourceSpec>| match &source.as_ref()?.files()?.bad_records {
        BadRecordPolicy::Keep(directory) => Some(directory.clone()),
        BadRecordPolicy::Fail | BadRecordPolicy::Skip => None,
    };
    let streams =
        sources.iter().flatten().filter_map(SourceSpec::files).filter(|files| files.path.is_stream());
    if let (true, Some(node)) = (streams.count() > 1, nodes.last()) {
        let label = "expected `-` for one source only";
        problems.add(Problem::new(node.member("path"), "two sources would read one stream", label));
    }
    for (number, node) in nodes.iter().enumerate() {
        let Some(own) = sources.get(number).and_then(letters) else { continue };
        if sources.iter().take(number).any(|other| letters(other).as_ref() == Some(&own)) {
            let label = "expected a directory that no other source has";
            let message = "the dead letters of two sources would mix";
            problems.add(Problem::new(node.member("dead_letters"), message, label));
        }
    }
}

/// Refuses late rows among results.
fn check_late(late: &SinkSpec, results: &SinkSpec, node: &Node) -> Result<(), Problem> {
    match (late.directory(), results.directory()) {
        (Some(directory), Some(other)) if directory == other => {
            let label = "expected a directory that is not the one of [sink]";
            Err(Problem::new(node.member("path"), "late rows would be among the results", label))
        }
        _ => Ok(()),
    }
}
