//! How the table grows: a shard doubles while it is small, then splits.

use strandline_state_api::Result;

use super::shard::Growth;
use super::{Address, Payload, Table};

impl<P: Payload> Table<P> {
    /// Makes room for one more entry at `at`; returns its shard.
    pub(super) fn reserve(&mut self, at: Address) -> Result<usize> {
        loop {
            let index = self.directory.shard_or_foreign(at.hash)?;
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
        let Some(doubled) = self.directory.double_for(index, at.hash, self.shards.len()) else {
            return false;
        };
        self.next_slice <<= u32::from(doubled);
        let middle = self.directory.split(index, at.hash, self.shards.len());
        let (high, slots) = self.shards[index].split_off(&mut self.slots[index], middle);
        self.shards.push(high);
        self.slots.push(slots);
        true
    }
}
