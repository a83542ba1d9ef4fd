//! What a loop, or a group of them, keeps and allows.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;

use strandline_state_api::schema::{JobSchema, OperatorSchema, RestorePlan, StateSchema};
use strandline_state_api::{OperatorId, Result};

use crate::{Depth, Manifest, OnDamage, RecoverOptions};

/// How many checkpoints a [`SoloJob`](crate::SoloJob) or [`WorkerGroup`](crate::WorkerGroup) keeps, and which
/// changes of the program its restore allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoopOptions {
    pub(super) retain: NonZeroUsize,
    pub(super) recover: RecoverOptions,
    allowed_orphans: BTreeSet<String>,
    /// Former ids and what they became.
    renamed: BTreeMap<OperatorId, OperatorId>,
    /// The job whose storage this one may take over.
    adopted: Option<String>,
}

impl Default for LoopOptions {
    fn default() -> Self {
        let retain = NonZeroUsize::MIN.saturating_add(1);
        let recover = RecoverOptions::default();
        let (allowed_orphans, renamed) = (BTreeSet::new(), BTreeMap::new());
        Self { retain, recover, allowed_orphans, renamed, adopted: None }
    }
}

impl LoopOptions {
    /// Sets how many checkpoints are kept: 2 unless set, so that a damaged one has a predecessor.
    #[must_use]
    pub fn retain(mut self, count: NonZeroUsize) -> Self {
        self.retain = count;
        self
    }

    /// Sets how closely the files of a checkpoint are verified before it is restored: all bytes unless set.
    #[must_use]
    pub fn verify(mut self, depth: Depth) -> Self {
        self.recover.depth = depth;
        self
    }

    /// Sets what becomes of a start whose newest checkpoint is damaged: it falls back to an older one unless
    /// set.
    #[must_use]
    pub fn on_damage(mut self, on_damage: OnDamage) -> Self {
        self.recover.on_damage = on_damage;
        self
    }

    /// Allows state in the checkpoint that the program does not have: `operator` is dropped, `operator/state`
    /// is kept unused.
    #[must_use]
    pub fn allow_orphan(mut self, name: impl Into<String>) -> Self {
        self.allowed_orphans.insert(name.into());
        self
    }

    /// Declares that the operator `new` (of a [`SoloJob`](crate::SoloJob): the job) was called `old` before.
    ///
    /// # Errors
    /// [`Invalid`](strandline_state_api::ErrorKind::Invalid) when one of them is no operator id.
    pub fn renamed(mut self, old: &str, new: &str) -> Result<Self> {
        self.renamed.insert(OperatorId::new(old)?, OperatorId::new(new)?);
        Ok(self)
    }

    /// Takes over the storage of `job`, which had this name before or is replaced: without this, the storage
    /// of another job is refused.
    #[must_use]
    pub fn adopt(mut self, job: impl Into<String>) -> Self {
        self.adopted = Some(job.into());
        self
    }

    /// The other job whose storage `job` takes over. A [`SoloJob`](crate::SoloJob) is its operator, so that
    /// its former name is enough.
    pub(super) fn adopted(&self, job: &str) -> Option<&str> {
        let former = self.renamed.iter().find(|(_, new)| new.as_str() == job).map(|(old, _)| old.as_str());
        self.adopted.as_deref().or(former)
    }

    /// The id in the program of an operator of the checkpoint.
    pub(super) fn current_id<'a>(&'a self, stored: &'a OperatorId) -> &'a OperatorId {
        self.renamed.get(stored).unwrap_or(stored)
    }

    /// Refuses a checkpoint with operators that the job does not have.
    pub(super) fn check_operators(&self, manifest: &Manifest, operators: &[OperatorId]) -> Result<()> {
        let operators = operators.iter().map(|id| self.schema(id, Vec::new())).collect();
        let mut plan = JobSchema { operators }.plan(&manifest.stored_operators(), &self.allowed_orphans);
        plan.lines.retain(|line| line.state.is_none());
        plan.check()
    }

    /// Plans the restore of one operator with these states.
    pub(super) fn plan(
        &self,
        manifest: &Manifest,
        operator: &OperatorId,
        states: Vec<StateSchema>,
    ) -> RestorePlan {
        let mut stored = manifest.stored_operators();
        stored.retain(|stored| self.current_id(&stored.id) == operator || stored.id == *operator);
        JobSchema { operators: vec![self.schema(operator, states)] }.plan(&stored, &self.allowed_orphans)
    }

    fn schema(&self, operator: &OperatorId, states: Vec<StateSchema>) -> OperatorSchema {
        let former = self.renamed.iter().filter(|(_, new)| *new == operator);
        let renamed_from = former.map(|(old, _)| old.clone()).collect();
        OperatorSchema { id: operator.clone(), renamed_from, states }
    }
}
