//! How the job runs: everything but what it computes.

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::time::Duration;

use strandline_checkpoint_storage::{Depth, OnDamage, Storage, StorageOptions};
use strandline_runtime::{CheckpointConfig, JobConfig, RestartStrategy, WhenFinished};
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

/// How closely a checkpoint is verified before it is restored.
const DEPTHS: [(&str, Depth); 3] =
    [("manifest", Depth::Manifest), ("lengths", Depth::Lengths), ("contents", Depth::Contents)];
/// What a start does when the newest checkpoint is damaged.
const ON_DAMAGE: [(&str, OnDamage); 2] = [("fall-back", OnDamage::FallBack), ("refuse", OnDamage::Refuse)];
/// What becomes of the checkpoints of a job that has finished.
const WHEN_FINISHED: [(&str, WhenFinished); 2] =
    [("keep", WhenFinished::Keep), ("remove", WhenFinished::Remove)];

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
        "verify",
        "on_damage",
        "backlog_interval",
        "commit_timeout",
        "cleanup_pause",
        "cleanup_lag",
        "when_finished",
        "give_way",
        "inline_limit",
        "request_timeout",
        "request_retries",
        "retry_pause",
    ];
    let section = Section::new(node, "[checkpoint]", keys)?;
    let storage = storage(section.required("storage")?, folder, storage_options(&section)?)?;
    let mut config = CheckpointConfig::new(storage, Duration::from_secs(10));
    config.interval = period(&section, "interval", "checkpoints at the end only")?.unwrap_or(config.interval);
    // Nothing meanwhile is an interval of zero there.
    let backlog = period(&section, "backlog_interval", "no periodic checkpoints during a backlog")?;
    config.backlog_interval = backlog.map(Option::unwrap_or_default);
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
    config.verify = section.word("verify", "depth", &DEPTHS)?.unwrap_or(config.verify);
    config.on_damage =
        section.word("on_damage", "way to treat damage", &ON_DAMAGE)?.unwrap_or(config.on_damage);
    config.commit_timeout = section.duration("commit_timeout")?.unwrap_or(config.commit_timeout);
    config.cleanup_pause = section.duration("cleanup_pause")?.unwrap_or(config.cleanup_pause);
    config.cleanup_lag = section.small_integer("cleanup_lag", 1)?.unwrap_or(config.cleanup_lag);
    let end = section.word("when_finished", "end of checkpoints", &WHEN_FINISHED)?;
    config.when_finished = end.unwrap_or(config.when_finished);
    config.give_way = section.duration("give_way")?.unwrap_or(config.give_way);
    Ok((section.bool("enabled")? != Some(false)).then_some(config))
}

/// The time between two checkpoints, `None` in it for "off".
fn period(section: &Section<'_>, key: &str, off: &str) -> Result<Option<Option<Duration>>, Problem> {
    let Some(node) = section.optional(key) else { return Ok(None) };
    if section::text(node).is_ok_and(|text| text == "off") {
        return Ok(Some(None));
    }
    match section::duration(node)? {
        Duration::ZERO => {
            let label = format!("expected more than nothing, or \"off\" for {off}");
            Err(Problem::new(&node.location, "the interval of checkpoints is zero", label))
        }
        interval => Ok(Some(Some(interval))),
    }
}

/// The limits of the storage, and how long it tries.
fn storage_options(section: &Section<'_>) -> Result<StorageOptions, Problem> {
    let mut options = StorageOptions::default();
    if let Some(size) = section.size("inline_limit")? {
        options.inline_limit = usize::try_from(size).unwrap_or(usize::MAX);
    }
    options.request_timeout = section.duration("request_timeout")?.unwrap_or(options.request_timeout);
    options.retries = section.small_integer("request_retries", 0)?.unwrap_or(options.retries);
    options.retry_pause = section.duration("retry_pause")?.unwrap_or(options.retry_pause);
    Ok(options)
}

/// Opens a storage: a URL, or a path in the file system.
fn storage(node: &Node, folder: &Path, options: StorageOptions) -> Result<Storage, Problem> {
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
        _ if is_url => Storage::open_with(text, options.clone()),
        _ => Storage::in_dir(path::parse(node, folder, "a directory")?),
    };
    let example = "expected a path, \"file:///absolute/path\", \"s3://bucket/prefix\" or \"memory://\"";
    opened
        .map(|storage| storage.with_options(options))
        .map_err(|e| Problem::new(&node.location, e.to_string(), example))
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
