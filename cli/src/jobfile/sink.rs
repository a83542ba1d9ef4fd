//! The sink of a job.

use std::path::{Path, PathBuf};

use strandline_connectors::{Column, ColumnType};

use super::path;
use super::problem::Problem;
use super::section::{self, Section};
use super::source::{BadRecordPolicy, SourceSpec};
use super::tree::Node;

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
        directory: PathBuf,
        format: SinkFormat,
    },
    Stdout(SinkFormat),
    /// Drops everything; `checksum` adds up checksums that show whether each key was counted once.
    Discard {
        checksum: bool,
    },
}

const TYPES: [&str; 4] = ["csv", "json", "stdout", "discard"];

impl SinkSpec {
    pub(super) fn parse(node: &Node, folder: &Path, columns: &[Column]) -> Result<Self, Problem> {
        let any = Section::open(node, "a sink")?;
        let kind = any.required("type")?;
        let path = |section: &Section<'_>| {
            let node = section.required("path")?;
            if section::text(node)?.starts_with("s3:") {
                let label = "write to a directory, and copy its finished files (part-*) to the store";
                return Err(Problem::new(
                    &node.location,
                    "results are not written to an object store",
                    label,
                ));
            }
            path::output(node, folder)
        };
        match section::text(kind)? {
            "csv" => {
                let section = Section::new(node, "a CSV sink", &["type", "path", "header"])?;
                let format = SinkFormat::Csv { header: section.bool("header")?.unwrap_or(false) };
                Ok(Self::Files { directory: path(&section)?, format })
            }
            "json" => {
                let section = Section::new(node, "a JSON sink", &["type", "path"])?;
                Ok(Self::Files { directory: path(&section)?, format: SinkFormat::Json })
            }
            "stdout" => {
                let section = Section::new(node, "a sink to standard output", &["type", "format"])?;
                match section.text("format")? {
                    None | Some("csv") => Ok(Self::Stdout(SinkFormat::Csv { header: false })),
                    Some("json") => Ok(Self::Stdout(SinkFormat::Json)),
                    Some(other) => {
                        let location = &section.required("format")?.location;
                        Err(Problem::unknown(location, "format", other, &["csv", "json"]))
                    }
                }
            }
            "discard" => {
                let section = Section::new(node, "a discarding sink", &["type", "checksum"])?;
                let checksum = section.bool("checksum")?.unwrap_or(false);
                let wanted = [ColumnType::UInt, ColumnType::UInt];
                if checksum && !columns.iter().map(|column| column.kind).eq(wanted) {
                    let found: Vec<_> = columns.iter().map(|c| format!("{}:{}", c.name, c.kind)).collect();
                    let label = format!("the columns are {}", found.join(", "));
                    let location = &section.required("checksum")?.location;
                    let message = "the checksum is of a key and its count: two uint columns";
                    return Err(Problem::new(location, message, label));
                }
                Ok(Self::Discard { checksum })
            }
            other => Err(Problem::unknown(&kind.location, "sink type", other, &TYPES)),
        }
    }

    /// Refuses a job that would read its own results, or mix them with records that it could not read.
    pub(super) fn check_against(&self, source: &SourceSpec, node: &Node) -> Result<(), Problem> {
        let Self::Files { directory, .. } = self else { return Ok(()) };
        let Some(files) = source.files() else { return Ok(()) };
        let refused = |message: &str, label: &str| {
            let section = Section::open(node, "a sink")?;
            Err(Problem::new(&section.required("path")?.location, message, label))
        };
        match &files.bad_records {
            _ if path::is_input(directory, &files.path) => refused(
                "the job would read its own results",
                "expected a directory that is not the path of the source",
            ),
            BadRecordPolicy::Keep(letters) if path::same(letters, directory) => refused(
                "results and dead letters would mix",
                "expected another directory than `dead_letters` of the source",
            ),
            _ => Ok(()),
        }
    }
}
