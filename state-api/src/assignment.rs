//! Who gets which state when a job restarts with another parallelism.
//!
//! Pure functions from the state of the old subtasks to that of the new ones (Flink: `StateAssignmentOperation`,
//! `RoundRobinOperatorStateRepartitioner`). Nothing is lost, nothing is given twice, and order is kept.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use crate::{Error, KeyGroup, KeyGroupRange, KeyedSnapshot, OperatorStateEntry, Redistribution, Result};

/// The keyed state of one new subtask.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyedAssignment {
    /// The key groups that the subtask owns from now on.
    pub range: KeyGroupRange,
    /// What to restore: per old subtask that had some of these groups, its snapshot clipped to them. In the order of key
    /// groups; no two speak of the same one.
    pub snapshots: Vec<KeyedSnapshot>,
}

/// Distributes keyed state over `parallelism` new subtasks.
///
/// `old` holds, per old subtask in any order, the key groups that it owned and its snapshot; a subtask without state
/// (because it had none, or had finished) takes part with an empty snapshot. When `old` is empty the operator is new, and everyone starts empty.
///
/// # Errors
/// `Invalid` for a parallelism of 0. `Corrupt` when the old ranges overlap (state would count twice) or do not add up to
/// all key groups (state would be lost).
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
        // The old ranges are sorted and do not overlap, so those that touch the new one are consecutive.
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

/// Distributes the split lists of one operator: each element goes to one subtask, evenly over all lists together.
///
/// Made once for each operator; [`split`](Self::split) is then called for each list, in an order that depends on
/// nothing but their names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ListSplit {
    parallelism: usize,
    /// Who is the first to get one more than the others.
    next: usize,
}

impl ListSplit {
    /// Distributes over `parallelism` new subtasks.
    ///
    /// # Errors
    /// `Invalid` for a parallelism of 0.
    pub fn new(parallelism: u32) -> Result<Self> {
        check_parallelism(parallelism)?;
        Ok(Self { parallelism: parallelism as usize, next: 0 })
    }

    /// Distributes one list, given as what each old subtask had of it.
    ///
    /// With an unchanged parallelism every subtask gets back its own. Otherwise the lists are joined in the order of the
    /// old subtasks and cut into runs whose lengths differ by at most one. The longer ones go to as many subtasks in a row,
    /// beginning behind the last one that got a longer run of the list before (Flink does the same): so many lists with
    /// one element each do not all land on subtask 0. Runs go to the subtasks in order, so order is kept.
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

/// Joins operator union list state: every new subtask, however many there are, gets this whole list.
pub fn union_list<T>(old: Vec<Vec<T>>) -> Vec<T> {
    old.into_iter().flatten().collect()
}

/// Distributes the operator state of an operator: `old` holds that of each old subtask, in their order, the result that of
/// each new one. What becomes of a state is up to its [`Redistribution`].
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

/// Whether two entries of one name are of one state.
fn is_like(a: &OperatorStateEntry, b: &OperatorStateEntry) -> bool {
    (a.redistribution, &a.codec, a.schema_version) == (b.redistribution, &b.codec, b.schema_version)
}

/// One copy for each new subtask, of those that there are.
fn broadcast_copies(copies: &[&OperatorStateEntry], parallelism: u32) -> Vec<Vec<Vec<u8>>> {
    let of = |subtask| {
        let source = broadcast_source(subtask, copies.len() as u32)? as usize;
        Some(copies.get(source)?.elements.clone())
    };
    (0..parallelism).map(|subtask| of(subtask).unwrap_or_default()).collect()
}

/// Whose copy of a broadcast state the new subtask `subtask` reads, so that the load spreads: all copies are alike.
/// `None` when there was no old subtask. Copies are never merged.
pub fn broadcast_source(subtask: u32, old_parallelism: u32) -> Option<u32> {
    subtask.checked_rem(old_parallelism)
}

fn check_parallelism(parallelism: u32) -> Result<()> {
    if parallelism == 0 {
        return Err(Error::invalid("a parallelism of 0 leaves nobody to restore the state: use 1 or more"));
    }
    Ok(())
}

/// Whether sorted ranges meet without overlap or gap, and make up all key groups.
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
