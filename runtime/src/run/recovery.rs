//! Where an attempt starts: claiming the storage, choosing the checkpoint.

use std::collections::BTreeSet;

use strandline_checkpoint_protocol::Term;
use strandline_checkpoint_storage::{
    CommitLog, CommitLogOptions, CompletedCheckpoint, OperatorAssignment, RecoverFrom, RecoverOptions,
    Recovered, RestoreAssignment, RestoreRules, Storage,
};
use strandline_state_api::{Error, ErrorKind, Result};

use super::Run;
use crate::config::{CheckpointConfig, JobConfig, StartFrom};
use crate::event::JobEvent;
use crate::pipeline::graph::Ending;
use crate::source::Unread;

/// How often a run that ends asks whether it was overtaken, as long as the store does not answer.
const ASKED: u32 = 3;

/// The storage in the hands of one attempt.
pub(super) struct Claim {
    pub(super) log: CommitLog,
    pub(super) storage: Storage,
    pub(super) term: Term,
    /// The checkpoints in the log, oldest first.
    pub(super) completed: Vec<CompletedCheckpoint>,
    /// Whether all of the log could be read.
    pub(super) is_whole: bool,
    /// The log names a checkpoint that an earlier attempt of this run completed.
    is_own: bool,
}

impl Run<'_> {
    /// Claims a new term: from then on no other run changes the log.
    pub(super) fn claim(&mut self) -> Result<Option<Claim>> {
        self.random = self.threads.tokens()()? as u64;
        let Some(checkpointing) = &self.config.checkpointing else { return Ok(None) };
        let (storage, retained) = (checkpointing.storage.clone(), checkpointing.retained);
        self.refuse_overtaken(&storage)?;
        let adopt = self.config.adopt.as_deref();
        self.threads.block_on(storage.belong_to(&self.job.name, adopt))?;
        let holder = format!("{} (process {}, run {})", self.job.name, self.threads.process(), self.label());
        let options = CommitLogOptions::new(holder).retain(retained);
        let claim = CommitLog::claim(&storage, options, self.threads.tokens());
        let claimed = self.threads.block_on(claim)?;
        let term = claimed.log.term();
        self.first_term.get_or_insert(term);
        self.last_term = Some(term);
        self.next_checkpoint = self.next_checkpoint.max(claimed.next_checkpoint());
        let is_own = claimed.history.completed.iter().any(|known| Some(known.term) >= self.first_term);
        let history = claimed.history;
        let is_whole = history.unreadable.is_empty() && history.unreadable_lists.is_empty();
        Ok(Some(Claim { log: claimed.log, storage, term, completed: history.completed, is_whole, is_own }))
    }

    /// A restart after a failure is none when another run has taken over meanwhile: to claim again would end
    /// that one.
    fn refuse_overtaken(&mut self, storage: &Storage) -> Result<()> {
        if let Some(overtaken) = self.overtaken(storage)? {
            return Err(overtaken);
        }
        // When the claim that follows fails, its term may be in the log all the same.
        self.last_term = None;
        Ok(())
    }

    /// The error of a run whose term is no longer the highest.
    fn overtaken(&self, storage: &Storage) -> Result<Option<Error>> {
        let Some(last) = self.last_term else { return Ok(None) };
        let term = self.threads.block_on(storage.history())?.term;
        let message = "a newer run has taken over this storage, so this one does not restart";
        let error = || Error::new(ErrorKind::Fenced, message).with("its term", term).with("term", last);
        Ok((term > last).then(error))
    }

    /// Why a start failed: what an overtaken run misses or finds in its way is its successor's doing, and no
    /// damage.
    pub(super) fn or_overtaken(&self, error: Error) -> Error {
        let config = self.config.checkpointing.as_ref().filter(|_| error.kind() != ErrorKind::Fenced);
        let Some(storage) = config.map(|config| &config.storage) else { return error };
        // One answer is enough.
        match (0..ASKED).map(|_| self.overtaken(storage)).find(Result::is_ok) {
            Some(Ok(Some(overtaken))) => overtaken.caused_by(error),
            _ => error,
        }
    }

    /// Chooses the checkpoint that this attempt starts from, and distributes it over the operators of the
    /// job.
    pub(super) fn assign(&mut self, claim: &Claim) -> Result<Option<RestoreAssignment>> {
        let Some(recovered) = self.recover(claim)? else { return Ok(None) };
        let manifest = &recovered.manifest;
        let (job, rules) = (self.job.schema()?, self.rules());
        let plan = manifest.plan(&job, &rules)?;
        // A job that has finished left no state behind, so all that is not refused would be new.
        let is_shown = !manifest.is_finished() || plan.check().is_err();
        // Sent before it is checked: it shows more than the first line that is wrong.
        if is_shown && !plan.is_plain() {
            self.notify(&JobEvent::RestorePlanned { checkpoint: manifest.checkpoint, plan });
        }
        let assignment = manifest.assign_to(&job, &rules, self.config.parallelism)?;
        for operator in &self.job.schemas {
            let checked = assignment.check_inputs(&operator.id, &operator.inputs);
            checked.map_err(|error| error.with("checkpoint", assignment.checkpoint))?;
        }
        self.manifest = self.host.is_some().then_some(recovered.manifest);
        Ok(Some(assignment))
    }

    fn rules(&self) -> RestoreRules {
        let JobConfig { renamed_operators, allow_orphans, .. } = &self.config;
        RestoreRules { renamed: renamed_operators.clone(), allow_orphans: allow_orphans.clone() }
    }

    /// Lets the sources look at their input. Those that had seen its end go on where there is more now, and
    /// the operators behind them.
    pub(super) fn plan_sources(&mut self, restored: Option<&mut RestoreAssignment>) -> Result<()> {
        let finished = restored.as_ref().is_some_and(|restored| restored.is_finished);
        let (mut more, mut left) = (BTreeSet::new(), Vec::new());
        for source in &self.job.sources {
            let operator = restored.as_ref().and_then(|restored| restored.operators.get(&source.id));
            let positions = operator.map(|operator| operator.positions.as_slice());
            let ended = operator.is_some_and(OperatorAssignment::has_ended);
            let planned = source.input.plan(self.config.parallelism, positions, Ending { ended, finished });
            match planned.map_err(|error| error.with("operator", &source.id))? {
                Unread::Nothing => {}
                Unread::Read => drop(more.insert(source.id.clone())),
                Unread::Left(what) => left.push(what),
            }
        }
        self.unread = left;
        if let Some(restored) = restored.filter(|_| !more.is_empty()) {
            restored.is_finished = false;
            let fed = self.job.origins.iter().filter(|(_, sources)| !sources.is_disjoint(&more));
            let fed = fed.map(|(operator, _)| operator);
            self.reopened = more.iter().chain(fed).cloned().collect();
            self.reopened.iter().for_each(|operator| restored.reopen(operator));
        }
        Ok(())
    }

    fn recover(&self, claim: &Claim) -> Result<Option<Recovered>> {
        let newest = || self.newest(&claim.storage, RecoverFrom::Latest);
        match self.config.start {
            StartFrom::Resume => newest(),
            StartFrom::Latest => newest()?.map(Some).ok_or_else(|| {
                Error::new(ErrorKind::NotFound, "there is no checkpoint to resume from")
                    .with("storage", claim.storage.uri())
            }),
            // Whatever this run has completed goes before where it started: its results are visible.
            StartFrom::Fresh | StartFrom::Checkpoint(_) if claim.is_own => {
                let recovered = newest()?;
                if recovered.as_ref().map(|recovered| recovered.completed.term) < self.first_term {
                    let message = "the checkpoints that this run completed are damaged; a start from where \
                                   it began would repeat results that are visible already";
                    return Err(Error::corrupt(message).with("storage", claim.storage.uri()));
                }
                Ok(recovered)
            }
            StartFrom::Fresh => Ok(None),
            StartFrom::Checkpoint(id) => self.newest(&claim.storage, RecoverFrom::Checkpoint(id)),
        }
    }

    fn newest(&self, storage: &Storage, from: RecoverFrom) -> Result<Option<Recovered>> {
        let checkpointing = self.config.checkpointing.as_ref();
        let of_config = |config: &CheckpointConfig| (config.verify, config.on_damage);
        let (depth, on_damage) = checkpointing.map(of_config).unwrap_or_default();
        let options = RecoverOptions { from, depth, on_damage };
        let recovery = self.threads.block_on(storage.recover(options))?;
        for report in &recovery.skipped {
            let (checkpoint, reason) = (report.checkpoint.checkpoint, report.to_string());
            self.notify(&JobEvent::Skipped { checkpoint, reason });
        }
        for slot in &recovery.unreadable {
            tracing::warn!(slot = slot.slot, error = %slot.error, "a slot of the commit log cannot be read");
        }
        for error in &recovery.unreadable_lists {
            tracing::warn!(%error, "a list of savepoints cannot be read");
        }
        Ok(recovery.restored)
    }
}
