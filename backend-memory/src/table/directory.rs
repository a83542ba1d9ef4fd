//! Which shard holds a hash. Nothing here depends on the types of the entries, so it is compiled once.

use strandline_state_api::{Error, KeyGroup, KeyGroupRange, KeyHash, Result};

/// The shards of the slices of a range of hashes.
pub(super) struct Directory {
    /// The shard of each slice, in the order of the hash; a shard has one or more neighbouring slices.
    slices: Vec<u32>,
    /// The lowest hash of the key groups of the table.
    base: u64,
    /// A slice holds `1 << shift` hashes.
    shift: u32,
}

/// Divides the hashes of a shard in two.
#[derive(Clone, Copy)]
pub(super) struct Middle {
    base: u64,
    /// The first hash of the upper half, counted from the base.
    first: u64,
}

impl Middle {
    /// Returns whether the upper half has `hash`.
    #[inline]
    pub(super) fn has_upper(self, hash: KeyHash) -> bool {
        hash.0.wrapping_sub(self.base) >= self.first
    }
}

impl Directory {
    /// Returns a directory whose slices all belong to the shard 0.
    pub(super) fn new(range: KeyGroupRange) -> Self {
        let base = u64::from(range.start()) << 49;
        let width = u128::from(range.len()) << 49;
        let shift = (128 - width.leading_zeros()).clamp(1, 64) - 1;
        let slices = width.div_ceil(1 << shift).max(1) as usize;
        Self { slices: vec![0; slices], base, shift }
    }

    #[inline]
    fn slice_of(&self, hash: KeyHash) -> usize {
        (hash.0.wrapping_sub(self.base) >> self.shift) as usize
    }

    #[inline]
    pub(super) fn shard_of(&self, hash: KeyHash) -> Option<usize> {
        self.slices.get(self.slice_of(hash)).map(|shard| *shard as usize)
    }

    /// As [`shard_of`](Self::shard_of), for keys that may belong to another subtask.
    #[inline]
    pub(super) fn shard_or_foreign(&self, hash: KeyHash) -> Result<usize> {
        self.shard_of(hash).ok_or_else(|| foreign(hash))
    }

    /// Returns the shard of a slice, and how many slices it has from there on.
    pub(super) fn shard_at(&self, slice: usize) -> Option<(usize, usize)> {
        let rest = self.slices.get(slice..)?;
        let shard = rest.first()?;
        Some((*shard as usize, rest.iter().take_while(|of| *of == shard).count()))
    }

    /// Returns the key group of the lowest hash of a slice. The slices cover more than the hashes of the key groups,
    /// and with the last key group those behind the greatest hash, too. Shards there are empty.
    pub(super) fn key_group_at(&self, slice: usize) -> KeyGroup {
        KeyGroup::of(KeyHash(self.base.saturating_add((slice as u64) << self.shift)))
    }

    /// Returns the shards with key groups in `range`, which have some of other key groups, too.
    pub(super) fn shards_near(&self, range: KeyGroupRange) -> Vec<u32> {
        let first = (u64::from(range.start()) << 49).saturating_sub(self.base) >> self.shift;
        let behind = u64::try_from((u128::from(range.end()) << 49).saturating_sub(u128::from(self.base)))
            .unwrap_or(u64::MAX);
        let end = if range.is_empty() { 0 } else { (behind.saturating_sub(1) >> self.shift) as usize + 1 };
        let end = end.min(self.slices.len());
        let mut shards = self.slices.get(first as usize..end).unwrap_or_default().to_vec();
        // The slices of a shard are neighbours.
        shards.dedup();
        shards
    }

    /// Doubles the slices if `shard`, one of `shards`, has only the slice of `hash`. Returns whether it did; `None` if
    /// it must not, because many entries share few keys: these would double it for ever.
    pub(super) fn double_for(&mut self, shard: usize, hash: KeyHash, shards: usize) -> Option<bool> {
        let here = self.slice_of(hash);
        let alone = !self.has(shard, here + 1) && (here == 0 || !self.has(shard, here - 1));
        if alone {
            if self.shift == 0 || self.slices.len() > shards * 16 + 64 {
                return None;
            }
            self.shift -= 1;
            let mut doubled = Vec::with_capacity(self.slices.len() * 2);
            for shard in &self.slices {
                doubled.extend([*shard; 2]);
            }
            self.slices = doubled;
        }
        Some(alone)
    }

    /// Gives the upper half of the slices of `shard` to the shard `other`. It has two at least, and one of them
    /// holds `hash`.
    pub(super) fn split(&mut self, shard: usize, hash: KeyHash, other: usize) -> Middle {
        let here = self.slice_of(hash);
        let (mut first, mut end) = (here, here + 1);
        while first > 0 && self.has(shard, first - 1) {
            first -= 1;
        }
        while self.has(shard, end) {
            end += 1;
        }
        let middle = first + (end - first) / 2;
        self.slices[middle..end].fill(other as u32);
        Middle { base: self.base, first: (middle as u64) << self.shift }
    }

    fn has(&self, shard: usize, slice: usize) -> bool {
        self.slices.get(slice) == Some(&(shard as u32))
    }
}

#[cold]
fn foreign(hash: KeyHash) -> Error {
    Error::invalid("the key does not belong to the key groups of this subtask")
        .with("key group", KeyGroup::of(hash))
}
