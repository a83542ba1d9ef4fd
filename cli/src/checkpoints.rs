//! `strandline checkpoints`: inspects a checkpoint storage.

use std::time::{Duration, UNIX_EPOCH};

use indicatif::{HumanBytes, HumanCount};
use serde_json::{Map, Value, json};
use strandline_checkpoint_storage::{
    CompletedCheckpoint, Depth, History, Storage, UnreadableSlot, VerifyReport, mask_credentials,
};
use strandline_state_api::{CheckpointId, Error, ErrorKind, Result};
use tokio::runtime::Runtime;

use crate::cli::{CheckpointsArgs, CheckpointsCommand};
use crate::schema::compat;
use crate::{Failure, print};

/// Runs a command on a storage.
pub(crate) fn checkpoints(args: &CheckpointsArgs) -> Result<(), Failure> {
    let (runtime, json) = (runtime()?, args.json);
    match &args.command {
        CheckpointsCommand::List(storage) => runtime.block_on(list(&open(&storage.uri)?, json)),
        CheckpointsCommand::Verify { storage, id } => {
            runtime.block_on(verify(&open(&storage.uri)?, id.map(CheckpointId), json))
        }
        CheckpointsCommand::Compat { storage, schema, id, allow_orphans, renamed } => {
            let (storage, id) = (open(&storage.uri)?, id.map(CheckpointId));
            runtime.block_on(compat(&storage, id, schema, allow_orphans, renamed, json))
        }
        CheckpointsCommand::Remove { storage, id } => {
            runtime.block_on(remove(&open(&storage.uri)?, CheckpointId(*id), json))
        }
        CheckpointsCommand::Sweep { storage, dry_run } => {
            runtime.block_on(sweep(&open(&storage.uri)?, *dry_run, json))
        }
    }
}

/// The threads that read storages.
pub(crate) fn runtime() -> Result<Runtime> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.map_err(|e| {
        Error::new(ErrorKind::Unavailable, "the threads that read the storage cannot be started").caused_by(e)
    })
}

/// Opens a storage; a path may be relative.
pub(crate) fn open(uri: &str) -> Result<Storage> {
    if uri.contains("://") {
        return Storage::open(uri);
    }
    let path = std::path::absolute(uri).map_err(|e| {
        Error::invalid("the path of the storage cannot be used")
            .with("path", mask_credentials(uri))
            .caused_by(e)
    })?;
    if !path.is_dir() {
        return Err(Error::new(ErrorKind::NotFound, "the directory of the storage does not exist")
            .with("path", mask_credentials(&path.display().to_string())));
    }
    Storage::in_dir(path)
}

async fn list(storage: &Storage, json: bool) -> Result<(), Failure> {
    let history = storage.history().await?;
    if json {
        return list_json(storage, &history).await;
    }
    if history.completed.is_empty() {
        print_line!("no checkpoints in {}", storage.uri());
    } else {
        print_line!(
            "{:>8}  {:<8}  {:<10}  {:<20}  {:>10}  {:>10}  {:>9}  operators",
            "id",
            "from",
            "kind",
            "time (UTC)",
            "written",
            "full",
            "took"
        );
    }
    let mut good = is_whole(&history);
    for completed in &history.completed {
        match line(storage, &history, completed).await {
            Ok(line) => print_line!("{line}"),
            Err(_) if !storage.is_retained(completed).await? => {}
            Err(error) => {
                good = false;
                print_line!("{:>8}  {error}", completed.checkpoint.0);
            }
        }
    }
    for (given_up, why) in [(&history.given_up, "given up"), (&history.removed, "removed")] {
        for gone in given_up {
            print_line!("{:>8}  {why}; the next sweep deletes what only it needs", gone.checkpoint.0);
        }
    }
    for slot in &history.unreadable {
        print_line!("slot {} of the commit log: {}", slot.slot, slot.error);
    }
    for error in &history.unreadable_lists {
        print_line!("a list of savepoints: {error}");
    }
    if good { Ok(()) } else { Err(Failure::Shown) }
}

fn is_whole(history: &History) -> bool {
    history.unreadable.is_empty() && history.unreadable_lists.is_empty()
}

async fn list_json(storage: &Storage, history: &History) -> Result<(), Failure> {
    let (mut good, mut listed) = (is_whole(history), Vec::new());
    for completed in &history.completed {
        let id = completed.checkpoint.0;
        match storage.read_manifest(completed).await {
            Ok(manifest) => {
                let operators: Map<String, Value> =
                    manifest.operators.iter().map(|o| (o.id.to_string(), o.parallelism.into())).collect();
                listed.push(json!({
                    "id": id,
                    "from": history.parent(completed).map(|parent| parent.checkpoint.0),
                    "on_branch": history.is_on_branch(completed),
                    "kind": completed.kind.name(),
                    "created_unix_ms": manifest.created_unix_ms,
                    "bytes_written": manifest.trace.bytes,
                    "full_bytes": manifest.trace.full_bytes,
                    "duration_us": manifest.trace.duration_us,
                    "operators": operators,
                }));
            }
            Err(_) if !storage.is_retained(completed).await? => {}
            Err(error) => {
                good = false;
                listed.push(json!({ "id": id, "kind": completed.kind.name(), "error": error.to_string() }));
            }
        }
    }
    print(json!({
        "storage": storage.uri(),
        "job": storage.owner().await?,
        "checkpoints": listed,
        "given_up": ids(&history.given_up),
        "removed": ids(&history.removed),
        "unreadable": unreadable(&history.unreadable, &history.unreadable_lists),
    }));
    if good { Ok(()) } else { Err(Failure::Shown) }
}

fn ids(checkpoints: &[CompletedCheckpoint]) -> Vec<u64> {
    checkpoints.iter().map(|completed| completed.checkpoint.0).collect()
}

/// What of the log cannot be read, for programs.
fn unreadable(slots: &[UnreadableSlot], lists: &[Error]) -> Value {
    let slots = slots.iter().map(|slot| json!({ "slot": slot.slot, "error": slot.error.to_string() }));
    slots.chain(lists.iter().map(|error| json!({ "error": error.to_string() }))).collect()
}

/// One checkpoint: what it grew from; a `*` where a recovery falls back to it only by its number.
async fn line(storage: &Storage, history: &History, completed: &CompletedCheckpoint) -> Result<String> {
    let manifest = storage.read_manifest(completed).await?;
    let time = UNIX_EPOCH + Duration::from_millis(manifest.created_unix_ms);
    let operators: Vec<_> =
        manifest.operators.iter().map(|o| format!("{}×{}", o.id, o.parallelism)).collect();
    let parent = history.parent(completed).map_or("-".to_owned(), |parent| parent.checkpoint.to_string());
    let other_branch = if history.is_on_branch(completed) { "" } else { "*" };
    Ok(format!(
        "{:>8}  {:<8}  {:<10}  {:<20}  {:>10}  {:>10}  {:>6} ms  {}",
        completed.checkpoint.0,
        format!("{parent}{other_branch}"),
        completed.kind.name(),
        humantime::format_rfc3339_seconds(time).to_string(),
        HumanBytes(manifest.trace.bytes).to_string(),
        HumanBytes(manifest.trace.full_bytes).to_string(),
        manifest.trace.duration_us / 1_000,
        operators.join(" "),
    ))
}

/// How often checkpoints are verified that a running job has replaced meanwhile.
const ATTEMPTS: usize = 5;

async fn verify(storage: &Storage, id: Option<CheckpointId>, json: bool) -> Result<(), Failure> {
    let verified = |report: &VerifyReport| {
        if !json {
            show(report);
        }
    };
    let reports = match id {
        Some(id) => {
            let report = storage.verify(id).await?;
            verified(&report);
            vec![report]
        }
        None => verify_all(storage, verified).await?,
    };
    if json {
        let each: Vec<_> = reports.iter().map(verified_value).collect();
        print(json!({ "storage": storage.uri(), "checkpoints": each }));
    }
    if reports.iter().any(is_bad) { Err(Failure::Shown) } else { Ok(()) }
}

/// Verifies all checkpoints; hands each to `verified` at once.
async fn verify_all(storage: &Storage, verified: impl Fn(&VerifyReport)) -> Result<Vec<VerifyReport>> {
    let mut attempt = 1;
    loop {
        let mut reports = Vec::new();
        for completed in &storage.completed().await? {
            let report = storage.verify_with(completed, Depth::Contents, None).await?;
            verified(&report);
            reports.push(report);
        }
        // All that were there went while they were verified: those that took their place are next.
        let all_went = !reports.is_empty() && reports.iter().all(|report| report.is_gone);
        if !all_went || attempt == ATTEMPTS {
            return Ok(reports);
        }
        attempt += 1;
    }
}

fn is_bad(report: &VerifyReport) -> bool {
    !report.is_good() && !report.is_gone
}

/// What was found of a checkpoint, for programs.
fn verified_value(report: &VerifyReport) -> Value {
    let outcome = match report {
        VerifyReport { is_gone: true, .. } => "gone",
        report if report.is_good() => "good",
        _ => "bad",
    };
    let bad: Vec<_> = report.bad.iter().map(ToString::to_string).collect();
    json!({
        "id": report.checkpoint.checkpoint.0,
        "outcome": outcome,
        "files": report.files,
        "bytes": report.bytes,
        "bad": bad,
    })
}

fn show(report: &VerifyReport) {
    let id = report.checkpoint.checkpoint;
    if report.is_gone {
        print_line!("checkpoint {id}: no longer retained, newer ones took its place");
    } else if report.is_good() {
        let (files, bytes) = (HumanCount(report.files), HumanBytes(report.bytes));
        print_line!("checkpoint {id}: good, {files} files, {bytes}");
    } else {
        report.bad.iter().for_each(|bad| print_line!("checkpoint {id}: bad: {bad}"));
    }
}

async fn remove(storage: &Storage, id: CheckpointId, json: bool) -> Result<(), Failure> {
    let removed = storage.remove_savepoint(id).await?.checkpoint;
    if json {
        print(json!({ "storage": storage.uri(), "removed": [removed.0] }));
    } else {
        print_line!("savepoint {removed} is removed; the next sweep deletes its files");
    }
    Ok(())
}

async fn sweep(storage: &Storage, dry_run: bool, json: bool) -> Result<(), Failure> {
    let report = if dry_run { storage.plan_sweep().await? } else { storage.sweep().await? };
    if json {
        let lists = report.unreadable_lists.iter().chain(&report.unreadable_manifests).cloned();
        print(json!({
            "storage": storage.uri(),
            "dry_run": dry_run,
            "deleted": report.deleted,
            "freed_bytes": report.freed_bytes,
            "foreign": report.foreign,
            "retained": ids(&report.retained),
            "unreadable": unreadable(&report.unreadable_slots, &lists.collect::<Vec<_>>()),
        }));
        return Ok(());
    }
    let verb = if dry_run { "would delete" } else { "deleted" };
    for file in &report.deleted {
        print_line!("{verb} {file}");
    }
    for file in &report.foreign {
        print_line!("left alone, not ours: {file}");
    }
    for slot in &report.unreadable_slots {
        print_line!("nothing is deleted while slot {} of the log cannot be read: {}", slot.slot, slot.error);
    }
    for error in &report.unreadable_lists {
        print_line!("nothing is deleted while a list of savepoints cannot be read: {error}");
    }
    for error in &report.unreadable_manifests {
        print_line!("files are kept for a checkpoint that cannot be read: {error}");
    }
    let (files, freed) = (HumanCount(report.deleted.len() as u64), HumanBytes(report.freed_bytes));
    print_line!("{verb} {files} files ({freed}); {} checkpoints stay", report.retained.len());
    Ok(())
}
