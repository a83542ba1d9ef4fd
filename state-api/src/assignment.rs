//! Who gets which state when a job restarts with another parallelism.
//!
//! Pure functions from the state of the old subtasks to that of the new ones (Flink: `StateAssignmentOperation`,
//! `RoundRobinOperatorStateRepartitioner`). Nothing is lost, nothing is given twice, and order is kept.

#[cfg(test)]
mod tests;

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

/// Distributes operator list state: each element goes to one subtask.
///
/// With an unchanged parallelism every subtask gets back its own list. Otherwise the lists are joined in the order of
/// the old subtasks and cut into `parallelism` runs whose lengths differ by at most one, the longer ones first.
///
/// # Errors
/// `Invalid` for a parallelism of 0.
pub fn split_list<T>(old: Vec<Vec<T>>, parallelism: u32) -> Result<Vec<Vec<T>>> {
    check_parallelism(parallelism)?;
    let parallelism = parallelism as usize;
    if old.len() == parallelism {
        return Ok(old);
    }
    let total: usize = old.iter().map(Vec::len).sum();
    let (base, longer) = (total / parallelism, total % parallelism);
    let mut elements = old.into_iter().flatten();
    Ok((0..parallelism)
        .map(|subtask| elements.by_ref().take(base + usize::from(subtask < longer)).collect())
        .collect())
}

/// Joins operator union list state: every new subtask, however many there are, gets this whole list.
pub fn union_list<T>(old: Vec<Vec<T>>) -> Vec<T> {
    old.into_iter().flatten().collect()
}

/// Distributes the operator state of an operator: `old` holds that of each old subtask, in their order, the result that of
/// each new one.
///
/// The lists of one name are [split](split_list) or [joined](union_list), as the state was registered.
///
/// # Errors
/// `Invalid` for a parallelism of 0. `Corrupt` when subtasks wrote a state of one name with different codecs or rules.
pub fn assign_operator_state(
    old: &[Vec<OperatorStateEntry>],
    parallelism: u32,
) -> Result<Vec<Vec<OperatorStateEntry>>> {
    check_parallelism(parallelism)?;
    let mut new = vec![Vec::new(); parallelism as usize];
    let mut known: Vec<&OperatorStateEntry> = Vec::new();
    for entry in old.iter().flatten() {
        match known.iter().find(|like| like.name == entry.name) {
            None => known.push(entry),
            Some(like) if (like.redistribution, &like.codec) == (entry.redistribution, &entry.codec) => {}
            Some(like) => {
                let message = format!(
                    "subtasks disagree about an operator state: one wrote {:?} with codec {}, another {:?} with codec {}",
                    like.redistribution, like.codec, entry.redistribution, entry.codec
                );
                return Err(Error::corrupt(message).with("state", &entry.name));
            }
        }
    }
    for like in known {
        let of_subtask = |subtask: &Vec<OperatorStateEntry>| {
            let of_name = subtask.iter().filter(|entry| entry.name == like.name);
            of_name.flat_map(|entry| entry.elements.iter().cloned()).collect()
        };
        let lists: Vec<Vec<Vec<u8>>> = old.iter().map(of_subtask).collect();
        let shares = match like.redistribution {
            Redistribution::Split => split_list(lists, parallelism)?,
            Redistribution::Union => vec![union_list(lists); parallelism as usize],
        };
        for (subtask, elements) in new.iter_mut().zip(shares) {
            let (name, codec) = (like.name.clone(), like.codec.clone());
            subtask.push(OperatorStateEntry { name, redistribution: like.redistribution, codec, elements });
        }
    }
    Ok(new)
}

/// Whose copy of a broadcast state the new subtask `subtask` reads, so that the load spreads: all copies are alike.
/// `None` when there was no old subtask.
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
