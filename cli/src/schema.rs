//! `strandline schema` and `strandline checkpoints compat`: whether a new version of a job can restore a
//! checkpoint.

use std::path::Path;

use serde::Serialize;
use serde_json::json;
use strandline_backend_memory::MemoryBackendFactory;
use strandline_checkpoint_storage::Storage;
use strandline_state_api::schema::JobSchema;
use strandline_state_api::{CheckpointId, Error, ErrorKind, OperatorId, Result};

use crate::cli::SchemaArgs;
use crate::jobfile::Job;
use crate::plan::plan;
use crate::{Failure, advice, print, print_bytes, reference, report};

/// Prints the schema of a job, or that of all job files.
pub(crate) fn show(args: &SchemaArgs) -> Result<(), Failure> {
    match &args.job {
        Some(job) => print_pretty(&of(&Job::load(job, &[])?)?),
        None if args.editor => print_pretty(&reference::schema()),
        None => {
            print_bytes(reference::markdown().as_bytes());
            Ok(())
        }
    }
}

fn print_pretty(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|e| Error::new(ErrorKind::Internal, "a schema cannot be printed").caused_by(e))?;
    print_line!("{text}");
    Ok(())
}

/// Prints what a new version of the job would do with a checkpoint.
pub(crate) async fn compat(
    storage: &Storage,
    id: Option<CheckpointId>,
    schema: &Path,
    allow_orphans: &[String],
    renamed: &[(OperatorId, OperatorId)],
    json: bool,
) -> Result<(), Failure> {
    let is_job_file = is_job_file(schema);
    let mut schema = load(schema)?;
    for (old, new) in renamed {
        schema.rename(old, new)?;
    }
    let completed = storage.completed().await?;
    let chosen = match id {
        Some(id) => completed.iter().find(|completed| completed.checkpoint == id),
        None => completed.last(),
    };
    let Some(chosen) = chosen else {
        let error =
            Error::new(ErrorKind::NotFound, "there is no such checkpoint").with("storage", storage.uri());
        return Err(error.into());
    };
    let manifest = storage.read_manifest(chosen).await?;
    let plan = schema.plan(&manifest.stored_operators(), &allow_orphans.iter().cloned().collect());
    let (plan, checked) = match is_job_file {
        true => (advice::of_job_file(plan.clone()), advice::check_restore(&plan)),
        false => (plan.clone(), plan.check()),
    };
    let mut subtasks = manifest.operators.iter().flat_map(|operator| &operator.subtasks);
    let is_old = subtasks.any(|subtask| !subtask.keyed.parts.is_empty() && subtask.keyed.states.is_empty());
    if json {
        print(json!({
            "storage": storage.uri(),
            "id": chosen.checkpoint.0,
            "outcome": if checked.is_ok() { "can-be-restored" } else { "refused" },
            "error": checked.as_ref().err().map(Error::to_string),
            "plan": report::plan(&plan),
            "states_known": !is_old,
        }));
        return checked.map_err(|_| Failure::Shown);
    }
    print_line!("{plan}");
    if is_old {
        print_line!("An older version wrote the checkpoint; its states are compared when they are restored.");
    }
    match checked {
        Ok(()) => {
            print_line!("checkpoint {} can be restored", chosen.checkpoint);
            Ok(())
        }
        Err(error) => {
            print_line!("checkpoint {} would be refused: {error}", chosen.checkpoint);
            Err(Failure::Shown)
        }
    }
}

fn is_job_file(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "toml")
}

fn load(path: &Path) -> Result<JobSchema, Failure> {
    if is_job_file(path) {
        return Ok(of(&Job::load(path, &[])?)?);
    }
    let failed = |what: &str| Error::invalid(what).with("file", path.display());
    let text = std::fs::read_to_string(path).map_err(|e| failed("the schema cannot be read").caused_by(e))?;
    let schema = serde_json::from_str(&text).map_err(|e| {
        failed("the file is no schema: make it with `strandline schema` or `Pipeline::schema`").caused_by(e)
    })?;
    Ok(schema)
}

/// The schema of a job.
///
/// # Errors
/// Those of the connectors.
pub(crate) fn of(job: &Job) -> Result<JobSchema> {
    // The states of a job do not depend on its backend.
    plan(job, MemoryBackendFactory::default())?.pipeline.schema()
}
