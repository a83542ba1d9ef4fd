//! Distributes state among subtasks when a job restarts with another parallelism.
//!
//! Pure functions compute the state of the new subtasks from that of the old ones (Flink:
//! `StateAssignmentOperation`, `RoundRobinOperatorStateRepartitioner`). They lose nothing, assign nothing
//! twice, and keep the order.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use crate::host::{OperatorStateEntry, Redistribution};
use crate::snapshot::KeyedSnapshot;
use crate::{Error, KeyGroup, KeyGroupRange, Result};

/// The keyed state of one new subtask.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyedAssignment {
    /// The key groups that the subtask owns from now on.
    pub range: KeyGroupRange,
    /// The snapshots to restore: one for each old subtask that owned some of these groups, clipped to them.
    /// They are in the order of key groups and do not overlap.
    pub snapshots: Vec<KeyedSnapshot>,
}

/// Distributes keyed state over `parallelism` new subtasks.
///
/// `old` holds the key groups and the snapshot of each old subtask, in any order; a subtask without state
/// (because it had none, or had finished) takes part with an empty snapshot. An empty `old` means that the
/// operator is new: every subtask starts empty.
///
/// # Errors
/// `Invalid` for a parallelism of 0. `Corrupt` when the old ranges overlap (state would count twice) or do
/// not cover all key groups (state would be lost).
pub fn assign_keyed(
    old: &[(KeyGroupRange, KeyedSnapshot)],
    parallelism: u32,
) -> Result<Vec<KeyedAssignment>> {
    check_parallelism(parallelism)?;
    let mut old: Vec<_> = old.iter().filter(|(range, _)| !range.is_empty()).collect();
    old.sort_by_key(|(range, _)| range.start());
    if !old.is_empty() {
        check_partition(old.iter().map(|(range, _)| *range))?;
    }
    let assign = |subtask| {
        let range = KeyGroupRange::of_subtask(subtask, parallelism);
        // The old ranges are sorted and disjoint, so those that meet the new range are consecutive.
        let first = old.partition_point(|(owned, _)| owned.end() <= range.start());
        let touching = old[first..].iter().take_while(|(owned, _)| owned.start() < range.end());
        let snapshots = touching
            .map(|(owned, snapshot)| snapshot.clip(owned.intersect(range)))
            .filter(|snapshot| !snapshot.parts.is_empty())
            .collect();
        KeyedAssignment { range, snapshots }
    };
    Ok((0..parallelism).map(assign).collect())
}

/// Distributes the split lists of one operator: each element goes to one subtask, and all lists together are
/// spread evenly.
///
/// Create one for each operator, then call [`split`](Self::split) for each list, in an order that depends
/// only on the names of the lists.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ListSplit {
    parallelism: usize,
    /// The subtask that gets the next longer run.
    next: usize,
}

impl ListSplit {
    /// Creates a distribution over `parallelism` new subtasks.
    ///
    /// # Errors
    /// `Invalid` for a parallelism of 0.
    pub fn new(parallelism: u32) -> Result<Self> {
        check_parallelism(parallelism)?;
        Ok(Self { parallelism: parallelism as usize, next: 0 })
    }

    /// Distributes one list; `old` holds the elements of each old subtask.
    ///
    /// With an unchanged parallelism every subtask keeps its elements. Otherwise the lists are joined in the
    /// order of the old subtasks and cut into runs whose lengths differ by at most one. Consecutive subtasks
    /// get the longer runs, starting behind the subtask that got the last longer run of the previous list
    /// (Flink does the same): so many lists with one element each do not all land on subtask 0. Runs go to
    /// the subtasks in order, so the elements keep their order.
    pub fn split<T>(&mut self, old: Vec<Vec<T>>) -> Vec<Vec<T>> {
        let parallelism = self.parallelism;
        if old.len() == parallelism {
            return old;
        }
        let total: usize = old.iter().map(Vec::len).sum();
        let (base, longer) = (total / parallelism, total % parallelism);
        let first = self.next;
        self.next = (first + longer) % parallelism;
        let is_longer = |subtask: usize| (subtask + parallelism - first) % parallelism < longer;
        let mut elements = old.into_iter().flatten();
        (0..parallelism)
            .map(|subtask| elements.by_ref().take(base + usize::from(is_longer(subtask))).collect())
            .collect()
    }
}

/// Joins a union list: every new subtask gets the whole result, whatever the parallelism.
pub fn union_list<T>(old: Vec<Vec<T>>) -> Vec<T> {
    old.into_iter().flatten().collect()
}

/// Distributes the operator state of one operator: `old` holds the entries of each old subtask in order, the
/// result those of each new one. The [`Redistribution`] of a state decides how its elements move.
///
/// # Errors
/// `Invalid` for a parallelism of 0. `Corrupt` when subtasks wrote a state of one name in different ways.
pub fn assign_operator_state(
    old: &[Vec<OperatorStateEntry>],
    parallelism: u32,
) -> Result<Vec<Vec<OperatorStateEntry>>> {
    let mut split = ListSplit::new(parallelism)?;
    let mut new = vec![Vec::new(); parallelism as usize];
    let names: BTreeSet<_> = old.iter().flatten().map(|entry| entry.name.as_str()).collect();
    for name in names {
        let of_name: Vec<_> = old.iter().flatten().filter(|entry| entry.name == name).collect();
        let Some(like) = of_name.first() else { continue };
        if let Some(other) = of_name.iter().find(|entry| !is_like(entry, like)) {
            let message = format!(
                "the subtasks disagree about an operator state: {} (codec {}) here, {} (codec {}) there",
                like.redistribution, like.codec, other.redistribution, other.codec
            );
            return Err(Error::corrupt(message).with("operator state", name));
        }
        let lists = || -> Vec<Vec<Vec<u8>>> {
            let of = |subtask: &Vec<OperatorStateEntry>| {
                let of_name = subtask.iter().filter(|entry| entry.name == name);
                of_name.flat_map(|entry| entry.elements.iter().cloned()).collect()
            };
            old.iter().map(of).collect()
        };
        let shares = match like.redistribution {
            Redistribution::Split => split.split(lists()),
            Redistribution::Union => vec![union_list(lists()); parallelism as usize],
            Redistribution::Broadcast => broadcast_copies(&of_name, parallelism),
        };
        for (subtask, elements) in new.iter_mut().zip(shares) {
            subtask.push(OperatorStateEntry { elements, ..(*like).clone() });
        }
    }
    Ok(new)
}

/// Returns whether two entries of one name belong to one state.
fn is_like(a: &OperatorStateEntry, b: &OperatorStateEntry) -> bool {
    (a.redistribution, &a.codec, a.schema_version) == (b.redistribution, &b.codec, b.schema_version)
}

/// Picks one of the old copies for each new subtask.
fn broadcast_copies(copies: &[&OperatorStateEntry], parallelism: u32) -> Vec<Vec<Vec<u8>>> {
    let of = |subtask| {
        let source = broadcast_source(subtask, copies.len() as u32)? as usize;
        Some(copies.get(source)?.elements.clone())
    };
    (0..parallelism).map(|subtask| of(subtask).unwrap_or_default()).collect()
}

/// Returns the old subtask whose copy of a broadcast state the new subtask `subtask` reads; `None` when there
/// was no old subtask. All copies are equal, so reading different ones spreads the load. Copies are never
/// merged.
pub fn broadcast_source(subtask: u32, old_parallelism: u32) -> Option<u32> {
    subtask.checked_rem(old_parallelism)
}

fn check_parallelism(parallelism: u32) -> Result<()> {
    if parallelism == 0 {
        return Err(Error::invalid("with a parallelism of 0 no subtask restores the state: use 1 or more"));
    }
    Ok(())
}

/// Returns an error unless the sorted ranges partition all key groups, without overlap or gap.
fn check_partition(ranges: impl Iterator<Item = KeyGroupRange>) -> Result<()> {
    let mut next = 0;
    for range in ranges.chain([KeyGroupRange::EMPTY]) {
        let start = if range.is_empty() { KeyGroup::COUNT } else { range.start() };
        if start < next {
            return Err(Error::corrupt(format!("two subtasks own the key groups [{start}, {next})")));
        }
        if start > next {
            return Err(Error::corrupt(format!("no subtask owns the key groups [{next}, {start})")));
        }
        next = range.end();
    }
    Ok(())
}
