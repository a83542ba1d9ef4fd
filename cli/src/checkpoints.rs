//! `strandline checkpoints`: inspects a checkpoint storage.

use std::time::{Duration, UNIX_EPOCH};

use indicatif::{HumanBytes, HumanCount};
use strandline_checkpoint_storage::{
    CompletedCheckpoint, Depth, History, Storage, VerifyReport, mask_credentials,
};
use strandline_state_api::{CheckpointId, Error, ErrorKind, Result};

use crate::Failure;
use crate::cli::{CheckpointsArgs, CheckpointsCommand};
use crate::schema::compat;

pub(crate) fn checkpoints(args: &CheckpointsArgs) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|e| {
        Error::new(ErrorKind::Unavailable, "the threads that read the storage cannot be started").caused_by(e)
    })?;
    match &args.command {
        CheckpointsCommand::List(storage) => runtime.block_on(list(&open(&storage.uri)?)),
        CheckpointsCommand::Verify { storage, id } => {
            runtime.block_on(verify(&open(&storage.uri)?, id.map(CheckpointId)))
        }
        CheckpointsCommand::Compat { storage, schema, id, allow_orphans, renamed } => {
            let (storage, id) = (open(&storage.uri)?, id.map(CheckpointId));
            runtime.block_on(compat(&storage, id, schema, allow_orphans, renamed))
        }
        CheckpointsCommand::Remove { storage, id } => {
            runtime.block_on(remove(&open(&storage.uri)?, CheckpointId(*id)))
        }
        CheckpointsCommand::Sweep { storage, dry_run } => {
            runtime.block_on(sweep(&open(&storage.uri)?, *dry_run))
        }
    }
}

/// Opens a storage; a path may be relative.
fn open(uri: &str) -> Result<Storage> {
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

async fn list(storage: &Storage) -> Result<(), Failure> {
    let history = storage.history().await?;
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
    let mut good = true;
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
        good = false;
        print_line!("slot {} of the commit log: {}", slot.slot, slot.error);
    }
    for error in &history.unreadable_lists {
        good = false;
        print_line!("a list of savepoints: {error}");
    }
    if good { Ok(()) } else { Err(Failure::Shown) }
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
        format!("{:?}", completed.kind).to_lowercase(),
        humantime::format_rfc3339_seconds(time).to_string(),
        HumanBytes(manifest.trace.bytes).to_string(),
        HumanBytes(manifest.trace.full_bytes).to_string(),
        manifest.trace.duration_us / 1_000,
        operators.join(" "),
    ))
}

/// How often checkpoints are verified that a running job has replaced meanwhile.
const ATTEMPTS: usize = 5;

async fn verify(storage: &Storage, id: Option<CheckpointId>) -> Result<(), Failure> {
    if let Some(id) = id {
        let report = storage.verify(id).await?;
        show(&report);
        return if report.is_good() || report.is_gone { Ok(()) } else { Err(Failure::Shown) };
    }
    for attempt in 1..=ATTEMPTS {
        let (completed, mut good, mut bad) = (storage.completed().await?, 0, 0);
        for completed in &completed {
            let report = storage.verify_with(completed, Depth::Contents, None).await?;
            show(&report);
            good += usize::from(report.is_good());
            bad += usize::from(!report.is_good() && !report.is_gone);
        }
        if bad > 0 {
            return Err(Failure::Shown);
        }
        // All that were there went while they were verified: those that took their place are next.
        if good > 0 || completed.is_empty() || attempt == ATTEMPTS {
            break;
        }
    }
    Ok(())
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

async fn remove(storage: &Storage, id: CheckpointId) -> Result<(), Failure> {
    let removed = storage.remove_savepoint(id).await?;
    print_line!("savepoint {} is removed; the next sweep deletes its files", removed.checkpoint);
    Ok(())
}

async fn sweep(storage: &Storage, dry_run: bool) -> Result<(), Failure> {
    let report = if dry_run { storage.plan_sweep().await? } else { storage.sweep().await? };
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
