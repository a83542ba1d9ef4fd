//! Bytes by address: the database, and the write-back table in front of it.
//!
//! The table holds what was read or changed lately. Only a checkpoint makes state durable, so a change need
//! not reach the database before the barrier, and an entry that changes a thousand times is written once.
//! With the table a snapshot is taken beside the work, too: after the barrier, what was changed before it
//! is copied to an [increment](crate::increment) in small steps (or just before it changes again), the database
//! takes the increment elsewhere, and later changes stay in the table until the [cut](crate::cut) is made. So a
//! barrier itself costs one addition.
//!
//! With a budget of 0 changes go to the database at once, and the table is used only while a cut waits.

use std::collections::VecDeque;
use std::sync::Arc;

use rocksdb::WriteBatch;
use strandline_state_api::{CheckpointId, Result};

use crate::cut::DatabaseCut;
use crate::database::Database;
use crate::increment::Increment;
use crate::memory::Memory;

mod index;
mod ordered;
mod overlay;
pub(crate) mod scan;

pub(crate) use ordered::Bytes;
pub(crate) use overlay::Order;
use overlay::{Known, Overlay};

/// Bytes of a batch after which it is written.
const BATCH_BYTES: usize = 1 << 20;

/// What a prefetch takes for an announced key; each takes more than those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Prefetch {
    /// Nothing: the addresses are not known, or the state is seldom accessed.
    Nothing,
    /// What the write-back table has: a list may be appended to and a value replaced unread.
    Cached,
    /// The entry, from the database if the write-back table lacks it.
    Database,
}

/// A cut that may still need values out of the table.
struct OpenCut {
    cut: Arc<DatabaseCut>,
    checkpoint: CheckpointId,
    /// Its epoch: changes of this epoch and of earlier ones belong to the cut.
    epoch: u32,
    /// Slots that were changed in its epoch, as far as they were not looked at.
    changed: Vec<u32>,
    /// Their values, until the cut has them all.
    increment: Increment,
    /// Whether the cut has the increment, so that the copy can be made.
    ready: bool,
}

/// See the [module](self).
pub(crate) struct Store {
    database: Arc<Database>,
    memory: Arc<Memory>,
    overlay: Overlay,
    /// Slots that were changed in this epoch.
    changed: Vec<u32>,
    open: VecDeque<OpenCut>,
    epoch: u32,
    /// Writes that the database lacks; the table holds a dirty value for each of their keys.
    batch: WriteBatch,
    read: Vec<u8>,
    write_through: bool,
    pub(crate) hits: u64,
    pub(crate) misses: u64,
}

impl Store {
    pub(crate) fn new(database: Arc<Database>, memory: Arc<Memory>) -> Self {
        memory.join();
        let write_through = memory.write_back_share() == 0;
        Self {
            database,
            memory,
            overlay: Overlay::default(),
            changed: Vec::new(),
            open: VecDeque::new(),
            epoch: 1,
            batch: WriteBatch::default(),
            read: Vec::new(),
            write_through,
            hits: 0,
            misses: 0,
        }
    }

    pub(crate) fn database(&self) -> &Arc<Database> {
        &self.database
    }

    /// Entries of the table that the database does not know.
    pub(crate) fn dirty(&self) -> usize {
        self.changed.len()
    }

    /// Whether there is a cut whose copy has not been made.
    pub(crate) fn waits_for_a_copy(&self) -> bool {
        self.open.iter().any(|open| !open.cut.is_over())
    }

    /// Bytes that the table takes.
    pub(crate) fn table_bytes(&self) -> usize {
        self.overlay.bytes()
    }

    /// Whether reads fill the table.
    pub(crate) fn caches(&self) -> bool {
        !self.write_through
    }

    /// The value at an address.
    #[inline]
    pub(crate) fn get(&mut self, at: &[u8], order: Order) -> Result<Option<&[u8]>> {
        if let Some(id) = self.find(at)? {
            self.hits += 1;
            self.complete(id)?;
            return Ok(self.overlay.bytes_of(id));
        }
        self.misses += 1;
        if self.write_through {
            let Some(found) = self.database.get(at)? else { return Ok(None) };
            self.read.clear();
            self.read.extend_from_slice(&found);
            return Ok(Some(&self.read));
        }
        let found = self.database.get(at)?;
        let value = found.map_or(Known::Gone, |found| Known::Put(Bytes::from_slice(&found)));
        let id = self.overlay.insert(at, order, value);
        self.enforce_budget()?;
        // An eviction spares the newest slot.
        Ok(self.overlay.bytes_of(id))
    }

    /// Returns whether there is a value.
    pub(crate) fn contains(&mut self, at: &[u8], order: Order) -> Result<bool> {
        Ok(self.get(at, order)?.is_some())
    }

    /// Sets a value.
    pub(crate) fn put(&mut self, at: &[u8], order: Order, value: &[u8]) -> Result<()> {
        match self.change(at, order)? {
            None => self.database.put(at, value),
            Some((id, _)) => {
                self.overlay.set(id, value);
                self.enforce_budget()
            }
        }
    }

    /// Removes a value.
    pub(crate) fn delete(&mut self, at: &[u8], order: Order) -> Result<()> {
        match self.change(at, order)? {
            None => self.database.delete(at),
            Some((id, _)) => {
                self.overlay.replace(id, Known::Gone);
                self.enforce_budget()
            }
        }
    }

    /// Appends to the value at an address without reading it.
    pub(crate) fn append(&mut self, at: &[u8], more: &[u8]) -> Result<()> {
        match self.change(at, Order::Hashed)? {
            None => self.database.merge(at, more),
            Some((id, known)) => {
                self.overlay.append(id, more, known);
                self.enforce_budget()
            }
        }
    }

    /// Prefetches the entries at these addresses; those that the table lacks are read all at once, if at all.
    pub(crate) fn prefetch(&mut self, wanted: &[Vec<u8>], prefetch: Prefetch) -> Result<()> {
        self.settle()?;
        let Self { database, overlay, .. } = self;
        let mut missing = overlay.missing(wanted);
        if missing.is_empty() || prefetch != Prefetch::Database {
            return Ok(());
        }
        missing.sort_unstable();
        database.get_many(missing.iter().copied(), |i, value| {
            // One address may come several times.
            if overlay.find(missing[i]).is_none() {
                let value = value.map_or(Known::Gone, |value| Known::Put(Bytes::from_slice(value)));
                overlay.insert(missing[i], Order::Hashed, value);
            }
        })?;
        self.misses += missing.len() as u64;
        self.enforce_budget()
    }

    /// The slot at an address. Settles cuts first.
    #[inline]
    fn find(&mut self, at: &[u8]) -> Result<Option<u32>> {
        if self.write_through || !self.open.is_empty() {
            self.settle()?;
        }
        Ok(self.overlay.find(at))
    }

    /// Drops cuts that are made; where none is left, empties a table without a budget.
    fn settle(&mut self) -> Result<()> {
        while let Some(front) = self.open.front().filter(|front| front.ready) {
            if front.cut.is_over() {
                // What the snapshot failed to do.
                front.cut.ingest()?;
            }
            if front.cut.is_ingested() {
                self.overlay.set_ingested(front.epoch);
            }
            if !front.cut.is_over() {
                break;
            }
            self.open.pop_front();
        }
        if self.write_through && self.open.is_empty() && !self.overlay.is_empty() {
            let changed = std::mem::take(&mut self.changed);
            self.flush(changed)?;
            self.overlay.clear();
        }
        Ok(())
    }

    /// Makes a slot ready for a change, and returns it with whether the table had it; none where changes go to the
    /// database.
    #[inline]
    fn change(&mut self, at: &[u8], order: Order) -> Result<Option<(u32, bool)>> {
        let found = self.find(at)?;
        if self.write_through && self.open.is_empty() {
            return Ok(None);
        }
        let Some(id) = found else {
            let id = self.overlay.insert(at, order, Known::Gone);
            self.overlay.mark_dirty(id, self.epoch);
            self.changed.push(id);
            return Ok(Some((id, false)));
        };
        match self.overlay.dirty_since(id) {
            Some(epoch) if epoch == self.epoch => {}
            since => {
                if since.is_some() {
                    self.copy_on_write(id)?;
                }
                self.overlay.mark_dirty(id, self.epoch);
                self.changed.push(id);
            }
        }
        Ok(Some((id, true)))
    }

    /// Copy-on-write: hands the old value of a slot that changes again to the cut that needs it.
    #[cold]
    fn copy_on_write(&mut self, id: u32) -> Result<()> {
        while let Some(epoch) = self.overlay.kept_since(id) {
            if let Some(front) = self.open.front_mut().filter(|front| epoch <= front.epoch && !front.ready) {
                self.overlay.hand_over(id, front.epoch, &mut front.increment);
            } else if self.open.iter().any(|open| epoch <= open.epoch) {
                // An older cut comes before its own.
                self.finish_front()?;
            } else {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Reads the rest of a list that was only appended to.
    fn complete(&mut self, id: u32) -> Result<()> {
        while let Some((at, more)) = self.overlay.appended(id) {
            let read = || -> Result<Vec<u8>> {
                Ok(self.database.get(at)?.map(|list| list.to_vec()).unwrap_or_default())
            };
            let list = match self.open.front() {
                // The increment may enter the database at any time.
                Some(front) if front.ready && front.epoch > self.overlay.ingested() => {
                    front.cut.read_before(read)?
                }
                _ => Some(read()?),
            };
            let Some(mut list) = list else {
                // Settling could empty a table without a budget, and the slot is in use.
                if let Some(front) = self.open.front() {
                    front.cut.ingest()?;
                    self.overlay.set_ingested(front.epoch);
                }
                continue;
            };
            list.extend_from_slice(&more[self.overlay.ingested_bytes(id)..]);
            self.overlay.replace(id, Known::Put(Bytes::from_vec(list)));
        }
        Ok(())
    }

    /// Marks a cut, to which all changes so far belong. Constant time.
    pub(crate) fn cut(&mut self, checkpoint: CheckpointId) -> Arc<DatabaseCut> {
        let cut = Arc::new(DatabaseCut::new(Arc::clone(&self.database)));
        let changed = std::mem::take(&mut self.changed);
        let (increment, epoch, ready) = (Increment::default(), self.epoch, false);
        self.open.push_back(OpenCut { cut: Arc::clone(&cut), checkpoint, epoch, changed, increment, ready });
        self.epoch += 1;
        cut
    }

    /// Copies at most `budget` entries for the oldest cut that is not ready; returns whether that of `checkpoint` is
    /// ready.
    pub(crate) fn drain(&mut self, checkpoint: CheckpointId, budget: usize) -> Result<bool> {
        self.settle()?;
        // One cut after the other: the database holds the state of one barrier at a time.
        while let Some(front) = self.open.front() {
            if front.ready {
                if front.checkpoint >= checkpoint {
                    return Ok(true);
                }
                self.finish_front()?;
                continue;
            }
            return Ok(self.drain_front(budget) && checkpoint <= self.front_checkpoint());
        }
        Ok(true)
    }

    fn front_checkpoint(&self) -> CheckpointId {
        self.open.front().map_or(CheckpointId(u64::MAX), |front| front.checkpoint)
    }

    fn drain_front(&mut self, budget: usize) -> bool {
        let Self { open, overlay, .. } = self;
        let Some(OpenCut { cut, epoch, changed, increment, ready, .. }) = open.front_mut() else {
            return true;
        };
        let rest = changed.len().saturating_sub(budget.max(1));
        overlay.prefetch(&changed[rest..]);
        for id in changed.drain(rest..) {
            if overlay.kept_since(id).is_some_and(|since| since <= *epoch) {
                overlay.hand_over(id, *epoch, increment);
            }
        }
        if changed.is_empty() && !*ready {
            *changed = Vec::new();
            cut.hand_over(std::mem::take(increment));
            *ready = true;
        }
        *ready
    }

    /// Finishes the oldest cut at once.
    fn finish_front(&mut self) -> Result<()> {
        while !self.drain_front(1 << 16) {}
        if let Some(front) = self.open.front()
            && let Err(error) = front.cut.make()
        {
            // A failed copy fails the snapshot; the state is unharmed.
            tracing::warn!(checkpoint = %front.checkpoint, %error, "a local snapshot failed");
        }
        self.settle()
    }

    /// Gives up a snapshot that failed. What changed up to it goes to the database all the same.
    pub(crate) fn give_up(&mut self, checkpoint: CheckpointId) {
        if let Some(open) = self.open.iter().find(|open| open.checkpoint == checkpoint) {
            open.cut.give_up();
        }
    }

    /// Writes those of `slots` that are dirty.
    fn flush(&mut self, mut slots: Vec<u32>) -> Result<()> {
        self.overlay.sort(&mut slots);
        for id in slots {
            if self.overlay.dirty_since(id).is_some() {
                self.overlay.write(id, &mut self.batch);
                self.overlay.clean(id);
                if self.batch.size_in_bytes() > BATCH_BYTES {
                    self.write_batch()?;
                }
            }
        }
        self.write_batch()
    }

    fn write_batch(&mut self) -> Result<()> {
        if !self.batch.is_empty() {
            self.database.write(&self.batch)?;
            self.batch.clear();
        }
        Ok(())
    }

    /// Keeps the table within its budget.
    #[inline]
    fn enforce_budget(&mut self) -> Result<()> {
        if self.write_through || self.overlay.bytes() <= self.memory.write_back_share() {
            return Ok(());
        }
        self.evict()
    }

    #[cold]
    fn evict(&mut self) -> Result<()> {
        let target = self.memory.write_back_share() / 16 * 15;
        loop {
            self.settle()?;
            // Which slots may be written without a change to a cut.
            let writable = match self.open.front() {
                None => Some(u32::MAX),
                Some(front) if !front.ready => Some(front.epoch),
                Some(_) => None,
            };
            let mut victims = Vec::new();
            self.overlay.choose(target, writable, &mut victims);
            self.overlay.sort(&mut victims);
            for &id in &victims {
                if self.overlay.dirty_since(id).is_some() {
                    self.overlay.write(id, &mut self.batch);
                    self.overlay.clean(id);
                }
                if self.batch.size_in_bytes() > BATCH_BYTES {
                    self.write_batch()?;
                }
            }
            self.write_batch()?;
            victims.iter().for_each(|id| self.overlay.remove(*id));
            if self.open.is_empty() && self.changed.len() > 2 * self.overlay.len() + 1024 {
                let overlay = &self.overlay;
                self.changed.retain(|id| overlay.dirty_since(*id).is_some());
                self.changed.sort_unstable();
                self.changed.dedup();
            }
            if self.overlay.bytes() <= self.memory.write_back_share() || self.open.is_empty() {
                return Ok(());
            }
            // Every slot is dirty and waits for a cut: make that now.
            self.finish_front()?;
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.memory.leave();
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("database", &self.database)
            .field("entries", &self.overlay.len())
            .finish()
    }
}
