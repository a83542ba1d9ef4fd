//! How the job runs: everything but what it computes.

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::time::Duration;

use strandline_checkpoint_storage::{Depth, OnDamage, Storage, StorageOptions};
use strandline_runtime::{CheckpointConfig, JobConfig, RestartStrategy, Unaligned, WhenFinished};
use strandline_state_api::OperatorId;
use strandline_state_api::backend::SnapshotKind;

use super::problem::{Problem, Problems};
use super::section::{self, Section};
use super::tree::Node;
use super::{keys, path};

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
    pub(crate) batch_size: usize,
    pub(crate) chain: bool,
    pub(crate) checkpoint: Option<CheckpointConfig>,
    pub(crate) restart: RestartStrategy,
    pub(crate) backend: Backend,
}

impl Settings {
    pub(super) fn parse(job: &Section<'_>, folder: &Path) -> Self {
        let problems = job.problems;
        let defaults = JobConfig::default();
        Self {
            name: job
                .get("name")
                .and_then(|node| problems.ok(name(node)))
                .unwrap_or_else(|| "job".to_owned()),
            parallelism: job.small_integer("parallelism").unwrap_or(defaults.parallelism),
            batch_size: job.small_integer("batch_size").map_or(defaults.batch_size, |size| size as usize),
            chain: job.bool("chain").unwrap_or(defaults.chain_keyed),
            checkpoint: job.get("checkpoint").and_then(|node| checkpoint(node, folder, problems)),
            restart: super::restart::parse(job.get("restart"), problems),
            backend: job.get("state").map_or(Backend::Memory, |node| backend(node, folder, problems)),
        }
    }
}

fn name(node: &Node) -> Result<String, Problem> {
    let text = section::text(node)?;
    OperatorId::new(text).map_err(|_| {
        let label = "expected 1 to 120 letters, digits, `-`, `_` or `.`";
        Problem::new(&node.location, format!("{text:?} cannot be the name of a job"), label)
    })?;
    Ok(text.to_owned())
}

fn checkpoint(node: &Node, folder: &Path, problems: &Problems) -> Option<CheckpointConfig> {
    let section = Section::new(node, keys::CHECKPOINT.only()?, problems)?;
    let options = storage_options(&section);
    let storage = section.get("storage").and_then(|node| problems.ok(storage(node, folder, options)));
    // What is wrong with the other keys is found without a storage, too.
    let storage = storage.or_else(|| Storage::open("memory://").ok())?;
    let mut config = CheckpointConfig::new(storage, Duration::from_secs(10));
    config.interval = period(&section, "interval", "checkpoints at the end only").unwrap_or(config.interval);
    // Nothing meanwhile is an interval of zero there.
    let backlog = period(&section, "backlog_interval", "no periodic checkpoints during a backlog");
    config.backlog_interval = backlog.map(Option::unwrap_or_default);
    config.initial_delay = section.duration("initial_delay");
    config.min_pause = section.duration("min_pause").unwrap_or(config.min_pause);
    config.timeout = section.duration("timeout").unwrap_or(config.timeout);
    config.unaligned = unaligned(&section).unwrap_or(config.unaligned);
    config.max_concurrent = section.small_integer("max_concurrent").unwrap_or(config.max_concurrent);
    config.tolerable_failures =
        section.small_integer("tolerable_failures").unwrap_or(config.tolerable_failures);
    let retained = section.small_integer("retained").and_then(|retained| NonZero::new(retained as usize));
    config.retained = retained.unwrap_or(config.retained);
    if section.bool("incremental") == Some(false) {
        config.kind = SnapshotKind::Full;
    }
    config.verify = match section.word("verify") {
        Some("manifest") => Depth::Manifest,
        Some("lengths") => Depth::Lengths,
        _ => Depth::Contents,
    };
    if section.word("on_damage") == Some("refuse") {
        config.on_damage = OnDamage::Refuse;
    }
    config.commit_timeout = section.duration("commit_timeout").unwrap_or(config.commit_timeout);
    config.cleanup_pause = section.duration("cleanup_pause").unwrap_or(config.cleanup_pause);
    config.cleanup_lag = section.small_integer("cleanup_lag").unwrap_or(config.cleanup_lag);
    if section.word("when_finished") == Some("remove") {
        config.when_finished = WhenFinished::Remove;
    }
    config.give_way = section.duration("give_way").unwrap_or(config.give_way);
    (section.bool("enabled") != Some(false)).then_some(config)
}

/// The time between two checkpoints, `None` in it for "off".
fn period(section: &Section<'_>, key: &str, off: &str) -> Option<Option<Duration>> {
    let node = section.get(key)?;
    if section::text(node).is_ok_and(|text| text == "off") {
        return Some(None);
    }
    let zero = || {
        let label = format!("expected more than nothing, or \"off\" for {off}");
        Problem::new(&node.location, "the interval of checkpoints is zero", label)
    };
    let period = section::duration(node).and_then(|period| match period {
        Duration::ZERO => Err(zero()),
        period => Ok(period),
    });
    section.problems.ok(period).map(Some)
}

/// Whether barriers overtake rows.
fn unaligned(section: &Section<'_>) -> Option<Unaligned> {
    let node = section.get("unaligned")?;
    match section::text(node) {
        Ok("off") => Some(Unaligned::Off),
        Ok("on") => Some(Unaligned::On),
        _ => section.problems.ok(section::duration(node)).map(Unaligned::After),
    }
}

/// The limits of the storage, and how long it tries.
fn storage_options(section: &Section<'_>) -> StorageOptions {
    let mut options = StorageOptions::default();
    if let Some(size) = section.size("inline_limit") {
        options.inline_limit = usize::try_from(size).unwrap_or(usize::MAX);
    }
    options.request_timeout = section.duration("request_timeout").unwrap_or(options.request_timeout);
    options.retries = section.small_integer("request_retries").unwrap_or(options.retries);
    options.retry_pause = section.duration("retry_pause").unwrap_or(options.retry_pause);
    options
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
    let example = match text.starts_with("s3:") {
        true => "expected \"s3://bucket/prefix?region=…\"; the region may be in AWS_REGION instead",
        false => LOCATIONS,
    };
    opened
        .map(|storage| storage.with_options(options))
        .map_err(|e| Problem::new(&node.location, e.to_string(), example))
}

const LOCATIONS: &str = "expected a path, \"file:///absolute/path\", \"s3://bucket/prefix\" or \"memory://\"";

fn backend(node: &Node, folder: &Path, problems: &Problems) -> Backend {
    match Section::choose(node, &keys::STATE, Some("memory"), problems) {
        Some(("rocksdb", section)) => Backend::RocksDb(RocksDb {
            directory: section
                .get("directory")
                .and_then(|node| problems.ok(path::parse(node, folder, "a directory"))),
            memory: section.size("memory"),
            write_back: section.number("write_back"),
        }),
        _ => Backend::Memory,
    }
}
