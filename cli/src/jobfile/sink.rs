//! The sink of a job.

use std::path::Path;

use strandline_connectors::{Column, ColumnType, OutputPath};

use super::problem::{Location, Problem, Problems};
use super::section::Section;
use super::source::{BadRecordPolicy, SourceSpec};
use super::tree::Node;
use super::{keys, path};

/// The format of the results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SinkFormat {
    Csv { header: bool },
    Json,
}

/// The sink of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SinkSpec {
    Files {
        directory: OutputPath,
        format: SinkFormat,
    },
    Stdout(SinkFormat),
    /// Drops everything; `checksum` adds up checksums that show whether each key was counted once.
    Discard {
        checksum: bool,
    },
}

impl SinkSpec {
    /// Opens the section of a sink: the section, and what it is of.
    pub(super) fn open<'a>(node: &'a Node, problems: &'a Problems) -> Option<(Section<'a>, &'static str)> {
        let (kind, section) = Section::choose(node, &keys::SINK, None, problems)?;
        Some((section, kind))
    }

    /// Reads a sink of rows with these columns, where they are known.
    pub(super) fn parse(
        kind: &str,
        section: &Section<'_>,
        folder: &Path,
        columns: Option<&[Column]>,
    ) -> Option<Self> {
        let problems = section.problems;
        let directory = || section.get("path").and_then(|node| problems.ok(path::output(node, folder)));
        Some(match kind {
            "csv" => {
                let format = SinkFormat::Csv { header: section.bool("header").unwrap_or(false) };
                Self::Files { directory: directory()?, format }
            }
            "json" => Self::Files { directory: directory()?, format: SinkFormat::Json },
            "stdout" => match section.word("format") {
                Some("json") => Self::Stdout(SinkFormat::Json),
                _ => Self::Stdout(SinkFormat::Csv { header: false }),
            },
            _ => {
                let checksum = section.bool("checksum").unwrap_or(false);
                if let Some(columns) = columns.filter(|_| checksum) {
                    problems.ok(check_checksum(columns, section.location_of("checksum")))?;
                }
                Self::Discard { checksum }
            }
        })
    }

    /// The directory of its files, where it writes files.
    pub(crate) fn directory(&self) -> Option<&OutputPath> {
        match self {
            Self::Files { directory, .. } => Some(directory),
            Self::Stdout(_) | Self::Discard { .. } => None,
        }
    }

    /// Refuses a job that would read its own results, or mix them with records that it could not read.
    pub(super) fn check_against(&self, source: &SourceSpec, node: &Node) -> Result<(), Problem> {
        let Self::Files { directory, .. } = self else { return Ok(()) };
        let Some(files) = source.files() else { return Ok(()) };
        let refused = |message: &str, label: &str| Err(Problem::new(node.member("path"), message, label));
        match &files.bad_records {
            _ if path::is_input(directory, &files.path) => refused(
                "the job would read its own results",
                "expected a directory that is not the path of the source",
            ),
            BadRecordPolicy::Keep(letters) if letters == directory => refused(
                "results and dead letters would mix",
                "expected another directory than `dead_letters` of the source",
            ),
            _ => Ok(()),
        }
    }
}

fn check_checksum(columns: &[Column], location: &Location) -> Result<(), Problem> {
    if columns.iter().map(|column| column.kind).eq([ColumnType::UInt, ColumnType::UInt]) {
        return Ok(());
    }
    let found: Vec<_> = columns.iter().map(|c| format!("{}:{}", c.name, c.kind)).collect();
    let label = format!("the columns are {}", found.join(", "));
    Err(Problem::new(location, "the checksum is of a key and its count: two uint columns", label))
}
