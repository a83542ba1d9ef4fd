//! How the job runs: everything but what it computes.

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::time::Duration;

use strandline_checkpoint_storage::Storage;
use strandline_runtime::{CheckpointConfig, JobConfig, RestartStrategy};
use strandline_state_api::OperatorId;
use strandline_state_api::backend::SnapshotKind;

use super::path;
use super::problem::Problem;
use super::section::{self, Section};
use super::tree::Node;

/// The state backend.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Backend {
    /// Native values in memory.
    Memory,
    /// Embedded RocksDB.
    RocksDb(RocksDb),
}

/// The settings of RocksDB in a job file; the backend has defaults for those that are missing.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct RocksDb {
    /// The directory of its databases.
    pub(crate) directory: Option<PathBuf>,
    /// Bytes of memory for all subtasks together.
    pub(crate) memory: Option<u64>,
    /// The share of that for hot entries in front of the databases.
    pub(crate) write_back: Option<f64>,
}

/// How the job runs.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) name: String,
    pub(crate) parallelism: u32,
    pub(crate) batch_size: Option<usize>,
    pub(crate) chain: bool,
    pub(crate) checkpoint: Option<CheckpointConfig>,
    pub(crate) restart: RestartStrategy,
    pub(crate) backend: Backend,
}

const BACKENDS: [&str; 2] = ["memory", "rocksdb"];

impl Settings {
    pub(super) fn parse(job: &Section<'_>, folder: &Path) -> Result<Self, Problem> {
        let name = match job.optional("name") {
            None => "job".to_owned(),
            Some(node) => {
                let text = section::text(node)?;
                OperatorId::new(text).map_err(|_| {
                    let label = "expected 1 to 120 letters, digits, `-`, `_` or `.`";
                    Problem::new(&node.location, format!("{text:?} cannot be the name of a job"), label)
                })?;
                text.to_owned()
            }
        };
        Ok(Self {
            name,
            parallelism: parallelism(job)?,
            batch_size: job.small_integer("batch_size", 1)?.map(|size| size as usize),
            chain: job.bool("chain")?.unwrap_or(false),
            checkpoint: checkpoint(job, folder)?,
            restart: super::restart::parse(job)?,
            backend: backend(job, folder)?,
        })
    }
}

fn parallelism(job: &Section<'_>) -> Result<u32, Problem> {
    let parallelism = job.small_integer("parallelism", 1)?.unwrap_or(1);
    match job.optional("parallelism") {
        Some(node) if parallelism > JobConfig::MAX_PARALLELISM => {
            let message = format!("`parallelism` is at most {}", JobConfig::MAX_PARALLELISM);
            Err(Problem::new(&node.location, message, "this is more"))
        }
        _ => Ok(parallelism),
    }
}

fn checkpoint(job: &Section<'_>, folder: &Path) -> Result<Option<CheckpointConfig>, Problem> {
    let Some(node) = job.optional("checkpoint") else { return Ok(None) };
    let keys = &[
        "enabled",
        "storage",
        "interval",
        "initial_delay",
        "min_pause",
        "timeout",
        "max_concurrent",
        "tolerable_failures",
        "retained",
        "incremental",
    ];
    let section = Section::new(node, "[checkpoint]", keys)?;
    let storage = storage(section.required("storage")?, folder)?;
    let mut config = CheckpointConfig::new(storage, Duration::from_secs(10));
    if let Some(node) = section.optional("interval") {
        config.interval = match section::text(node) {
            Ok("off") => None,
            _ => Some(section::duration(node)?),
        };
        if config.interval == Some(Duration::ZERO) {
            let label = "expected more than nothing, or \"off\" for checkpoints at the end only";
            return Err(Problem::new(&node.location, "the interval of checkpoints is zero", label));
        }
    }
    config.initial_delay = section.duration("initial_delay")?;
    config.min_pause = section.duration("min_pause")?.unwrap_or(config.min_pause);
    config.timeout = section.duration("timeout")?.unwrap_or(config.timeout);
    config.max_concurrent = section.small_integer("max_concurrent", 1)?.unwrap_or(config.max_concurrent);
    config.tolerable_failures =
        section.small_integer("tolerable_failures", 0)?.unwrap_or(config.tolerable_failures);
    let retained = section.small_integer("retained", 1)?.and_then(|retained| NonZero::new(retained as usize));
    config.retained = retained.unwrap_or(config.retained);
    if section.bool("incremental")? == Some(false) {
        config.kind = SnapshotKind::Full;
    }
    Ok((section.bool("enabled")? != Some(false)).then_some(config))
}

/// Opens a storage: a URL, or a path in the file system.
fn storage(node: &Node, folder: &Path) -> Result<Storage, Problem> {
    let text = section::text(node)?;
    let is_url = text.contains("://") || ["file:", "memory:", "s3:"].iter().any(|it| text.starts_with(it));
    let opened = match text.strip_prefix("file://") {
        // `file:/path` is short for `file:///path`.
        None if text.starts_with("file:/") => Storage::in_dir(text.trim_start_matches("file:")),
        _ if text.is_empty() => {
            return Err(node.unexpected("a path or a URL, for example \"file:///var/checkpoints\""));
        }
        Some(path) if !path.starts_with('/') => {
            let label =
                "expected an absolute path after file://; a path alone is taken from the job file's folder";
            return Err(Problem::new(
                &node.location,
                "the path of the checkpoint storage is relative",
                label,
            ));
        }
        _ if is_url => Storage::open(text),
        _ => Storage::in_dir(path::parse(node, folder, "a directory")?),
    };
    let example = "expected a path, \"file:///absolute/path\", \"s3://bucket/prefix\" or \"memory://\"";
    opened.map_err(|e| Problem::new(&node.location, e.to_string(), example))
}

fn backend(job: &Section<'_>, folder: &Path) -> Result<Backend, Problem> {
    let Some(node) = job.optional("state") else { return Ok(Backend::Memory) };
    let section = Section::open(node, "[state]")?;
    let name = section.text("backend")?.unwrap_or("memory");
    match name {
        "memory" => {
            Section::new(node, "[state] of the memory backend", &["backend"]).map(|_| Backend::Memory)
        }
        "rocksdb" => {
            let keys = &["backend", "directory", "memory", "write_back"];
            let section = Section::new(node, "[state] of RocksDB", keys)?;
            let directory = section.optional("directory");
            let directory = directory.map(|node| path::parse(node, folder, "a directory")).transpose()?;
            let (memory, write_back) = (section.size("memory")?, section.share("write_back", 0.9)?);
            Ok(Backend::RocksDb(RocksDb { directory, memory, write_back }))
        }
        _ => {
            let location = section.optional("backend").map_or(section.location(), |node| &node.location);
            Err(Problem::unknown(location, "state backend", name, &BACKENDS))
        }
    }
}
