//! The backend.

use std::ops::Range;
use std::sync::Arc;

use strandline_backend_rocksdb::RocksBackendFactory;
use strandline_checkpoint_storage::Storage;
use strandline_state_api::{
    BackendFactory, BackendScope, Error, ErrorKind, KeyScope, Keyed, KeyedBackend, ListDescriptor, ListState,
    MapDescriptor, MapState, Result, SnapshotSource, SnapshotWriter, ValueDescriptor, ValueState,
};

use super::{Access, Kind, Plan, RocksOp};
use crate::compare::Subject;
use crate::scratch;
use crate::snapshots::Cuts;
use crate::w2::map::{ENTRIES, entry_of};
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
        let mut backend = factory.create(BackendScope::whole("bench")?)?;
        let values = backend.register_value(&ValueDescriptor::new("values"))?;
        let lists = backend.register_list(&ListDescriptor::new("lists"))?;
        let maps = backend.register_map(&MapDescriptor::new("maps"))?;
        Ok(Self { backend, values, lists, maps, plan: Plan::new(count)? })
    }

    fn fill(&mut self, kind: Kind) -> Result<()> {
        if self.plan.filled.is_some() {
            return Ok(());
        }
        self.plan.filled = Some(kind);
        for key in &*Arc::clone(&self.plan.all) {
            let scope = &mut KeyScope::new(&mut self.backend, Keyed::new(key));
            match kind {
                Kind::Value => scope.value(self.values).put(*key)?,
                Kind::List => scope.list(self.lists).put(vec![*key])?,
                Kind::Map => {
                    (0..ENTRIES).try_for_each(|entry| scope.map(self.maps).put(entry, *key))?;
                }
            }
        }
        checkpoint(&mut self.backend)
    }

    fn shorten(&mut self, keys: &[u64]) -> Result<()> {
        for key in keys {
            KeyScope::new(&mut self.backend, Keyed::new(key)).list(self.lists).put(vec![*key])?;
        }
        Ok(())
    }
}

/// A whole checkpoint: everything is in files, and the table has nothing that they lack.
pub(super) fn checkpoint(backend: &mut Backend) -> Result<()> {
    let dir = scratch::directory()?;
    let (storage, mut cuts) = (Storage::in_dir(dir.path().join("checkpoint"))?, Cuts::default());
    let mut writer = backend.take_writer()?;
    let (checkpoint, _) = cuts.cut(backend)?;
    let drained = cuts.drain(backend)?;
    let (prepared, _) =
        drained.ok_or_else(|| Error::new(ErrorKind::Internal, "the backend forgot its snapshot"))?;
    let store = storage.segments(1, checkpoint);
    runtime()?.block_on(writer.commit(prepared, &store)).map(drop)
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
            let scope = &mut KeyScope::new(backend, Keyed::new(key));
            match op.0 {
                Access::Get => sum = sum.wrapping_add(scope.value(*values).get()?.copied().unwrap_or(0)),
                Access::Put => scope.value(*values).put(key.wrapping_add(round))?,
                Access::Modify => {
                    let count = scope.value(*values).modify(
                        || 0,
                        |n| {
                            *n = n.wrapping_add(1);
                            *n
                        },
                    )?;
                    sum = sum.wrapping_add(count);
                }
                Access::Append => scope.list(*lists).push(round)?,
                Access::ListGet => {
                    sum = scope.list(*lists).get()?.iter().fold(sum, |sum, n| sum.wrapping_add(*n));
                }
                Access::MapGet => {
                    let found = scope.map(*maps).get(&entry_of(*key, round, ENTRIES))?;
                    sum = sum.wrapping_add(found.copied().unwrap_or(0));
                }
                Access::MapIterate => scope.map(*maps).for_each(|entry, value| {
                    sum = sum.wrapping_add(entry ^ value);
                    Ok(())
                })?,
            }
        }
        Ok(sum)
    }
}
