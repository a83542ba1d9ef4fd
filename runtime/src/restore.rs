//! Which subtask restores what of a checkpoint.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use strandline_checkpoint_storage::{Manifest, OperatorSnapshot, SubtaskSnapshot};
use strandline_state_api::format::StateMeta;
use strandline_state_api::{
    CheckpointId, Error, KeyGroupRange, KeyedSnapshot, OperatorId, OperatorStateEntry, Result,
    StoredOperator, assign_keyed, assign_operator_state, union_list,
};

use crate::reserved::{ASSIGNERS, PENDING, POSITIONS, decode_assigner};

/// A checkpoint, distributed over the subtasks of the job that resumes from it.
#[derive(Clone, Debug)]
pub(crate) struct Shares {
    pub(crate) checkpoint: CheckpointId,
    operators: BTreeMap<OperatorId, OperatorRestore>,
    /// Every subtask of every operator had ended before the barrier: the job was finished.
    pub(crate) is_finished: bool,
}

/// What one operator had.
#[derive(Clone, Debug, Default)]
pub(crate) struct OperatorRestore {
    /// By its name in the operator state: what all subtasks had, in their order.
    elements: BTreeMap<String, Vec<Vec<u8>>>,
    /// By new subtask.
    pub(crate) subtasks: Vec<SubtaskRestore>,
}

/// What one new subtask gets.
#[derive(Clone, Debug, Default)]
pub(crate) struct SubtaskRestore {
    pub(crate) keyed: Vec<KeyedSnapshot>,
    pub(crate) operator_state: Vec<OperatorStateEntry>,
    pub(crate) watermark: Option<i64>,
    /// The greatest timestamps that assigners saw, by place.
    pub(crate) assigners: Vec<i64>,
    /// Its input had ended, and it had emitted what follows from that.
    pub(crate) finished: bool,
}

impl Shares {
    /// Distributes `manifest` over `parallelism` subtasks.
    ///
    /// # Errors
    /// `Corrupt` when the manifest contradicts itself.
    pub(crate) fn new<'a>(
        manifest: &Manifest,
        known: impl Iterator<Item = &'a OperatorId>,
        parallelism: u32,
        renamed: &BTreeMap<OperatorId, OperatorId>,
    ) -> Result<Self> {
        let known: Vec<_> = known.collect();
        let checkpoint = manifest.checkpoint;
        let mut operators = BTreeMap::new();
        for operator in &manifest.operators {
            let id = renamed.get(&operator.id).unwrap_or(&operator.id);
            if !known.contains(&id) {
                // An orphan that is allowed.
                continue;
            }
            let restore = OperatorRestore::new(operator, parallelism)
                .map_err(|error| error.with("operator", &operator.id).with("checkpoint", checkpoint))?;
            operators.insert(id.clone(), restore);
        }
        let mut subtasks = manifest.operators.iter().flat_map(|operator| &operator.subtasks);
        // A job that got a new operator since has something left to do.
        let is_finished =
            subtasks.all(|subtask| subtask.finished) && known.iter().all(|id| operators.contains_key(*id));
        Ok(Self { checkpoint, operators, is_finished })
    }

    pub(crate) fn operator(&self, id: &OperatorId) -> Option<&OperatorRestore> {
        self.operators.get(id)
    }
}

impl OperatorRestore {
    /// All elements of the operator state `name` (positions of a source, what a sink has yet to commit).
    pub(crate) fn elements(&self, name: &str) -> Vec<Vec<u8>> {
        self.elements.get(name).cloned().unwrap_or_default()
    }

    fn new(operator: &OperatorSnapshot, parallelism: u32) -> Result<Self> {
        let mut old: Vec<&SubtaskSnapshot> = operator.subtasks.iter().collect();
        old.sort_by_key(|subtask| subtask.subtask);
        let mut subtasks = vec![SubtaskRestore::default(); parallelism as usize];
        let keyed: Vec<_> = old.iter().map(|subtask| (subtask.key_groups, subtask.keyed.clone())).collect();
        let is_keyed = old.iter().any(|subtask| !subtask.key_groups.is_empty());
        if is_keyed {
            for (subtask, assigned) in subtasks.iter_mut().zip(assign_keyed(&keyed, parallelism)?) {
                subtask.keyed = assigned.snapshots;
            }
        }
        for (number, subtask) in (0..).zip(&mut subtasks) {
            // Watermark and end are those of the old subtasks whose keys it gets, or of all where there are no keys.
            let range = KeyGroupRange::of_subtask(number, parallelism);
            let overlaps = |old: &&&SubtaskSnapshot| !is_keyed || !old.key_groups.intersect(range).is_empty();
            let from: Vec<_> = old.iter().filter(overlaps).collect();
            subtask.finished = !from.is_empty() && from.iter().all(|old| old.finished);
            subtask.watermark = from
                .iter()
                .map(|old| old.watermark.unwrap_or(i64::MIN))
                .min()
                .filter(|watermark| *watermark > i64::MIN);
        }
        let mut restore = Self { elements: BTreeMap::new(), subtasks };
        restore.operator_state(&old)?;
        restore.assigners(&old)?;
        Ok(restore)
    }

    fn operator_state(&mut self, old: &[&SubtaskSnapshot]) -> Result<()> {
        // What the executor keeps for itself goes to everyone.
        for name in [POSITIONS, PENDING, ASSIGNERS] {
            let of_name = |subtask: &&SubtaskSnapshot| -> Vec<_> {
                let entries = subtask.operator_state.iter().filter(|entry| entry.name == name);
                entries.flat_map(|entry| entry.elements.iter().cloned()).collect()
            };
            self.elements.insert(name.to_owned(), union_list(old.iter().map(of_name).collect()));
        }
        let of_operator = |subtask: &&SubtaskSnapshot| -> Vec<_> {
            let own = |entry: &&OperatorStateEntry| ![POSITIONS, PENDING, ASSIGNERS].contains(&&*entry.name);
            subtask.operator_state.iter().filter(own).cloned().collect()
        };
        let old: Vec<_> = old.iter().map(of_operator).collect();
        let assigned = assign_operator_state(&old, self.subtasks.len() as u32)?;
        for (subtask, operator_state) in self.subtasks.iter_mut().zip(assigned) {
            subtask.operator_state = operator_state;
        }
        Ok(())
    }

    /// With an unchanged parallelism each subtask goes on where it was, else all where the slowest was: then no record
    /// is called late that was not.
    fn assigners(&mut self, old: &[&SubtaskSnapshot]) -> Result<()> {
        let mut by_subtask = Vec::new();
        for subtask in old {
            let mut seen = BTreeMap::new();
            let entries = subtask.operator_state.iter().filter(|entry| entry.name == ASSIGNERS);
            for element in entries.flat_map(|entry| &entry.elements) {
                let (place, greatest) = decode_assigner(element)
                    .ok_or_else(|| Error::corrupt("the state of a timestamp assigner cannot be read"))?;
                seen.insert(place, greatest);
            }
            by_subtask.push(seen);
        }
        let places = by_subtask.iter().flat_map(BTreeMap::keys).max().map_or(0, |place| place + 1);
        let unchanged = old.len() == self.subtasks.len();
        for (number, subtask) in self.subtasks.iter_mut().enumerate() {
            let greatest = |place: u32| {
                let of = |seen: &BTreeMap<u32, i64>| seen.get(&place).copied().unwrap_or(i64::MIN);
                if unchanged {
                    of(&by_subtask[number])
                } else {
                    by_subtask.iter().map(of).min().unwrap_or(i64::MIN)
                }
            };
            subtask.assigners = (0..places).map(greatest).collect();
        }
        Ok(())
    }
}

/// What a checkpoint has, for a [plan](strandline_state_api::JobSchema::plan) of its restore.
pub fn stored_operators(manifest: &Manifest) -> Vec<StoredOperator> {
    let stored = |operator: &OperatorSnapshot| {
        let mut states: Vec<StateMeta> = Vec::new();
        for meta in operator.subtasks.iter().flat_map(|subtask| &subtask.keyed.states) {
            if !states.iter().any(|known| known.name == meta.name) {
                states.push(meta.clone());
            }
        }
        StoredOperator { id: operator.id.clone(), states, has_state: has_state(operator) }
    };
    manifest.operators.iter().map(stored).collect()
}

/// Whether anything is lost with this operator.
fn has_state(operator: &OperatorSnapshot) -> bool {
    operator.subtasks.iter().any(|subtask| {
        !subtask.keyed.parts.is_empty()
            || subtask.operator_state.iter().any(|entry| !entry.elements.is_empty())
    })
}
