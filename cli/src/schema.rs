//! `strandline schema` and `strandline checkpoints compat`: whether a new version of a job can restore a
//! checkpoint.

use std::path::Path;

use strandline_backend_memory::MemoryBackendFactory;
use strandline_checkpoint_storage::Storage;
use strandline_state_api::schema::JobSchema;
use strandline_state_api::{CheckpointId, Error, ErrorKind, OperatorId, Result};

use crate::Failure;
use crate::jobfile::Job;
use crate::plan::plan;

/// Prints the schema of a job.
pub(crate) fn show(job: &Path) -> Result<(), Failure> {
    let schema = of_job(job)?;
    let text = serde_json::to_string_pretty(&schema)
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
) -> Result<(), Failure> {
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
    print_line!("{plan}");
    let mut subtasks = manifest.operators.iter().flat_map(|operator| &operator.subtasks);
    if subtasks.any(|subtask| !subtask.keyed.parts.is_empty() && subtask.keyed.states.is_empty()) {
        print_line!("An older version wrote the checkpoint; its states are compared when they are restored.");
    }
    match plan.check() {
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

fn load(path: &Path) -> Result<JobSchema, Failure> {
    if path.extension().is_some_and(|extension| extension == "toml") {
        return of_job(path);
    }
    let failed = |what: &str| Error::invalid(what).with("file", path.display());
    let text = std::fs::read_to_string(path).map_err(|e| failed("the schema cannot be read").caused_by(e))?;
    let schema = serde_json::from_str(&text).map_err(|e| {
        failed("the file is no schema: make it with `strandline schema` or `Pipeline::schema`").caused_by(e)
    })?;
    Ok(schema)
}

fn of_job(path: &Path) -> Result<JobSchema, Failure> {
    let job = Job::load(path, &[])?;
    // The states of a job do not depend on its backend.
    Ok(plan(&job, MemoryBackendFactory::default())?.pipeline.schema()?)
}
