//! What a job takes over from a checkpoint of an earlier version of itself.

use std::collections::{BTreeMap, BTreeSet};

use strandline_state_api::schema::{JobSchema, OperatorSchema, RestorePlan};
use strandline_state_api::{OperatorId, Result};

use crate::{Manifest, RestoreAssignment};

/// Which differences between a job and the checkpoint that it restores are intended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestoreRules {
    /// Operators that had another id in the checkpoint: from the id there to that of today.
    pub renamed: BTreeMap<OperatorId, OperatorId>,
    /// What the checkpoint has and the job has not: operators by their id, whose state is dropped, and states
    /// as `operator/state`, which are kept as they are.
    pub allow_orphans: BTreeSet<String>,
}

impl Manifest {
    /// Compares the checkpoint with the job that is to restore it. Nothing of it is read.
    ///
    /// # Errors
    /// [`Invalid`](strandline_state_api::ErrorKind::Invalid) when an operator is renamed to one that the job
    /// does not have. What refuses the start stands in the plan: see [`RestorePlan::check`].
    pub fn plan(&self, job: &JobSchema, rules: &RestoreRules) -> Result<RestorePlan> {
        let mut job = job.clone();
        for (old, new) in &rules.renamed {
            job.rename(old, new)?;
        }
        Ok(job.plan(&self.stored_operators(), &rules.allow_orphans))
    }

    /// Distributes the checkpoint over `parallelism` subtasks of each operator of the job, under the ids of
    /// today. Orphans that are allowed have no share.
    ///
    /// The checkpoint counts as finished only if the job has no operator that is new since: that one has
    /// something left to do.
    ///
    /// # Errors
    /// [`Incompatible`](strandline_state_api::ErrorKind::Incompatible) when the [plan](Self::plan) refuses
    /// the start; those of [`assign`](Self::assign).
    pub fn assign_to(
        &self,
        job: &JobSchema,
        rules: &RestoreRules,
        parallelism: u32,
    ) -> Result<RestoreAssignment> {
        let checkpoint = self.checkpoint;
        self.plan(job, rules)?.check().map_err(|error| error.with("checkpoint", checkpoint))?;
        let mut assignment = self.assign(parallelism)?;
        let current = |stored: &OperatorId| {
            let renamed = rules.renamed.get(stored).unwrap_or(stored);
            let is_it = |of: &&OperatorSchema| of.id == *renamed || of.renamed_from.contains(stored);
            job.operators.iter().find(is_it).map(|of| of.id.clone())
        };
        let stored = std::mem::take(&mut assignment.operators).into_iter();
        // Those without a current id are orphans, which the plan allows.
        assignment.operators = stored.filter_map(|(id, operator)| Some((current(&id)?, operator))).collect();
        let is_known = |of: &OperatorSchema| assignment.operators.contains_key(&of.id);
        assignment.is_finished &= job.operators.iter().all(is_known);
        Ok(assignment)
    }
}
