//! Map state: a map of ten entries for each key.

use std::ops::Range;
use std::sync::Arc;

use strandline_state_api::backend::{BackendFactory, KeyedBackendExt};
use strandline_state_api::{KeyHash, MapDescriptor, MapState, Result};

use crate::compare::Subject;
use crate::keys::{Visit, slice_of};
use crate::plain::PlainMap;
use crate::snapshots::{Cuts, Opened, open};
use crate::w2::value::{BATCH, announce};

/// How many entries each map has; their keys are `0..ENTRIES`.
pub const ENTRIES: u64 = 10;

/// An access to maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MapOp {
    /// Reads an entry.
    Get,
    /// Looks for an entry; half of them are not there.
    Contains,
    /// Overwrites an entry; the first change since a snapshot.
    Update,
    /// Removes an entry; it was in the last snapshot.
    Remove,
    /// Visits all entries of maps; an operation is one entry.
    Iterate,
    /// The first entry of each key, from nothing to all keys.
    Add,
    /// Reads an entry, in batches of [`BATCH`] announced keys. The plain maps have no batches.
    GetBatch,
    /// Overwrites an entry, in batches.
    UpdateBatch,
}

impl MapOp {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Get,
        Self::GetBatch,
        Self::Contains,
        Self::Iterate,
        Self::Update,
        Self::UpdateBatch,
        Self::Remove,
        Self::Add,
    ];

    /// As the shared workloads name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "mapGet",
            Self::Contains => "mapContains",
            Self::Update => "mapUpdate",
            Self::Remove => "mapRemove",
            Self::Iterate => "mapIterate (entries)",
            Self::Add => "mapAdd",
            Self::GetBatch => "mapGet, batches",
            Self::UpdateBatch => "mapUpdate, batches",
        }
    }

    fn is_batched(self) -> bool {
        matches!(self, Self::GetBatch | Self::UpdateBatch)
    }
}

/// The next slice, the same on both sides.
#[derive(Clone, Debug)]
struct Plan {
    visit: Visit,
    round: u64,
    filled: bool,
    /// Where entries are missing, and the round that removed them.
    removed: Option<(Range<usize>, u64)>,
}

impl Plan {
    fn new(keys: &Arc<[u64]>) -> Self {
        Self { visit: Visit::new(Arc::clone(keys)), round: 0, filled: false, removed: None }
    }

    fn slice(&self, op: MapOp) -> usize {
        let maps = self.visit.all().len();
        match op {
            MapOp::Add => maps,
            // As many entries as the others touch maps.
            MapOp::Iterate => (slice_of(maps) / ENTRIES as usize).max(1) * ENTRIES as usize,
            MapOp::Get
            | MapOp::GetBatch
            | MapOp::Contains
            | MapOp::Update
            | MapOp::UpdateBatch
            | MapOp::Remove => slice_of(maps),
        }
    }

    fn next(&mut self, op: MapOp) -> (Arc<[u64]>, Range<usize>, u64) {
        self.round += 1;
        let slice = self.slice(op);
        let range = match op {
            MapOp::Add => 0..slice,
            MapOp::Iterate => self.visit.next(slice / ENTRIES as usize),
            MapOp::Get
            | MapOp::GetBatch
            | MapOp::Contains
            | MapOp::Update
            | MapOp::UpdateBatch
            | MapOp::Remove => self.visit.next(slice),
        };
        if op == MapOp::Remove {
            self.removed = Some((range.clone(), self.round));
        }
        (self.visit.all(), range, self.round)
    }
}

/// Chooses the entry of the map of `key` for this round: another one each time, so that all are touched.
#[inline]
pub(crate) fn entry_of(key: u64, round: u64, of: u64) -> u64 {
    (key.wrapping_add(round) >> 7) % of
}

/// The workload on a backend that `F` makes.
#[derive(Debug)]
pub struct Maps<F: BackendFactory> {
    factory: F,
    backend: F::Backend<u64>,
    state: MapState<u64, u64>,
    added: Option<Opened<F, MapDescriptor<u64, u64>>>,
    plan: Plan,
    cuts: Cuts,
    hashes: Vec<KeyHash>,
}

impl<F: BackendFactory> Maps<F> {
    /// An empty backend; the first operation fills it with `keys`.
    ///
    /// # Errors
    /// What the factory fails with.
    pub fn new(factory: F, keys: &Arc<[u64]>) -> Result<Self> {
        let (backend, state) = open(&factory, &maps())?;
        let (plan, cuts) = (Plan::new(keys), Cuts::default());
        Ok(Self { factory, backend, state, added: None, plan, cuts, hashes: Vec::with_capacity(BATCH) })
    }

    fn put(&mut self, key: &u64, entry: u64, value: u64) -> Result<()> {
        self.backend.at(key).state(self.state).put(entry, value)
    }
}

fn maps() -> MapDescriptor<u64, u64> {
    MapDescriptor::new("maps")
}

impl<F: BackendFactory> Subject<MapOp> for Maps<F> {
    fn slice(&self, op: MapOp) -> usize {
        self.plan.slice(op)
    }

    fn ready(&mut self, op: MapOp) -> Result<()> {
        self.added = if op == MapOp::Add { Some(open(&self.factory, &maps())?) } else { None };
        if !self.plan.filled {
            for key in self.plan.visit.all().iter() {
                (0..ENTRIES).try_for_each(|entry| self.put(key, entry, *key))?;
            }
            self.plan.filled = true;
        }
        if let Some((range, round)) = self.plan.removed.take() {
            for key in &self.plan.visit.all()[range] {
                self.put(key, entry_of(*key, round, ENTRIES), *key)?;
            }
        }
        if matches!(op, MapOp::Update | MapOp::UpdateBatch | MapOp::Remove) {
            self.cuts.clean(&mut self.backend)?;
        }
        Ok(())
    }

    fn work(&mut self, op: MapOp) -> Result<u64> {
        let (keys, range, round) = self.plan.next(op);
        let (backend, state) = match (&mut self.added, op) {
            (Some((backend, state)), MapOp::Add) => (backend, *state),
            _ => (&mut self.backend, self.state),
        };
        let mut sum = 0u64;
        for batch in keys[range].chunks(BATCH) {
            if op.is_batched() {
                announce(backend, batch, &mut self.hashes)?;
            }
            for key in batch {
                let mut scope = backend.at(key);
                match op {
                    MapOp::Get | MapOp::GetBatch => {
                        let found = scope.state(state).get(&entry_of(*key, round, ENTRIES))?;
                        sum = sum.wrapping_add(found.copied().unwrap_or(0));
                    }
                    MapOp::Contains => {
                        sum += u64::from(scope.state(state).contains(&entry_of(*key, round, 2 * ENTRIES))?);
                    }
                    MapOp::Update | MapOp::UpdateBatch => {
                        scope.state(state).put(entry_of(*key, round, ENTRIES), key.wrapping_add(round))?;
                    }
                    MapOp::Remove => {
                        sum += u64::from(scope.state(state).remove(&entry_of(*key, round, ENTRIES))?);
                    }
                    MapOp::Iterate => scope.state(state).for_each(|entry, value| {
                        sum = sum.wrapping_add(entry ^ value);
                        Ok(())
                    })?,
                    MapOp::Add => scope.state(state).put(entry_of(*key, round, ENTRIES), *key)?,
                }
            }
        }
        Ok(sum)
    }
}

/// The plain map of maps.
#[derive(Debug)]
pub struct PlainMaps {
    maps: PlainMap<PlainMap<u64>>,
    added: PlainMap<PlainMap<u64>>,
    plan: Plan,
}

impl PlainMaps {
    /// An empty map; the first operation fills it with `keys`.
    pub fn new(keys: &Arc<[u64]>) -> Self {
        Self { maps: PlainMap::default(), added: PlainMap::default(), plan: Plan::new(keys) }
    }
}

impl Subject<MapOp> for PlainMaps {
    fn slice(&self, op: MapOp) -> usize {
        self.plan.slice(op)
    }

    fn ready(&mut self, _: MapOp) -> Result<()> {
        self.added = PlainMap::default();
        if !self.plan.filled {
            for key in self.plan.visit.all().iter() {
                self.maps.insert(*key, (0..ENTRIES).map(|entry| (entry, *key)).collect());
            }
            self.plan.filled = true;
        }
        if let Some((range, round)) = self.plan.removed.take() {
            for key in &self.plan.visit.all()[range] {
                self.maps.entry(*key).or_default().insert(entry_of(*key, round, ENTRIES), *key);
            }
        }
        Ok(())
    }

    fn work(&mut self, op: MapOp) -> Result<u64> {
        let (keys, range, round) = self.plan.next(op);
        let mut sum = 0u64;
        for key in &keys[range] {
            match op {
                MapOp::Get | MapOp::GetBatch => {
                    let found = self.maps.get(key).and_then(|map| map.get(&entry_of(*key, round, ENTRIES)));
                    sum = sum.wrapping_add(found.copied().unwrap_or(0));
                }
                MapOp::Contains => {
                    let wanted = entry_of(*key, round, 2 * ENTRIES);
                    sum += u64::from(self.maps.get(key).is_some_and(|map| map.contains_key(&wanted)));
                }
                MapOp::Update | MapOp::UpdateBatch => {
                    let map = self.maps.entry(*key).or_default();
                    map.insert(entry_of(*key, round, ENTRIES), key.wrapping_add(round));
                }
                MapOp::Remove => {
                    let removed =
                        self.maps.get_mut(key).and_then(|map| map.remove(&entry_of(*key, round, ENTRIES)));
                    sum += u64::from(removed.is_some());
                }
                MapOp::Iterate => {
                    for (entry, value) in self.maps.get(key).into_iter().flatten() {
                        sum = sum.wrapping_add(entry ^ value);
                    }
                }
                MapOp::Add => {
                    self.added.entry(*key).or_default().insert(entry_of(*key, round, ENTRIES), *key);
                }
            }
        }
        Ok(sum)
    }
}
