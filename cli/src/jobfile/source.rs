//! The source of a job.

use std::path::{Path, PathBuf};
use std::time::Duration;

use strandline_connectors::keys::{Distribution, KeyStream, KeyStreamConfig};
use strandline_connectors::{
    AtEnd, Column, ColumnType, CsvFiles, Field, FileSource, Framing, InputPath, TextLines, first_header,
};
use strandline_runtime::source::Watermarks;

use super::field;
use super::path;
use super::problem::{Problem, one_of};
use super::section::{self, Section};
use super::tree::Node;

/// The source of a job.
#[derive(Clone, Debug)]
pub(crate) struct SourceSpec {
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
    Keep(PathBuf),
}

const TYPES: [&str; 5] = ["text", "csv", "json", "regex", "keys"];
const COMMON: [&str; 2] = ["type", "rate"];
const FILES: [&str; 8] =
    ["path", "split_size", "max_record", "on_bad_record", "dead_letters", "follow", "watch", "moved_from"];
const POLICIES: [&str; 3] = ["fail", "skip", "dead-letter"];
const TIMES: [&str; 4] = ["event_time", "watermark_delay", "idle_timeout", "max_drift"];

impl SourceSpec {
    pub(super) fn parse(node: &Node, folder: &Path) -> Result<Self, Problem> {
        let any = Section::open(node, "a source")?;
        let kind = any.required("type")?;
        let keys = |more: &[&[&'static str]]| [&COMMON[..], &more.concat()].concat();
        let open = |what, keys: &[&str]| Section::new(node, what, keys);
        let (section, kind, fields) = match section::text(kind)? {
            "text" => {
                let section = open("a text source", &keys(&[&FILES]))?;
                let fields = vec![Column::new("line", ColumnType::Text).into()];
                let kind = SourceKind::Text(files(&section, folder)?);
                (section, kind, fields)
            }
            "csv" => {
                let own = ["columns", "delimiter", "header", "quoted_newlines"];
                let section = open("a CSV source", &keys(&[&FILES, &TIMES, &own]))?;
                let (kind, fields) = csv(&section, files(&section, folder)?)?;
                (section, kind, fields)
            }
            "json" => {
                let section = open("a JSON source", &keys(&[&FILES, &TIMES, &["columns"]]))?;
                let fields = field::parse_all(section.required("columns")?, true)?;
                let kind = SourceKind::Json(files(&section, folder)?);
                (section, kind, fields)
            }
            "regex" => {
                let keys = keys(&[&FILES, &TIMES, &["pattern", "columns"]]);
                let section = open("a source of lines that a pattern splits", &keys)?;
                let (pattern, fields) = field::pattern(&section)?;
                let kind = SourceKind::Regex { files: files(&section, folder)?, pattern };
                (section, kind, fields)
            }
            "keys" => {
                let section = open("a key stream", &keys(&[&["records", "keys", "seed", "distribution"]]))?;
                let kind = SourceKind::Keys(key_stream(&section)?);
                (section, kind, vec![Column::new("key", ColumnType::UInt).into()])
            }
            other => return Err(Problem::unknown(&kind.location, "source type", other, &TYPES)),
        };
        let columns: Vec<Column> = fields.iter().map(|field| field.column.clone()).collect();
        let event_time = section.optional("event_time").map(|node| event_time(node, &columns)).transpose()?;
        let delay = section.duration("watermark_delay")?.unwrap_or_default();
        let watermarks = Watermarks::delayed(delay)
            .idle_after(section.duration("idle_timeout")?)
            .max_drift(section.duration("max_drift")?);
        let untimed = TIMES.iter().filter(|_| event_time.is_none()).find_map(|key| section.optional(key));
        if let Some(node) = untimed {
            let label = "expected `event_time = \"column\"` beside it";
            return Err(Problem::new(&node.location, "this needs event times", label));
        }
        let rate = section.integer("rate", 1)?;
        Ok(Self { kind, columns, fields, event_time, watermarks, rate })
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

fn files(section: &Section<'_>, folder: &Path) -> Result<Files, Problem> {
    let path = path::input(section.required("path")?, folder)?;
    let split_size = section.size("split_size")?.unwrap_or(FileSource::<TextLines>::DEFAULT_SPLIT_SIZE);
    let max_record =
        section.size("max_record")?.unwrap_or(FileSource::<TextLines>::DEFAULT_MAX_RECORD as u64);
    let max_record = usize::try_from(max_record).unwrap_or(usize::MAX);
    let bad_records = bad_records(section, folder, &path)?;
    let at_end = at_end(section)?;
    let follows = section.optional("watch").or(section.optional("follow")).filter(|_| at_end != AtEnd::End);
    if let Some(node) = follows.filter(|_| path.is_stream()) {
        let label = "leave this out: the job ends with the stream";
        return Err(Problem::new(&node.location, "a stream is not followed or watched", label));
    }
    let moved_from = section.optional("moved_from").map(|node| path::input(node, folder)).transpose()?;
    Ok(Files { path, moved_from, split_size, max_record, bad_records, at_end })
}

fn bad_records(section: &Section<'_>, folder: &Path, input: &InputPath) -> Result<BadRecordPolicy, Problem> {
    let directory = section.optional("dead_letters");
    let policy = match section.text("on_bad_record")? {
        None | Some("fail") => BadRecordPolicy::Fail,
        Some("skip") => BadRecordPolicy::Skip,
        Some("dead-letter") => {
            let node = section.required("dead_letters")?;
            let letters = path::parse(node, folder, "a directory")?;
            if path::is_input(&letters, input) {
                let label = "expected a directory that is not the path of the source";
                return Err(Problem::new(&node.location, "the job would read its own dead letters", label));
            }
            return Ok(BadRecordPolicy::Keep(letters));
        }
        Some(other) => {
            let location = &section.required("on_bad_record")?.location;
            return Err(Problem::unknown(location, "way to treat bad records", other, &POLICIES));
        }
    };
    match directory {
        None => Ok(policy),
        Some(node) => {
            let label = "expected `on_bad_record = \"dead-letter\"` beside it";
            Err(Problem::new(&node.location, "dead letters are not asked for", label))
        }
    }
}

fn at_end(section: &Section<'_>) -> Result<AtEnd, Problem> {
    let follow = section.bool("follow")?;
    match (section.optional("watch"), section.duration("watch")?) {
        (Some(node), _) if follow == Some(false) => {
            let label = "leave out `follow = false` beside it";
            Err(Problem::new(&node.location, "a source that watches its input follows it", label))
        }
        (Some(node), Some(Duration::ZERO)) => Err(node.unexpected("how often to look, for example \"1s\"")),
        (_, Some(every)) => Ok(AtEnd::Watch { every }),
        (_, None) if follow == Some(true) => Ok(AtEnd::Follow),
        (_, None) => Ok(AtEnd::End),
    }
}

fn csv(section: &Section<'_>, files: Files) -> Result<(SourceKind, Vec<Field>), Problem> {
    let header = section.bool("header")?.unwrap_or(true);
    let quoted_newlines = section.bool("quoted_newlines")?.unwrap_or(false);
    let delimiter = match section.text("delimiter")? {
        None => b',',
        Some(text) => match text.as_bytes() {
            [byte] if byte.is_ascii() && !matches!(byte, b'"' | b'\n' | b'\r') => *byte,
            _ => return Err(section.required("delimiter")?.unexpected("one ASCII character between fields")),
        },
    };
    let fields = match section.optional("columns") {
        Some(node) => field::parse_all(node, false)?,
        None if header => {
            let columns = header_columns(section, &files.path, delimiter, quoted_newlines)?;
            columns.into_iter().map(Field::from).collect()
        }
        None => section.required("columns").and_then(|node| field::parse_all(node, false))?,
    };
    Ok((SourceKind::Csv { files, delimiter, header, quoted_newlines }, fields))
}

/// All columns of the first file, as text.
fn header_columns(
    section: &Section<'_>,
    path: &InputPath,
    delimiter: u8,
    quoted: bool,
) -> Result<Vec<Column>, Problem> {
    let framing = if quoted { Framing::Quoted { delimiter } } else { Framing::Lines };
    let location = &section.required("path")?.location;
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

fn event_time(node: &Node, columns: &[Column]) -> Result<usize, Problem> {
    let name = section::text(node)?;
    let known: Vec<_> = columns.iter().map(|column| column.name.as_str()).collect();
    let found = columns.iter().enumerate().find(|(_, column)| column.name == name);
    let (index, column) = found.ok_or_else(|| Problem::unknown(&node.location, "column", name, &known))?;
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

fn key_stream(section: &Section<'_>) -> Result<KeyStreamConfig, Problem> {
    section.required("records")?;
    let distribution = match section.text("distribution")? {
        None | Some("uniform") => Distribution::Uniform,
        Some("zipf") => Distribution::Zipf,
        Some(other) => {
            let location = &section.required("distribution")?.location;
            return Err(Problem::unknown(location, "distribution", other, &["uniform", "zipf"]));
        }
    };
    let config = KeyStreamConfig {
        records: section.integer("records", 0)?.unwrap_or(0),
        keys: section.integer("keys", 1)?.unwrap_or(1_000_000),
        seed: section.integer("seed", 0)?.unwrap_or(42),
        distribution,
    };
    let limit = KeyStream::MAX_ZIPF_KEYS;
    match section.optional("keys") {
        Some(node) if distribution == Distribution::Zipf && config.keys > limit => {
            let expected = one_of(&["uniform"]);
            let label = format!("expected at most {limit}, or the distribution {expected}");
            Err(Problem::new(&node.location, "too many keys for Zipf's law", label))
        }
        _ => Ok(config),
    }
}
