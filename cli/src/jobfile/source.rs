//! The source of a job.

use std::path::Path;
use std::time::Duration;

use strandline_connectors::keys::{Distribution, KeyStream, KeyStreamConfig};
use strandline_connectors::{
    AtEnd, Column, ColumnType, CsvFiles, Field, FileSource, Framing, InputPath, OutputPath, TextLines,
    first_header,
};
use strandline_runtime::source::Watermarks;

use super::columns::{Columns, Input};
use super::field::{self, Fields};
use super::graph::{self, Entry};
use super::problem::{Problem, Problems};
use super::scope::Scope;
use super::section::{self, Section};
use super::tree::Node;
use super::{keys, path};

/// The source of a job.
#[derive(Clone, Debug)]
pub(crate) struct SourceSpec {
    /// The operator id, by which a resumed job finds how far it was read.
    pub(crate) id: String,
    pub(crate) kind: SourceKind,
    /// The columns of its rows.
    pub(crate) columns: Vec<Column>,
    /// The same columns, as a source of files has them.
    pub(crate) fields: Vec<Field>,
    /// The column that holds the event time: a timestamp, or milliseconds.
    pub(crate) event_time: Option<usize>,
    /// How watermarks follow the event times.
    pub(crate) watermarks: Watermarks,
    /// At most this many records each second.
    pub(crate) rate: Option<u64>,
}

/// The kinds of sources.
#[derive(Clone, Debug)]
pub(crate) enum SourceKind {
    Text(Files),
    Csv {
        files: Files,
        delimiter: u8,
        header: bool,
        quoted_newlines: bool,
    },
    Json(Files),
    /// Lines that a regular expression splits.
    Regex {
        files: Files,
        pattern: String,
    },
    Keys(KeyStreamConfig),
}

/// The files of a source.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    pub(crate) path: InputPath,
    /// Where they were before they moved there.
    pub(crate) moved_from: Option<InputPath>,
    pub(crate) split_size: u64,
    /// The longest record in bytes.
    pub(crate) max_record: usize,
    pub(crate) bad_records: BadRecordPolicy,
    pub(crate) at_end: AtEnd,
}

/// What happens to records that cannot be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BadRecordPolicy {
    /// The job fails.
    Fail,
    /// They are left out and counted.
    Skip,
    /// They go to files in this directory, with reason and place.
    Keep(OutputPath),
}

impl SourceSpec {
    /// Reads a source; also what is known of its rows where there is a mistake.
    pub(super) fn parse<'a>(node: &'a Node, folder: &Path, problems: &Problems) -> (Option<Self>, Entry<'a>) {
        let Some((kind, section)) = Section::choose(node, &keys::SOURCE, None, problems) else {
            let name = node.text_of("name").map(str::to_owned);
            return (None, Entry { node, input: Input::unknown(), name });
        };
        let only = |name: &str, kind| [Column::new(name, kind)].into_iter().collect::<Fields>();
        let has_times = matches!(kind, "csv" | "json" | "regex");
        let (kind, fields) = match kind {
            "csv" => csv(&section, folder),
            "json" => {
                let fields = section.get("columns").map(|node| field::parse_all(node, true, problems));
                (files(&section, folder).map(SourceKind::Json), fields.unwrap_or_else(Fields::unknown))
            }
            "regex" => {
                let (pattern, fields) = field::pattern(&section);
                let kind = files(&section, folder).zip(pattern);
                (kind.map(|(files, pattern)| SourceKind::Regex { files, pattern }), fields)
            }
            "text" => (files(&section, folder).map(SourceKind::Text), only("line", ColumnType::Text)),
            _ => (key_stream(&section).map(SourceKind::Keys), only("key", ColumnType::UInt)),
        };
        let columns = fields.columns();
        let time = |key| has_times.then(|| section.get(key)).flatten();
        let event_time = time("event_time").and_then(|node| problems.ok(event_time(node, &columns)));
        let duration = |key| time(key).and_then(|_| section.duration(key));
        let watermarks = Watermarks::delayed(duration("watermark_delay").unwrap_or_default())
            .idle_after(duration("idle_timeout"))
            .max_drift(duration("max_drift"));
        let timed = time("event_time").is_some();
        for key in keys::TIMES.iter().filter(|_| !timed) {
            if let Some(node) = time(key.name) {
                let label = "expected `event_time = \"column\"` beside it";
                problems.add(Problem::new(
                    &node.location,
                    format!("`{}` needs event times", key.name),
                    label,
                ));
            }
        }
        let rate = section.integer("rate");
        let time = event_time.and_then(|index| columns.known.get(index));
        let moments = time.is_some_and(|column| column.kind == ColumnType::Timestamp);
        let name = section.get("name").and_then(|node| problems.ok(graph::source_name(node)));
        let id = name.clone().unwrap_or_else(|| "source".to_owned());
        let spec = kind.map(|kind| {
            let (columns, fields) = (columns.known.clone(), fields.known);
            Self { id, kind, columns, fields, event_time, watermarks, rate }
        });
        (spec, Entry { node, input: Input { columns, timed, moments }, name })
    }

    /// Drops all columns that are neither among `needed` nor the event time, where the format allows it.
    pub(super) fn keep(&mut self, needed: &[usize]) {
        let named = match self.kind {
            SourceKind::Csv { header, .. } => header,
            SourceKind::Json(_) | SourceKind::Regex { .. } => true,
            SourceKind::Text(_) | SourceKind::Keys(_) => false,
        };
        if !named {
            return;
        }
        let event_time = self.event_time;
        let kept = |i: &usize| needed.contains(i) || Some(*i) == event_time;
        let kept: Vec<usize> = (0..self.columns.len()).filter(kept).collect();
        self.event_time = event_time.and_then(|old| kept.iter().position(|&i| i == old));
        self.columns = kept.iter().filter_map(|&i| self.columns.get(i).cloned()).collect();
        self.fields = kept.iter().filter_map(|&i| self.fields.get(i).cloned()).collect();
    }

    /// The operator id of the sink for its records that cannot be decoded.
    pub(crate) fn dead_letters_id(&self) -> String {
        match self.id.as_str() {
            "source" => super::DEAD_LETTERS.to_owned(),
            id => format!("{}.{id}", super::DEAD_LETTERS),
        }
    }

    /// Its files, where it reads files.
    pub(crate) fn files(&self) -> Option<&Files> {
        match &self.kind {
            SourceKind::Text(files)
            | SourceKind::Csv { files, .. }
            | SourceKind::Json(files)
            | SourceKind::Regex { files, .. } => Some(files),
            SourceKind::Keys(_) => None,
        }
    }
}

fn files(section: &Section<'_>, folder: &Path) -> Option<Files> {
    let problems = section.problems;
    let path = section.get("path").and_then(|node| problems.ok(path::input(node, folder)));
    let split_size = section.size("split_size").unwrap_or(FileSource::<TextLines>::DEFAULT_SPLIT_SIZE);
    let max_record = section.size("max_record").unwrap_or(FileSource::<TextLines>::DEFAULT_MAX_RECORD as u64);
    let max_record = usize::try_from(max_record).unwrap_or(usize::MAX);
    let bad_records = bad_records(section, folder, path.as_ref());
    let at_end = at_end(section);
    let follows = section.get("watch").or(section.get("follow")).filter(|_| at_end != AtEnd::End);
    if let Some(node) = follows.filter(|_| path.as_ref().is_some_and(InputPath::is_stream)) {
        let label = "leave this out: the job ends with the stream";
        problems.add(Problem::new(&node.location, "a stream is not followed or watched", label));
    }
    let moved_from = section.get("moved_from").and_then(|node| problems.ok(path::input(node, folder)));
    Some(Files { path: path?, moved_from, split_size, max_record, bad_records: bad_records?, at_end })
}

fn bad_records(section: &Section<'_>, folder: &Path, input: Option<&InputPath>) -> Option<BadRecordPolicy> {
    let (problems, directory) = (section.problems, section.get("dead_letters"));
    let policy = match section.word("on_bad_record") {
        Some("skip") => BadRecordPolicy::Skip,
        Some("dead-letter") => {
            let Some(node) = directory else {
                let location = section.location_of("on_bad_record");
                let label = "expected `dead_letters = \"directory\"` beside it";
                problems.add(Problem::new(location, "dead letters have no place to go", label));
                return None;
            };
            let letters = problems.ok(path::output(node, folder))?;
            if input.is_some_and(|input| path::is_input(&letters, input)) {
                let label = "expected a directory that is not the path of the source";
                problems.add(Problem::new(&node.location, "the job would read its own dead letters", label));
            }
            return Some(BadRecordPolicy::Keep(letters));
        }
        _ => BadRecordPolicy::Fail,
    };
    if let Some(node) = directory {
        let label = "expected `on_bad_record = \"dead-letter\"` beside it";
        problems.add(Problem::new(&node.location, "dead letters are not asked for", label));
    }
    Some(policy)
}

fn at_end(section: &Section<'_>) -> AtEnd {
    let follow = section.bool("follow");
    match (section.get("watch"), section.duration("watch")) {
        (Some(node), watch) if follow == Some(false) => {
            let label = "leave out `follow = false` beside it";
            let message = "a source that watches its input follows it";
            section.problems.add(Problem::new(&node.location, message, label));
            watch.map_or(AtEnd::Follow, |every| AtEnd::Watch { every })
        }
        (Some(node), Some(Duration::ZERO)) => {
            section.problems.add(node.unexpected("how often to look, for example \"1s\""));
            AtEnd::Follow
        }
        (_, Some(every)) => AtEnd::Watch { every },
        (_, None) if follow == Some(true) => AtEnd::Follow,
        (_, None) => AtEnd::End,
    }
}

fn csv(section: &Section<'_>, folder: &Path) -> (Option<SourceKind>, Fields) {
    let problems = section.problems;
    let files = files(section, folder);
    let header = section.bool("header").unwrap_or(true);
    let quoted_newlines = section.bool("quoted_newlines").unwrap_or(false);
    let delimiter = match section.get("delimiter") {
        None => Some(b','),
        Some(node) => problems.ok(delimiter(node)),
    };
    let fields = match section.get("columns") {
        Some(node) => field::parse_all(node, false, problems),
        None if header => match (&files, delimiter) {
            (Some(files), Some(delimiter)) => {
                let found = header_columns(section, &files.path, delimiter, quoted_newlines);
                problems.ok(found).map_or_else(Fields::unknown, |columns| columns.into_iter().collect())
            }
            _ => Fields::unknown(),
        },
        None => {
            let message = "a CSV source has no `columns`";
            let label = "expected a key `columns` here, or files with a header";
            problems.add(Problem::new(section.location(), message, label));
            Fields::unknown()
        }
    };
    let kind = files.zip(delimiter).map(|(files, delimiter)| SourceKind::Csv {
        files,
        delimiter,
        header,
        quoted_newlines,
    });
    (kind, fields)
}

fn delimiter(node: &Node) -> Result<u8, Problem> {
    match section::text(node)?.as_bytes() {
        [byte] if byte.is_ascii() && !matches!(byte, b'"' | b'\n' | b'\r') => Ok(*byte),
        _ => Err(node.unexpected("one ASCII character between fields")),
    }
}

/// All columns of the first file, as text.
fn header_columns(
    section: &Section<'_>,
    path: &InputPath,
    delimiter: u8,
    quoted: bool,
) -> Result<Vec<Column>, Problem> {
    let framing = if quoted { Framing::Quoted { delimiter } } else { Framing::Lines };
    let location = section.location_of("path");
    if path.is_stream() {
        let label = "expected `columns` beside it: a stream is read once, by the job";
        return Err(Problem::new(location, "the header of a stream is not known before the job runs", label));
    }
    let header = first_header(path.clone(), framing).map_err(|e| {
        Problem::new(location, e.to_string(), "without `columns` the header of the first file is needed")
    })?;
    let names = CsvFiles::new(Vec::<Column>::new()).delimiter(delimiter).split(&header);
    let names = names.map_err(|wrong| {
        let message = format!("the header of the first file is no record of CSV: {wrong}");
        Problem::new(location, message, "without `columns` the names of all columns come from there")
    })?;
    let mut columns: Vec<Column> = Vec::new();
    for name in names {
        if columns.iter().any(|column| column.name == name) {
            let message = format!("the header of the first file has two columns `{name}`");
            return Err(Problem::new(location, message, "expected `columns` that names those to read"));
        }
        columns.push(Column::new(name, ColumnType::Text));
    }
    Ok(columns)
}

fn event_time(node: &Node, columns: &Columns) -> Result<usize, Problem> {
    let scope = Scope::new(columns);
    let (index, column) = scope.find_column(section::text(node)?, &node.location)?;
    let is_time = matches!(column.kind, ColumnType::Int | ColumnType::UInt | ColumnType::Timestamp);
    if !is_time || column.nullable {
        let optional = if column.nullable { "?" } else { "" };
        let label = format!("this column is {}{optional}", column.kind);
        let message =
            "an event time is a column that is never missing: a timestamp, or milliseconds as int or uint";
        return Err(Problem::new(&node.location, message, label));
    }
    Ok(index)
}

fn key_stream(section: &Section<'_>) -> Option<KeyStreamConfig> {
    let zipf = section.word("distribution") == Some("zipf");
    let config = KeyStreamConfig {
        records: section.integer("records").unwrap_or(0),
        keys: section.integer("keys").unwrap_or(1_000_000),
        seed: section.integer("seed").unwrap_or(42),
        distribution: if zipf { Distribution::Zipf } else { Distribution::Uniform },
    };
    let limit = KeyStream::MAX_ZIPF_KEYS;
    if zipf && config.keys > limit {
        let label = format!("expected at most {limit}, or the distribution `uniform`");
        let message = "too many keys for Zipf's law";
        section.problems.add(Problem::new(section.location_of("keys"), message, label));
        return None;
    }
    Some(config)
}
