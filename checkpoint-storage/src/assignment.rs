//! Which subtask restores what of a checkpoint.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;
use strandline_checkpoint_protocol::Term;
use strandline_state_api::assignment::{assign_keyed, assign_operator_state, union_list};
use strandline_state_api::host::OperatorStateEntry;
use strandline_state_api::schema::{StateMeta, StoredOperator};
use strandline_state_api::snapshot::KeyedSnapshot;
use strandline_state_api::{CheckpointId, Error, ErrorKind, KeyGroupRange, OperatorId, Result, Timestamp};

use crate::in_flight::{self, InFlightShare};
use crate::{
    InFlight, InFlightContent, Manifest, OperatorSnapshot, SubtaskSnapshot, decode_each, decode_positions,
};

/// A checkpoint, distributed over the subtasks that resume from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreAssignment {
    /// The checkpoint.
    pub checkpoint: CheckpointId,
    /// The term in which it was completed.
    pub term: Term,
    /// The checkpoint from which that term had started.
    pub restored_from: Option<CheckpointId>,
    /// What each operator restores, by its id in the checkpoint.
    pub operators: BTreeMap<OperatorId, OperatorAssignment>,
    /// Whether every subtask of every operator had ended before the barrier.
    pub is_finished: bool,
}

/// What the subtasks of one operator restore.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OperatorAssignment {
    /// Of a source: the positions of all old subtasks, in their order.
    pub positions: Vec<Vec<u8>>,
    /// Of a sink: what all old subtasks had yet to commit, in their order.
    pub committables: Vec<Vec<u8>>,
    /// What each new subtask restores.
    pub subtasks: Vec<SubtaskAssignment>,
}

/// What one new subtask restores.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubtaskAssignment {
    /// The keyed state and timers of its key groups.
    pub keyed: Vec<KeyedSnapshot>,
    /// Its operator state.
    pub operator_state: Vec<OperatorStateEntry>,
    /// The least watermark of the old subtasks whose key groups it takes over, or of all where there are no
    /// keys.
    pub watermark: Option<Timestamp>,
    /// The greatest timestamp that each timestamp assigner saw, by its place in the chain.
    pub assigners: Vec<Option<Timestamp>>,
    /// What it takes over that was in flight on the way to the operator, to be processed before anything else,
    /// in this order. Its channels are those of the old subtasks; only this list knows them.
    pub in_flight: Vec<InFlight>,
    /// Whether its input had ended, and it had emitted what follows from that.
    pub finished: bool,
}

impl RestoreAssignment {
    /// Lets an operator that had seen the end of its input go on: there is more of it now. A watermark at the
    /// end of time counts as none; the sources begin with theirs.
    pub fn reopen(&mut self, operator: &OperatorId) {
        for subtask in
            self.operators.get_mut(operator).into_iter().flat_map(|operator| &mut operator.subtasks)
        {
            subtask.finished = false;
            subtask.watermark = subtask.watermark.filter(|watermark| *watermark < Timestamp::MAX);
            for InFlight { content, .. } in &mut subtask.in_flight {
                if *content == InFlightContent::Watermark(Timestamp::MAX) {
                    *content = InFlightContent::Opened;
                }
            }
        }
    }
}

impl Manifest {
    /// Distributes the checkpoint over `parallelism` subtasks of each operator.
    ///
    /// # Errors
    /// [`Corrupt`](strandline_state_api::ErrorKind::Corrupt) when the manifest contradicts itself,
    /// [`Invalid`](strandline_state_api::ErrorKind::Invalid) for a parallelism of 0.
    pub fn assign(&self, parallelism: u32) -> Result<RestoreAssignment> {
        let mut operators = BTreeMap::new();
        for operator in &self.operators {
            let assignment = OperatorAssignment::new(operator, parallelism)
                .map_err(|error| error.with("operator", &operator.id).with("checkpoint", self.checkpoint))?;
            operators.insert(operator.id.clone(), assignment);
        }
        let is_finished = self.is_finished();
        let Self { checkpoint, term, restored_from, .. } = *self;
        Ok(RestoreAssignment { checkpoint, term, restored_from, operators, is_finished })
    }

    /// Whether the job had come to its end: all subtasks had.
    pub fn is_finished(&self) -> bool {
        self.operators.iter().flat_map(|operator| &operator.subtasks).all(|subtask| subtask.finished)
    }

    /// The operators and states of the checkpoint, each state in every form that it is stored in, for a
    /// [plan](strandline_state_api::schema::JobSchema::plan) of its restore.
    pub fn stored_operators(&self) -> Vec<StoredOperator> {
        let stored = |operator: &OperatorSnapshot| {
            let mut states: Vec<StateMeta> = Vec::new();
            for meta in operator.subtasks.iter().flat_map(|subtask| &subtask.keyed.states) {
                if !states.contains(meta) {
                    states.push(meta.clone());
                }
            }
            let has_state = operator.subtasks.iter().any(SubtaskSnapshot::has_state);
            StoredOperator { id: operator.id.clone(), states, has_state }
        };
        self.operators.iter().map(stored).collect()
    }
}

impl RestoreAssignment {
    /// What this subtask of `operator` restores; `None` when the operator is new.
    pub fn subtask(&self, operator: &OperatorId, subtask: u32) -> Option<&SubtaskAssignment> {
        self.operators.get(operator)?.subtasks.get(subtask as usize)
    }

    /// Whether every subtask of `operator` had ended before the barrier.
    pub fn has_ended(&self, operator: &OperatorId) -> bool {
        self.operators.get(operator).is_some_and(OperatorAssignment::has_ended)
    }

    /// Refuses an operator that had ended and one of whose `inputs` had not: it has emitted what follows from
    /// its end, and all of its time has passed, so it can do nothing with records that come now (Flink:
    /// `VertexFinishedStateChecker`).
    ///
    /// # Errors
    /// [`Incompatible`](ErrorKind::Incompatible) names the operator and the input.
    pub fn check_inputs<'a>(
        &self,
        operator: &OperatorId,
        inputs: impl IntoIterator<Item = &'a OperatorId>,
    ) -> Result<()> {
        if !self.has_ended(operator) {
            return Ok(());
        }
        let Some(input) = inputs.into_iter().find(|input| !self.has_ended(input)) else { return Ok(()) };
        let is = if self.operators.contains_key(input) { "has not ended there" } else { "is new" };
        let message = format!(
            "the operator had ended in the checkpoint and emitted its last results, and now reads from \"{input}\", \
             which {is}; start from a checkpoint before the end, or give the operator a new id, under which it starts \
             empty"
        );
        Err(Error::new(ErrorKind::Incompatible, message).with("operator", operator).with("input", input))
    }
}

impl SubtaskSnapshot {
    /// Whether a job without it loses state.
    fn has_state(&self) -> bool {
        !(self.keyed.parts.is_empty()
            && self.operator_state.iter().all(|entry| entry.elements.is_empty())
            && self.positions.is_empty()
            && self.committables.is_empty()
            && self.in_flight.is_empty()
            && self.assigners.is_empty())
    }
}

impl OperatorAssignment {
    /// Decodes the positions of a source.
    ///
    /// # Errors
    /// [`Incompatible`](ErrorKind::Incompatible) when they are no `P`.
    pub fn positions_as<P: Serialize + DeserializeOwned + 'static>(&self) -> Result<Vec<P>> {
        decode_positions(&self.positions)
    }

    /// Decodes the committables of a sink.
    ///
    /// # Errors
    /// [`Corrupt`](ErrorKind::Corrupt) when they are no `C`.
    pub fn committables_as<C: Serialize + DeserializeOwned + 'static>(&self) -> Result<Vec<C>> {
        decode_each(&self.committables)
    }

    /// Whether all subtasks had ended before the barrier.
    pub fn has_ended(&self) -> bool {
        !self.subtasks.is_empty() && self.subtasks.iter().all(|subtask| subtask.finished)
    }

    fn new(operator: &OperatorSnapshot, parallelism: u32) -> Result<Self> {
        let mut old: Vec<&SubtaskSnapshot> = operator.subtasks.iter().collect();
        old.sort_by_key(|subtask| subtask.subtask);
        let states: Vec<_> = old.iter().map(|subtask| subtask.operator_state.clone()).collect();
        let states = assign_operator_state(&states, parallelism)?.into_iter();
        let subtasks =
            states.map(|operator_state| SubtaskAssignment { operator_state, ..Default::default() });
        let mut assignment = Self {
            positions: union_list(old.iter().map(|subtask| subtask.positions.clone()).collect()),
            committables: union_list(old.iter().map(|subtask| subtask.committables.clone()).collect()),
            subtasks: subtasks.collect(),
        };
        assignment.assign_keyed(&old)?;
        assignment.assign_in_flight(&old)?;
        assignment.assign_assigners(&old);
        Ok(assignment)
    }

    /// Distributes keyed state, and what follows the keys: watermark and end.
    fn assign_keyed(&mut self, old: &[&SubtaskSnapshot]) -> Result<()> {
        let parallelism = self.subtasks.len() as u32;
        let is_keyed = old.iter().any(|subtask| !subtask.key_groups.is_empty());
        if is_keyed {
            let keyed: Vec<_> =
                old.iter().map(|subtask| (subtask.key_groups, subtask.keyed.clone())).collect();
            for (subtask, assigned) in self.subtasks.iter_mut().zip(assign_keyed(&keyed, parallelism)?) {
                subtask.keyed = assigned.snapshots;
            }
        }
        for (number, subtask) in (0..).zip(&mut self.subtasks) {
            let range = KeyGroupRange::of_subtask(number, parallelism);
            let takes_over = |old: &SubtaskSnapshot| !is_keyed || !old.key_groups.intersect(range).is_empty();
            let from: Vec<_> = old.iter().filter(|old| takes_over(old)).collect();
            subtask.finished = !from.is_empty() && from.iter().all(|old| old.finished);
            subtask.watermark = from.iter().map(|old| old.watermark).min().flatten();
        }
        Ok(())
    }

    /// Distributes what was in flight: with the keys, or else from each old subtask to one new one, so that
    /// the records of a channel stay in their order.
    fn assign_in_flight(&mut self, old: &[&SubtaskSnapshot]) -> Result<()> {
        if old.iter().all(|old| old.in_flight.is_empty()) {
            return Ok(());
        }
        let parallelism = self.subtasks.len() as u32;
        let is_keyed = old.iter().any(|subtask| !subtask.key_groups.is_empty());
        for (number, subtask) in (0..).zip(&mut self.subtasks) {
            let range = KeyGroupRange::of_subtask(number, parallelism);
            let shares = old.iter().filter_map(|old| {
                let range = is_keyed.then(|| old.key_groups.intersect(range));
                let is_taken = range.map_or(old.subtask % parallelism == number, |range| !range.is_empty());
                let (elements, watermark) = (&old.in_flight, old.watermark);
                is_taken.then_some(InFlightShare { elements, range, watermark })
            });
            subtask.in_flight = in_flight::join(shares)?;
        }
        Ok(())
    }

    /// With an unchanged parallelism each subtask goes on with the timestamps that it saw, else all with
    /// those of the slowest: then no record becomes late by the restore.
    fn assign_assigners(&mut self, old: &[&SubtaskSnapshot]) {
        let assigners = old.iter().map(|subtask| subtask.assigners.len()).max().unwrap_or(0);
        let greatest = |old: &SubtaskSnapshot, place: usize| old.assigners.get(place).copied().flatten();
        let unchanged = old.len() == self.subtasks.len();
        for (number, subtask) in self.subtasks.iter_mut().enumerate() {
            let from = if unchanged { &old[number..=number] } else { old };
            let of_place = |place| from.iter().map(|old| greatest(old, place)).min().flatten();
            subtask.assigners = (0..assigners).map(of_place).collect();
        }
    }
}
