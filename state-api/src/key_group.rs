//! Key groups: the unit of placement, of snapshot sections, of rescaling and of ranged restores.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::KeyHash;

/// One of the [`KeyGroup::COUNT`] slices of the key space: the top 15 bits of a [`KeyHash`].
///
/// There are always 32,768 key groups, so there is no maximum parallelism to choose and regret (Flink:
/// `KeyGroupRangeAssignment`, which fixes the number at the first start). Whatever a backend keeps for each
/// key group must therefore be sparse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyGroup(u16);

impl KeyGroup {
    /// The number of key groups.
    pub const COUNT: u32 = 1 << 15;

    /// Returns the group with this index if the index is below [`COUNT`](Self::COUNT).
    pub const fn new(index: u16) -> Option<Self> {
        if (index as u32) < Self::COUNT { Some(Self(index)) } else { None }
    }

    /// Returns the group of a key.
    #[inline]
    pub const fn of(hash: KeyHash) -> Self {
        Self((hash.0 >> 49) as u16)
    }

    /// Returns the index of the group, 0 to 32,767.
    #[inline]
    pub const fn index(self) -> u16 {
        self.0
    }

    /// Returns the subtask of `parallelism` that owns the group: `group * parallelism / COUNT`
    /// (Flink's `computeOperatorIndexForKeyGroup`). A parallelism of 0 counts as 1.
    #[inline]
    pub const fn subtask(self, parallelism: u32) -> u32 {
        ((self.0 as u64 * parallelism as u64) / Self::COUNT as u64) as u32
    }
}

impl fmt::Display for KeyGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Consecutive key groups, from `start` up to but not including `end`.
///
/// Two ranges are equal when both bounds are; every empty range is [`EMPTY`](Self::EMPTY).
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

    /// Creates the range from `start` to before `end`; both bounds are cut to the number of groups that
    /// exist.
    pub const fn new(start: u32, end: u32) -> Self {
        let end = if end > KeyGroup::COUNT { KeyGroup::COUNT } else { end };
        if start >= end { Self::EMPTY } else { Self { start, end } }
    }

    /// Returns the range of subtask `subtask` of `parallelism`: the groups whose
    /// [`subtask`](KeyGroup::subtask) is `subtask`. The range is empty when `subtask` is not below
    /// `parallelism`.
    pub const fn of_subtask(subtask: u32, parallelism: u32) -> Self {
        if subtask >= parallelism {
            return Self::EMPTY;
        }
        // The range starts at the smallest group g with g * parallelism / COUNT >= subtask.
        let (s, p, n) = (subtask as u64, parallelism as u64, KeyGroup::COUNT as u64);
        Self::new((s * n).div_ceil(p) as u32, ((s + 1) * n).div_ceil(p) as u32)
    }

    /// Returns the index of the first group; 0 when the range is empty.
    pub const fn start(self) -> u32 {
        self.start
    }

    /// Returns one more than the index of the last group; 0 when the range is empty.
    pub const fn end(self) -> u32 {
        self.end
    }

    /// Returns the number of groups.
    pub const fn len(self) -> u32 {
        self.end - self.start
    }

    /// Returns whether the range has no group.
    pub const fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// Returns whether `group` is in the range.
    #[inline]
    pub const fn contains(self, group: KeyGroup) -> bool {
        // One comparison, as a group below the start wraps around: each access of a state asks.
        (group.0 as u32).wrapping_sub(self.start) < self.len()
    }

    /// Returns whether every group of `other` is in this range.
    pub const fn covers(self, other: Self) -> bool {
        other.is_empty() || (self.start <= other.start && other.end <= self.end)
    }

    /// Returns the groups that are in both ranges.
    #[must_use]
    pub const fn intersect(self, other: Self) -> Self {
        let start = if self.start > other.start { self.start } else { other.start };
        let end = if self.end < other.end { self.end } else { other.end };
        Self::new(start, end)
    }

    /// Returns an iterator over the groups, in order.
    pub fn groups(self) -> impl Iterator<Item = KeyGroup> {
        (self.start..self.end).map(|g| KeyGroup(g as u16))
    }
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
                    assert_eq!(KeyGroup(group as u16).subtask(parallelism), subtask);
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
