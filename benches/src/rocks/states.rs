//! The same entries in one state or in many.

use std::sync::Arc;

use strandline_backend_rocksdb::RocksBackendFactory;
use strandline_connectors::keys::mix;
use strandline_state_api::backend::{BackendFactory, BackendScope, KeyedBackendExt};
use strandline_state_api::{KeyedBackend, Result, ValueDescriptor, ValueState};

use crate::compare::Subject;
use crate::keys::{Visit, order, slice_of};
use crate::w2::value::add_one;

/// An access to the entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StatesOp {
    /// Reads.
    Get,
    /// Reads, adds one and writes.
    Modify,
    /// Overwrites.
    Put,
}

impl StatesOp {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Get, Self::Put, Self::Modify];

    /// For the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Put => "put",
            Self::Modify => "read-modify-write",
        }
    }
}

/// Entries, spread over a number of value states: entry `i` is that of key `mix(i / states)` in state `i %
/// states`.
#[derive(Debug)]
pub struct ManyStates {
    backend: <RocksBackendFactory as BackendFactory>::Backend<u64>,
    states: Vec<ValueState<u64>>,
    visit: Visit,
    slice: usize,
    round: u64,
    filled: bool,
}

impl ManyStates {
    /// An empty backend; the first operation fills it with `entries` in `states` states.
    ///
    /// # Errors
    /// What the factory fails with.
    pub fn new(factory: &RocksBackendFactory, entries: usize, states: usize) -> Result<Self> {
        let mut backend = factory.create(BackendScope::whole("bench")?)?;
        let descriptor = |number| ValueDescriptor::new(format!("state-{number}"));
        let states = (0..states.max(1)).map(|number| backend.register(&descriptor(number)));
        let states = states.collect::<Result<Vec<_>>>()?;
        let (visit, slice) = (Visit::new(order(entries)), slice_of(entries).min(super::SLICE));
        Ok(Self { backend, states, visit, slice, round: 0, filled: false })
    }

    /// Returns the bytes of memory that RocksDB and the table take, and the bytes of files.
    pub fn bytes(&self) -> (u64, u64) {
        let statistics = self.backend.statistics();
        let of =
            |name: &str| statistics.iter().find(|known| known.name == name).map_or(0, |known| known.value);
        let memory = ["memtable_bytes", "block_cache_bytes", "write_back_bytes"].map(of);
        (memory.iter().sum(), of("database_bytes"))
    }
}

impl Subject<StatesOp> for ManyStates {
    fn slice(&self, _: StatesOp) -> usize {
        self.slice
    }

    fn ready(&mut self, _: StatesOp) -> Result<()> {
        if self.filled {
            return Ok(());
        }
        self.filled = true;
        let all: Arc<[u64]> = self.visit.all();
        for &entry in &*all {
            let (key, state) = locate(entry, &self.states);
            self.backend.at(&key).state(state).put(entry)?;
        }
        super::ours::checkpoint(&mut self.backend)
    }

    fn work(&mut self, op: StatesOp) -> Result<u64> {
        self.round += 1;
        let (all, range) = (self.visit.all(), self.visit.next(self.slice));
        let (mut sum, round) = (0u64, self.round);
        for &entry in &all[range] {
            let (key, state) = locate(entry, &self.states);
            let mut scope = self.backend.at(&key);
            match op {
                StatesOp::Get => sum = sum.wrapping_add(scope.state(state).get()?.copied().unwrap_or(0)),
                StatesOp::Put => scope.state(state).put(entry.wrapping_add(round))?,
                StatesOp::Modify => {
                    sum = sum.wrapping_add(scope.state(state).update_or_default(add_one)?);
                }
            }
        }
        Ok(sum)
    }
}

/// Returns key and state of an entry.
#[inline]
fn locate(entry: u64, states: &[ValueState<u64>]) -> (u64, ValueState<u64>) {
    let count = states.len() as u64;
    (mix(entry / count), states[(entry % count) as usize])
}
