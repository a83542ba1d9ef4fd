//! Key groups: the unit of everything that moves (placement, snapshot sections, rescaling, ranged restore).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::KeyHash;

/// One of the [`KeyGroup::COUNT`] slices of the key space: the top 15 bits of a [`KeyHash`].
///
/// There are always 32,768 of them, so there is no maximum parallelism to choose and regret (Flink:
/// `KeyGroupRangeAssignment`, where the number is fixed at the first start). Whatever is kept per key group must
/// therefore be sparse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyGroup(u16);

impl KeyGroup {
    /// How many key groups there are.
    pub const COUNT: u32 = 1 << 15;

    /// The group with this index, if it is below [`COUNT`](Self::COUNT).
    pub const fn new(index: u16) -> Option<Self> {
        if (index as u32) < Self::COUNT { Some(Self(index)) } else { None }
    }

    /// The group of a key.
    #[inline]
    pub const fn of(hash: KeyHash) -> Self {
        Self((hash.0 >> 49) as u16)
    }

    /// Its number, 0 to 32,767.
    #[inline]
    pub const fn index(self) -> u16 {
        self.0
    }
}

impl fmt::Display for KeyGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Consecutive key groups, `start` to before `end`.
///
/// Equal to its like only when both bounds are equal; every empty range is [`EMPTY`](Self::EMPTY).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "(u32, u32)", into = "(u32, u32)")]
pub struct KeyGroupRange {
    start: u32,
    end: u32,
}

impl KeyGroupRange {
    /// All key groups.
    pub const ALL: Self = Self { start: 0, end: KeyGroup::COUNT };
    /// No key group.
    pub const EMPTY: Self = Self { start: 0, end: 0 };

    /// The groups from `start` to before `end`; both are cut to the number of groups that exist.
    pub const fn new(start: u32, end: u32) -> Self {
        let end = if end > KeyGroup::COUNT { KeyGroup::COUNT } else { end };
        if start >= end { Self::EMPTY } else { Self { start, end } }
    }

    /// The range of subtask `subtask` of `parallelism`: the groups whose
    /// [`subtask_of`] is `subtask`. Empty when `subtask` is not below `parallelism` (or that is 0).
    pub const fn of_subtask(subtask: u32, parallelism: u32) -> Self {
        if subtask >= parallelism {
            return Self::EMPTY;
        }
        // The smallest group g with g * parallelism / COUNT >= subtask.
        let (s, p, n) = (subtask as u64, parallelism as u64, KeyGroup::COUNT as u64);
        Self::new((s * n).div_ceil(p) as u32, ((s + 1) * n).div_ceil(p) as u32)
    }

    /// The number of its first group; 0 when it is empty.
    pub const fn start(self) -> u32 {
        self.start
    }

    /// One more than the number of its last group; 0 when it is empty.
    pub const fn end(self) -> u32 {
        self.end
    }

    /// How many groups it has.
    pub const fn len(self) -> u32 {
        self.end - self.start
    }

    /// Whether it has none.
    pub const fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// Whether `group` is in it.
    #[inline]
    pub const fn contains(self, group: KeyGroup) -> bool {
        self.start <= group.0 as u32 && (group.0 as u32) < self.end
    }

    /// Whether every group of `other` is in it.
    pub const fn covers(self, other: Self) -> bool {
        other.is_empty() || (self.start <= other.start && other.end <= self.end)
    }

    /// The groups that are in both.
    #[must_use]
    pub const fn intersect(self, other: Self) -> Self {
        let start = if self.start > other.start { self.start } else { other.start };
        let end = if self.end < other.end { self.end } else { other.end };
        Self::new(start, end)
    }

    /// Its groups in order.
    pub fn groups(self) -> impl Iterator<Item = KeyGroup> {
        (self.start..self.end).map(|g| KeyGroup(g as u16))
    }
}

/// The subtask of `parallelism` that owns `group`: `group * parallelism / COUNT`
/// (Flink's `computeOperatorIndexForKeyGroup`). A parallelism of 0 counts as 1.
#[inline]
pub const fn subtask_of(group: KeyGroup, parallelism: u32) -> u32 {
    ((group.0 as u64 * parallelism as u64) / KeyGroup::COUNT as u64) as u32
}

impl fmt::Display for KeyGroupRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {})", self.start, self.end)
    }
}

impl TryFrom<(u32, u32)> for KeyGroupRange {
    type Error = String;

    fn try_from((start, end): (u32, u32)) -> Result<Self, String> {
        let range = Self::new(start, end);
        if (range.start, range.end) == (start, end) {
            Ok(range)
        } else {
            Err(format!("[{start}, {end}) is no range of key groups"))
        }
    }
}

impl From<KeyGroupRange> for (u32, u32) {
    fn from(range: KeyGroupRange) -> Self {
        (range.start, range.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_subtasks_partition_the_groups() {
        for parallelism in [1, 2, 3, 7, 100, 1_000, KeyGroup::COUNT, KeyGroup::COUNT + 5] {
            let mut next = 0;
            for subtask in 0..parallelism {
                let range = KeyGroupRange::of_subtask(subtask, parallelism);
                if range.is_empty() {
                    continue;
                }
                assert_eq!(range.start(), next);
                next = range.end();
                for group in [range.start(), range.end() - 1] {
                    assert_eq!(subtask_of(KeyGroup(group as u16), parallelism), subtask);
                }
            }
            assert_eq!(next, KeyGroup::COUNT);
        }
    }

    #[test]
    fn ranges_intersect_and_cover() {
        let (a, b) = (KeyGroupRange::new(10, 20), KeyGroupRange::new(15, 40_000));
        assert_eq!(a.intersect(b), KeyGroupRange::new(15, 20));
        assert_eq!(b.end(), KeyGroup::COUNT);
        assert!(KeyGroupRange::ALL.covers(a) && !a.covers(b) && a.covers(KeyGroupRange::EMPTY));
        assert_eq!(a.intersect(KeyGroupRange::new(20, 30)), KeyGroupRange::EMPTY);
    }
}
