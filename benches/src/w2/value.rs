//! Value state: one `u64` for each key.

use std::ops::Range;
use std::sync::Arc;

use strandline_state_api::backend::{BackendFactory, KeyedBackendExt};
use strandline_state_api::{
    KeyHash, KeyScope, Keyed, KeyedBackend, Result, StateKey, ValueDescriptor, ValueState,
};

use crate::compare::Subject;
use crate::keys::{Visit, slice_of};
use crate::plain::PlainMap;
use crate::snapshots::{Cuts, open};

/// How many keys are known in advance in the batched operations.
pub const BATCH: usize = 128;

/// An access to values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ValueOp {
    /// The first write of each key, from an empty table to a full one.
    Add,
    /// Reads.
    Get,
    /// Overwrites; the first change since a snapshot.
    Update,
    /// Overwrites again what was changed since the last snapshot already.
    UpdateAgain,
    /// Overwrites while the snapshot that has the old value is not drained, so that it must be saved first.
    UpdateUndrained,
    /// Reads, adds one and writes; the first change since a snapshot.
    Modify,
    /// Reads in batches of [`BATCH`] announced keys. The plain map has no batches.
    GetBatch,
    /// Overwrites in batches.
    UpdateBatch,
    /// Reads, adds one and writes, in batches.
    ModifyBatch,
}

impl ValueOp {
    /// All of them, in the order in which they need the least preparation.
    pub const ALL: [Self; 9] = [
        Self::Add,
        Self::Get,
        Self::GetBatch,
        Self::Update,
        Self::UpdateBatch,
        Self::Modify,
        Self::ModifyBatch,
        Self::UpdateAgain,
        Self::UpdateUndrained,
    ];

    /// As the shared workloads name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Add => "valueAdd",
            Self::Get => "valueGet",
            Self::Update => "valueUpdate",
            Self::UpdateAgain => "valueUpdate, changed before",
            Self::UpdateUndrained => "valueUpdate, not drained",
            Self::Modify => "valueModify",
            Self::GetBatch => "valueGet, batches",
            Self::UpdateBatch => "valueUpdate, batches",
            Self::ModifyBatch => "valueModify, batches",
        }
    }
}

/// The keys and the written values of the next slice, the same on both sides.
#[derive(Clone, Debug)]
struct Plan {
    visit: Visit,
    slice: usize,
    /// Added to what is written, so that each write is a change.
    round: u64,
    filled: bool,
}

impl Plan {
    fn new(keys: Arc<[u64]>) -> Self {
        let slice = slice_of(keys.len());
        Self { visit: Visit::new(keys), slice, round: 0, filled: false }
    }

    fn slice(&self, op: ValueOp) -> usize {
        if op == ValueOp::Add { self.visit.all().len() } else { self.slice }
    }

    fn next(&mut self, op: ValueOp) -> (Arc<[u64]>, Range<usize>, u64) {
        self.round += 1;
        let range = if op == ValueOp::Add { 0..self.slice(op) } else { self.visit.next(self.slice) };
        (self.visit.all(), range, self.round)
    }
}

/// The workload on a backend that `F` makes.
#[derive(Debug)]
pub struct Values<F: BackendFactory> {
    factory: F,
    backend: F::Backend<u64>,
    state: ValueState<u64>,
    plan: Plan,
    cuts: Cuts,
    /// Whether every entry was changed since the last cut.
    changed: bool,
    hashes: Vec<KeyHash>,
}

impl<F: BackendFactory> Values<F> {
    /// An empty backend; the first operation but [`ValueOp::Add`] fills it with `keys`.
    ///
    /// # Errors
    /// What the factory fails with.
    pub fn new(factory: F, keys: Arc<[u64]>) -> Result<Self> {
        let (backend, state) = open(&factory, &values())?;
        let (plan, cuts) = (Plan::new(keys), Cuts::default());
        Ok(Self { factory, backend, state, plan, cuts, changed: false, hashes: Vec::with_capacity(BATCH) })
    }

    fn put(&mut self, keys: &[u64], round: u64) -> Result<()> {
        for key in keys {
            self.backend.at(key).state(self.state).put(key.wrapping_add(round))?;
        }
        Ok(())
    }

    /// Marks entries as changed since the last cut, and leaves their values alone.
    fn touch(&mut self, keys: &[u64]) -> Result<()> {
        for key in keys {
            self.backend.at(key).state(self.state).update_or_default(|_| ())?;
        }
        Ok(())
    }

    fn batches(
        &mut self,
        keys: &[u64],
        mut access: impl FnMut(&mut F::Backend<u64>, ValueState<u64>, Keyed<'_, u64>) -> Result<u64>,
    ) -> Result<u64> {
        let mut sum = 0u64;
        for batch in keys.chunks(BATCH) {
            announce(&mut self.backend, batch, &mut self.hashes)?;
            for (key, hash) in batch.iter().zip(&self.hashes) {
                let found = access(&mut self.backend, self.state, Keyed::with_hash(key, *hash))?;
                sum = sum.wrapping_add(found);
            }
        }
        Ok(sum)
    }

    fn fill(&mut self) -> Result<()> {
        if !self.plan.filled {
            self.ready(ValueOp::Add)?;
            self.work(ValueOp::Add)?;
        }
        Ok(())
    }

    fn clean(&mut self) -> Result<()> {
        self.changed = false;
        self.cuts.clean(&mut self.backend)
    }
}

/// Announces the keys of the next operations, as a driver does; `hashes` receives their hashes.
pub(super) fn announce<B>(backend: &mut B, keys: &[u64], hashes: &mut Vec<KeyHash>) -> Result<()>
where
    B: KeyedBackend<Key = u64>,
{
    hashes.clear();
    hashes.extend(keys.iter().map(StateKey::key_hash));
    backend.prefetch(keys, hashes)
}

fn values() -> ValueDescriptor<u64> {
    ValueDescriptor::new("values")
}

/// Adds one; returns the sum.
#[inline]
pub(crate) fn add_one(n: &mut u64) -> u64 {
    *n = n.wrapping_add(1);
    *n
}

impl<F: BackendFactory> Subject<ValueOp> for Values<F> {
    fn slice(&self, op: ValueOp) -> usize {
        self.plan.slice(op)
    }

    fn ready(&mut self, op: ValueOp) -> Result<()> {
        if op == ValueOp::Add {
            (self.backend, self.state) = open(&self.factory, &values())?;
            (self.cuts, self.plan.filled, self.changed) = (Cuts::default(), false, false);
            return Ok(());
        }
        self.fill()?;
        match op {
            ValueOp::Add | ValueOp::Get | ValueOp::GetBatch => {}
            ValueOp::Update | ValueOp::UpdateBatch | ValueOp::Modify | ValueOp::ModifyBatch => {
                self.clean()?;
            }
            ValueOp::UpdateAgain if self.changed => {}
            ValueOp::UpdateAgain => {
                self.touch(&self.plan.visit.all())?;
                self.changed = true;
            }
            ValueOp::UpdateUndrained => {
                while self.cuts.drain(&mut self.backend)?.is_some() {}
                self.clean()?;
                let slice = self.plan.visit.peek(self.plan.slice);
                self.touch(&self.plan.visit.all()[slice])?;
                self.cuts.cut(&mut self.backend)?;
            }
        }
        Ok(())
    }

    fn work(&mut self, op: ValueOp) -> Result<u64> {
        let (keys, range, round) = self.plan.next(op);
        let keys = &keys[range];
        let mut sum = 0u64;
        match op {
            ValueOp::Add | ValueOp::Update | ValueOp::UpdateAgain | ValueOp::UpdateUndrained => {
                self.put(keys, round)?;
                self.plan.filled = true;
            }
            ValueOp::Get => {
                for key in keys {
                    let mut scope = self.backend.at(key);
                    sum = sum.wrapping_add(scope.state(self.state).get()?.copied().unwrap_or(0));
                }
            }
            ValueOp::Modify => {
                for key in keys {
                    let count = self.backend.at(key).state(self.state).update_or_default(add_one)?;
                    sum = sum.wrapping_add(count);
                }
            }
            ValueOp::GetBatch => {
                sum = self.batches(keys, |backend, state, key| {
                    Ok(KeyScope::new(backend, key).state(state).get()?.copied().unwrap_or(0))
                })?;
            }
            ValueOp::UpdateBatch => {
                sum = self.batches(keys, |backend, state, key| {
                    let value = key.key().wrapping_add(round);
                    KeyScope::new(backend, key).state(state).put(value)?;
                    Ok(0)
                })?;
            }
            ValueOp::ModifyBatch => {
                sum = self.batches(keys, |backend, state, key| {
                    KeyScope::new(backend, key).state(state).update_or_default(add_one)
                })?;
            }
        }
        Ok(sum)
    }
}

/// The plain map.
#[derive(Debug)]
pub struct PlainValues {
    map: PlainMap<u64>,
    plan: Plan,
}

impl PlainValues {
    /// An empty map; the first operation but [`ValueOp::Add`] fills it with `keys`.
    pub fn new(keys: Arc<[u64]>) -> Self {
        Self { map: PlainMap::default(), plan: Plan::new(keys) }
    }
}

impl Subject<ValueOp> for PlainValues {
    fn slice(&self, op: ValueOp) -> usize {
        self.plan.slice(op)
    }

    fn ready(&mut self, op: ValueOp) -> Result<()> {
        if op == ValueOp::Add {
            self.map = PlainMap::default();
            self.plan.filled = false;
        } else if !self.plan.filled {
            self.work(ValueOp::Add)?;
        }
        Ok(())
    }

    fn work(&mut self, op: ValueOp) -> Result<u64> {
        let (keys, range, round) = self.plan.next(op);
        let keys = &keys[range];
        let mut sum = 0u64;
        match op {
            ValueOp::Add
            | ValueOp::Update
            | ValueOp::UpdateAgain
            | ValueOp::UpdateUndrained
            | ValueOp::UpdateBatch => {
                for key in keys {
                    self.map.insert(*key, key.wrapping_add(round));
                }
                self.plan.filled = true;
            }
            ValueOp::Get | ValueOp::GetBatch => {
                for key in keys {
                    sum = sum.wrapping_add(self.map.get(key).copied().unwrap_or(0));
                }
            }
            ValueOp::Modify | ValueOp::ModifyBatch => {
                for key in keys {
                    sum = sum.wrapping_add(add_one(self.map.entry(*key).or_insert(0)));
                }
            }
        }
        Ok(sum)
    }
}
