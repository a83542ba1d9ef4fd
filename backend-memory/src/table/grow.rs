//! How the table grows: a shard doubles while it is small, then splits.

use strandline_state_api::Result;

use super::shard::Growth;
use super::{Address, Payload, Table};

impl<P: Payload> Table<P> {
    /// Makes room for one more entry at `at`; returns its shard.
    pub(super) fn reserve(&mut self, at: Address) -> Result<usize> {
        loop {
            let index = self.shard_or_foreign(at.hash)?;
            let slots = &mut self.slots[index];
            match self.shards[index].growth(slots.len()) {
                Growth::None => return Ok(index),
                Growth::Resize(capacity) => self.shards[index].resize(slots, capacity),
                Growth::Split(capacity) => {
                    if !self.split(index, at) {
                        self.shards[index].resize(&mut self.slots[index], capacity);
                    }
                }
            }
        }
    }

    /// Splits a shard at the middle of its hashes; returns `false` if that would not help, because many
    /// entries share few keys.
    fn split(&mut self, index: usize, at: Address) -> bool {
        let slice = |table: &Self, at: Address| (at.hash.0.wrapping_sub(table.base) >> table.shift) as usize;
        let own = |table: &Self, slice: usize| table.directory.get(slice) == Some(&(index as u32));
        let mut here = slice(self, at);
        let alone = !own(self, here + 1) && (here == 0 || !own(self, here - 1));
        if alone {
            // The directory doubles; a bound stops a few hot keys from doubling it for ever.
            if self.shift == 0 || self.directory.len() > self.shards.len() * 16 + 64 {
                return false;
            }
            self.shift -= 1;
            self.next_slice *= 2;
            self.directory = self.directory.iter().flat_map(|shard| [*shard, *shard]).collect();
            here = slice(self, at);
        }
        let (mut first, mut end) = (here, here + 1);
        while first > 0 && own(self, first - 1) {
            first -= 1;
        }
        while own(self, end) {
            end += 1;
        }
        let middle = first + (end - first) / 2;
        let (base, shift) = (self.base, self.shift);
        let upper = |at: Address| (at.hash.0.wrapping_sub(base) >> shift) as usize >= middle;
        let (high, slots) = self.shards[index].split_off(&mut self.slots[index], upper);
        self.directory[middle..end].fill(self.shards.len() as u32);
        self.shards.push(high);
        self.slots.push(slots);
        true
    }
}
