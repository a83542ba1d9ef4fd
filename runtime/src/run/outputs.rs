//! What earlier attempts put out: recovered before an attempt runs, swept once its first checkpoint is in the
//! log.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use strandline_checkpoint_protocol::CheckpointKind;
use strandline_checkpoint_storage::{CompletedCheckpoint, RestoreAssignment};
use strandline_state_api::{CheckpointId, Error, ErrorKind, Result};

use super::Run;
use super::recovery::Claim;
use crate::pipeline::graph::{Job, SinkVertex};
use crate::sink::{DeadOutputs, JobIdentity, SinkRecovery, Term};

impl Run<'_> {
    /// Brings the output of all sinks to where the attempt starts from.
    ///
    /// An attempt that was overtaken meanwhile has done no harm, and ends here.
    pub(super) fn recover_outputs(
        &self,
        claim: Option<&mut Claim>,
        restored: Option<&RestoreAssignment>,
    ) -> Result<()> {
        let storage = claim.as_ref().map(|claim| claim.storage.uri().to_owned());
        let identity =
            JobIdentity { name: self.job.name.clone(), storage, adopts: self.config.adopt.clone() };
        let Some(claim) = claim else {
            return self.recover_each(&identity, Term::NONE, restored, &DeadOutputs::without_log());
        };
        let term = claim.term;
        let shown = restored.map(|restored| (restored.term, restored.restored_from));
        let terms = claim.completed.iter().map(|known| known.term);
        let dead = DeadOutputs::at_start(term, shown, claim.is_whole.then_some(terms));
        let dead = dead.given_up_by(claim.completed.iter().map(|known| (known.term, &known.branch)));
        let recovered = self.recover_each(&identity, term, restored, &dead);
        let recovered = recovered.map_err(|error| with_earlier(error, &claim.completed, restored));
        match self.threads.block_on(claim.log.check()) {
            // It explains whatever went wrong.
            Err(fenced) if fenced.kind() == ErrorKind::Fenced => Err(fenced),
            // The first commit finds out what this could not.
            Ok(()) | Err(_) => recovered,
        }
    }

    fn recover_each(
        &self,
        identity: &JobIdentity,
        term: Term,
        restored: Option<&RestoreAssignment>,
        dead: &DeadOutputs,
    ) -> Result<()> {
        let checkpoint = restored.map(|restored| restored.checkpoint);
        let next_checkpoint = self.next_checkpoint;
        for sink in &self.job.sinks {
            let of_sink = restored.and_then(|restored| restored.operators.get(&sink.id));
            let committables = of_sink.map_or(&[][..], |restored| &restored.committables);
            let recovered = sink.output.recover(&SinkRecovery {
                job: identity,
                term,
                checkpoint,
                committables,
                next_checkpoint,
                dead,
            });
            recovered.map_err(|error| match checkpoint {
                Some(checkpoint) => error.with("operator", &sink.id).with("checkpoint", checkpoint),
                None => error.with("operator", &sink.id),
            })?;
        }
        Ok(())
    }
}

/// Adds from which other checkpoints the job could start, where the output lacks what this one needs.
fn with_earlier(
    error: Error,
    completed: &[CompletedCheckpoint],
    restored: Option<&RestoreAssignment>,
) -> Error {
    let Some(restored) = restored.filter(|_| error.kind() == ErrorKind::NotFound) else { return error };
    let earlier = completed.iter().map(|known| known.checkpoint);
    let earlier = earlier.filter(|checkpoint| *checkpoint < restored.checkpoint);
    let earlier: Vec<_> = earlier.map(|checkpoint| checkpoint.0.to_string()).collect();
    let earlier = if earlier.is_empty() { "none".to_owned() } else { earlier.join(", ") };
    error.with("earlier checkpoints", earlier)
}

/// Sweeps the output of all sinks after the first commit of an attempt and after the last.
#[derive(Clone)]
pub(super) struct OutputSweeper {
    sinks: Vec<Arc<SinkVertex>>,
    dead: DeadOutputs,
    swept: Arc<AtomicBool>,
}

impl OutputSweeper {
    pub(super) fn new(job: &Job, term: Term, restored: Option<CheckpointId>) -> Self {
        let dead = DeadOutputs::after_commit(term, restored);
        Self { sinks: job.sinks.clone(), dead, swept: Arc::default() }
    }

    /// Returns whether the commit of a checkpoint of this kind is followed by a sweep.
    pub(super) fn is_due(&self, kind: CheckpointKind) -> bool {
        !self.swept.load(SeqCst) || kind == CheckpointKind::Final
    }

    /// A checkpoint is in the log; no sink has been notified.
    pub(super) fn sweep(&self) -> Result<()> {
        for sink in &self.sinks {
            sink.output.sweep(&self.dead).map_err(|error| error.with("operator", &sink.id))?;
        }
        self.swept.store(true, SeqCst);
        Ok(())
    }
}
