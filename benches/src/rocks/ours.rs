//! The backend.

use std::ops::Range;
use std::sync::Arc;

use strandline_backend_rocksdb::RocksBackendFactory;
use strandline_checkpoint_storage::Storage;
use strandline_state_api::backend::{BackendFactory, KeyedBackendExt, SnapshotSource, SnapshotWriter};
use strandline_state_api::{
    ListDescriptor, ListState, MapDescriptor, MapState, Result, ValueDescriptor, ValueState,
};

use super::{Access, Kind, Plan, RocksOp};
use crate::compare::Subject;
use crate::scratch;
use crate::snapshots::{Cuts, open};
use crate::w2::map::{ENTRIES, entry_of};
use crate::w2::value::add_one;
use crate::w3::runtime;

type Backend = <RocksBackendFactory as BackendFactory>::Backend<u64>;

/// The backend, with a state of each kind.
#[derive(Debug)]
pub struct Ours {
    backend: Backend,
    values: ValueState<u64>,
    lists: ListState<u64>,
    maps: MapState<u64, u64>,
    plan: Plan,
}

impl Ours {
    /// An empty backend; the first operation fills it with `count` keys.
    ///
    /// # Errors
    /// What the factory fails with.
    pub fn new(factory: &RocksBackendFactory, count: usize) -> Result<Self> {
        let (mut backend, values) = open(factory, &ValueDescriptor::new("values"))?;
        let lists = backend.register(&ListDescriptor::new("lists"))?;
        let maps = backend.register(&MapDescriptor::new("maps"))?;
        Ok(Self { backend, values, lists, maps, plan: Plan::new(count)? })
    }

    fn fill(&mut self, kind: Kind) -> Result<()> {
        if self.plan.filled.is_some() {
            return Ok(());
        }
        self.plan.filled = Some(kind);
        for key in &*Arc::clone(&self.plan.all) {
            let mut scope = self.backend.at(key);
            match kind {
                Kind::Value => scope.state(self.values).put(*key)?,
                Kind::List => scope.state(self.lists).put(vec![*key])?,
                Kind::Map => {
                    (0..ENTRIES).try_for_each(|entry| scope.state(self.maps).put(entry, *key))?;
                }
            }
        }
        checkpoint(&mut self.backend)
    }

    fn shorten(&mut self, keys: &[u64]) -> Result<()> {
        for key in keys {
            self.backend.at(key).state(self.lists).put(vec![*key])?;
        }
        Ok(())
    }
}

/// Takes a whole checkpoint: then the files hold everything, and the table has nothing that they lack.
pub(super) fn checkpoint(backend: &mut Backend) -> Result<()> {
    let dir = scratch::directory()?;
    let storage = Storage::in_dir(dir.path().join("checkpoint"))?;
    let writer = backend.take_writer()?;
    let snapshot = Cuts::default().snapshot(backend)?;
    let store = storage.segments(1, snapshot.checkpoint);
    runtime()?.block_on(writer.commit(snapshot.prepared, &store)).map(drop)
}

impl Subject<RocksOp> for Ours {
    fn slice(&self, (access, _): RocksOp) -> usize {
        self.plan.slice(access)
    }

    fn ready(&mut self, (access, _): RocksOp) -> Result<()> {
        self.fill(access.kind())?;
        let (keys, range): (Arc<[u64]>, Range<usize>) = self.plan.take_grown();
        self.shorten(&keys[range])
    }

    fn work(&mut self, op: RocksOp) -> Result<u64> {
        let (keys, range, round) = self.plan.next(op);
        let Self { backend, values, lists, maps, .. } = self;
        let mut sum = 0u64;
        for key in &keys[range] {
            let mut scope = backend.at(key);
            match op.0 {
                Access::Get => sum = sum.wrapping_add(scope.state(*values).get()?.copied().unwrap_or(0)),
                Access::Put => scope.state(*values).put(key.wrapping_add(round))?,
                Access::Modify => {
                    sum = sum.wrapping_add(scope.state(*values).update_or_default(add_one)?);
                }
                Access::Append => scope.state(*lists).push(round)?,
                Access::ListGet => {
                    sum = scope.state(*lists).get()?.iter().fold(sum, |sum, n| sum.wrapping_add(*n));
                }
                Access::MapGet => {
                    let found = scope.state(*maps).get(&entry_of(*key, round, ENTRIES))?;
                    sum = sum.wrapping_add(found.copied().unwrap_or(0));
                }
                Access::MapIterate => scope.state(*maps).for_each(|entry, value| {
                    sum = sum.wrapping_add(entry ^ value);
                    Ok(())
                })?,
            }
        }
        Ok(sum)
    }
}
