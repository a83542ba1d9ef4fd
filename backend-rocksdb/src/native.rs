//! Reads the entries of native snapshots without a backend.

use std::sync::Arc;

use strandline_snapshot_format::{EntryRef, Op};
use strandline_state_api::backend::BackendScope;
use strandline_state_api::schema::StateMeta;
use strandline_state_api::snapshot::{KeyedSnapshot, SegmentStore};
use strandline_state_api::{KeyGroupRange, Result};

use crate::RocksBackendFactory;
use crate::database::ReadOnly;
use crate::directory::StoredState;
use crate::home::Instance;
use crate::layout::{bounds, prefix};
use crate::restore::{RestoreSource, fetch, source};
use crate::store::scan::to_state;

/// The native snapshot of one subtask, opened for reading.
///
/// The files of the snapshot are downloaded into the directory of the factory, each checked against its hash,
/// and deleted with this value. A walk reads them block by block.
pub struct NativeSnapshot {
    states: Vec<StoredState>,
    key_groups: KeyGroupRange,
    // Fields drop in this order: the database closes before its files are deleted.
    database: ReadOnly,
    _instance: Arc<Instance>,
}

impl NativeSnapshot {
    /// Opens the [native](crate::NATIVE_FORMAT) parts of a snapshot; `None` if it has none.
    ///
    /// # Errors
    /// [`Incompatible`](strandline_state_api::ErrorKind::Incompatible) for a snapshot in another format or a newer
    /// version of it, [`Corrupt`](strandline_state_api::ErrorKind::Corrupt) for a damaged one; those of the store
    /// and of the local disk.
    pub async fn open(
        factory: &RocksBackendFactory,
        snapshot: &KeyedSnapshot,
        store: &dyn SegmentStore,
    ) -> Result<Option<Self>> {
        let Some(RestoreSource::Native { directory, key_groups, .. }) = source(snapshot, store).await? else {
            return Ok(None);
        };
        let instance = Arc::new(factory.home()?.instance(&BackendScope::whole("reader")?)?);
        let path = instance.path("db");
        fetch(&directory, &path, &instance, factory.options(), store).await?;
        let database = ReadOnly::open(factory.environment(), &path)?;
        Ok(Some(Self { states: directory.states, key_groups, database, _instance: instance }))
    }

    /// Returns the states, by name.
    pub fn states(&self) -> impl ExactSizeIterator<Item = &StateMeta> {
        self.states.iter().map(|stored| &stored.meta)
    }

    /// Visits the entries of one state in `range`, in the order of the portable format, as long as `visit` returns
    /// true; the state of each is 0. A walk may start where another ended: `from` is what that returned. Returns
    /// where the next walk starts, `None` at the end.
    ///
    /// # Errors
    /// Those of `visit`; [`Corrupt`](strandline_state_api::ErrorKind::Corrupt) when a file is damaged.
    pub fn walk(
        &self,
        state: &str,
        range: KeyGroupRange,
        from: Option<&[u8]>,
        mut visit: impl FnMut(EntryRef<'_>) -> Result<bool>,
    ) -> Result<Option<Vec<u8>>> {
        let Some(stored) = self.states.iter().find(|stored| stored.meta.name == state) else {
            return Ok(None);
        };
        let range = range.intersect(self.key_groups);
        if range.is_empty() {
            return Ok(None);
        }
        let (id, layout) = (stored.addressing.id, stored.addressing.layout);
        let (first, to) = bounds(range);
        let mut entries = self.database.iterate(from.unwrap_or(&first), Some(&to));
        let mut target = Vec::new();
        entries.first()?;
        to_state(&mut entries, id, &mut target)?;
        let mut more = true;
        while let Some((address, value)) = entries.entry() {
            if !more {
                return Ok(Some(address.to_vec()));
            }
            let parts = layout.split(address)?;
            let entry = EntryRef::new(prefix(address)?.0, 0, Op::Put, &parts.key);
            more = visit(EntryRef { namespace: &parts.namespace, sub: &parts.sub, value, ..entry })?;
            entries.step()?;
            to_state(&mut entries, id, &mut target)?;
        }
        Ok(None)
    }
}

impl std::fmt::Debug for NativeSnapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = self.states.iter().map(|stored| &stored.meta.name);
        f.debug_struct("NativeSnapshot").field("states", &names.collect::<Vec<_>>()).finish_non_exhaustive()
    }
}
