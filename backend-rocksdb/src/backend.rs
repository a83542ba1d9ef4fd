//! The backend: states by handle, over one store of bytes.

use std::any::{Any, type_name};
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::sync::Arc;

use strandline_state_api::backend::{
    At, BackendScope, EncodedEntry, StateId, StateLocation, StateRegistry, StateTime, Statistic, StoredValues,
};
use strandline_state_api::schema::StateSchema;
use strandline_state_api::{Error, ErrorKind, KeyGroupRange, KeyHash, Keyed, KeyedBackend, Result, StateKey};

use crate::database::{Database, Environment};
use crate::directory::StoredState;
use crate::snapshot::UnderWay;
use crate::state::{Access, ListTable, MapTable, RocksState, TimerQueue, ValueTable};
use crate::statistics::statistics;
use crate::store::{Prefetch, Store};
use crate::uploads::Uploaded;

/// Keyed state of one subtask in embedded RocksDB. See the [crate](crate) for how it works.
#[derive(Debug)]
pub struct RocksBackend<K> {
    pub(crate) registry: StateRegistry<dyn RocksState>,
    pub(crate) environment: Environment,
    pub(crate) store: Store,
    /// States of the restored snapshot that nobody registered. Their entries are kept.
    pub(crate) orphans: Vec<StoredState>,
    pub(crate) under_way: VecDeque<UnderWay>,
    /// The files that the state was restored from.
    pub(crate) restored: Option<Uploaded>,
    /// Whether a restore found anything.
    pub(crate) used: bool,
    pub(crate) clock: StateTime,
    /// The addresses of announced keys.
    announced: Vec<Vec<u8>>,
    key: PhantomData<fn() -> K>,
}

impl<K: StateKey> RocksBackend<K> {
    pub(crate) fn new(scope: BackendScope, environment: Environment, database: Arc<Database>) -> Self {
        let store = Store::new(database, Arc::clone(&environment.memory));
        Self {
            registry: StateRegistry::new(scope),
            environment,
            store,
            orphans: Vec::new(),
            under_way: VecDeque::new(),
            restored: None,
            used: false,
            clock: StateTime::UNKNOWN,
            announced: Vec::new(),
            key: PhantomData,
        }
    }

    /// Where the database of this backend is. It changes with a restore.
    pub fn path(&self) -> &std::path::Path {
        self.store.database().path()
    }

    /// Compacts the local database, here and now: rewrites its files without what was overwritten or removed,
    /// or has expired in states with a time-to-live. RocksDB compacts by itself in time; this is for tests
    /// and for quiet hours.
    pub fn compact(&self) {
        self.store.database().compact();
    }

    /// Registers a state that `make` makes from the number in its keys and the key groups of this subtask.
    fn register<S: RocksState>(
        &mut self,
        schema: &StateSchema,
        types: &'static str,
        make: impl FnOnce(u16, KeyGroupRange) -> S,
    ) -> Result<StateId> {
        let id = self.free_id();
        let same = |known: &dyn RocksState| (known as &dyn Any).is::<S>();
        let state =
            self.registry.register(schema, types, same, |scope| Ok(Box::new(make(id?, scope.key_groups))))?;
        self.publish_expiries();
        Ok(state)
    }

    /// Lets compactions know which values expire.
    pub(crate) fn publish_expiries(&self) {
        self.store.database().expiries.change(|expiries| {
            for state in self.registry.iter() {
                if let Some(ttl) = state.ttl() {
                    expiries.insert(state.addressing().id, *ttl, state.meta().kind);
                }
            }
        });
    }

    /// The lowest number that no state has in its keys.
    pub(crate) fn free_id(&self) -> Result<u16> {
        let registered = self.registry.iter().map(|state| state.addressing().id);
        let orphaned = self.orphans.iter().map(|orphan| orphan.addressing.id);
        let mut taken: Vec<u16> = registered.chain(orphaned).collect();
        taken.sort_unstable();
        let free = (0u16..).zip(&taken).find(|(number, taken)| number < *taken);
        let next = free.map_or(taken.len(), |(number, _)| usize::from(number));
        u16::try_from(next).map_err(|_| too_many_states())
    }

    /// Borrows the state of a handle for one access.
    #[inline]
    fn access<S: RocksState>(&mut self, id: StateId) -> Result<Access<'_, S>> {
        let (state, location) = self.registry.get_located(id)?;
        match (state as &mut dyn Any).downcast_mut() {
            Some(state) => Ok(Access::new(state, &mut self.store, location)),
            None => Err(other_types(location)),
        }
    }
}

#[cold]
pub(crate) fn too_many_states() -> Error {
    Error::new(ErrorKind::Unsupported, "an operator has 65,536 states at most")
}

#[cold]
fn other_types(location: StateLocation<'_>) -> Error {
    location.locate(Error::invalid("the state was registered with another kind or other types"))
}

impl<K: StateKey> KeyedBackend for RocksBackend<K> {
    type Key = K;
    type Values<'b, V: Send + 'static, N: StateKey> = Access<'b, ValueTable<K, N, V>>;
    type Lists<'b, T: Send + 'static, N: StateKey> = Access<'b, ListTable<K, N, T>>;
    type Maps<'b, MK: StateKey, V: Send + 'static, N: StateKey> = Access<'b, MapTable<K, N, MK, V>>;
    type Timers<'b, N: StateKey> = Access<'b, TimerQueue<K, N>>;

    #[inline]
    fn scope(&self) -> &BackendScope {
        self.registry.scope()
    }

    #[inline]
    fn clock(&mut self) -> &mut StateTime {
        &mut self.clock
    }

    fn schemas(&self) -> Vec<StateSchema> {
        self.registry.schemas()
    }

    /// An estimate: RocksDB adds up the numbers of entries of its files.
    fn entries(&self) -> u64 {
        self.store.database().property("rocksdb.estimate-num-keys") + self.store.dirty() as u64
    }

    fn register_values<V: Send + 'static, N: StateKey>(
        &mut self,
        values: StoredValues<V>,
    ) -> Result<StateId> {
        let (schema, types) = (values.schema().clone(), values.types());
        self.register(&schema, types, |id, key_groups| ValueTable::<K, N, V>::new(values, id, key_groups))
    }

    fn register_lists<T: Send + 'static, N: StateKey>(
        &mut self,
        elements: StoredValues<T>,
    ) -> Result<StateId> {
        let (schema, types) = (elements.schema().clone(), elements.types());
        self.register(&schema, types, |id, key_groups| ListTable::<K, N, T>::new(elements, id, key_groups))
    }

    fn register_maps<MK: StateKey, V: Send + 'static, N: StateKey>(
        &mut self,
        values: StoredValues<V>,
    ) -> Result<StateId> {
        let (schema, types) = (values.schema().clone(), values.types());
        self.register(&schema, types, |id, key_groups| MapTable::<K, N, MK, V>::new(values, id, key_groups))
    }

    fn register_timers<N: StateKey>(&mut self, schema: StateSchema) -> Result<StateId> {
        self.register(&schema.clone(), type_name::<N>(), |id, key_groups| {
            TimerQueue::<K, N>::new(schema, id, key_groups)
        })
    }

    #[inline]
    fn values<V: Send + 'static, N: StateKey>(&mut self, state: StateId) -> Result<Self::Values<'_, V, N>> {
        self.access(state)
    }

    #[inline]
    fn lists<T: Send + 'static, N: StateKey>(&mut self, state: StateId) -> Result<Self::Lists<'_, T, N>> {
        self.access(state)
    }

    #[inline]
    fn maps<MK: StateKey, V: Send + 'static, N: StateKey>(
        &mut self,
        state: StateId,
    ) -> Result<Self::Maps<'_, MK, V, N>> {
        self.access(state)
    }

    #[inline]
    fn timers<N: StateKey>(&mut self, service: StateId) -> Result<Self::Timers<'_, N>> {
        self.access(service)
    }

    fn for_each_key<N: StateKey>(
        &mut self,
        state: StateId,
        key_groups: KeyGroupRange,
        mut visit: impl FnMut(Keyed<'_, K>, &N) -> Result<()>,
    ) -> Result<()> {
        let key_groups = key_groups.intersect(self.registry.scope().key_groups);
        let (table, location) = self.registry.get_located(state)?;
        table.for_each_key(&mut self.store, key_groups, &mut |hash, key, namespace| match (
            key.downcast_ref(),
            namespace.downcast_ref(),
        ) {
            (Some(key), Some(namespace)) => visit(Keyed::with_hash(key, hash), namespace),
            _ => Err(other_types(location)),
        })
    }

    fn look_up(
        &mut self,
        state: &str,
        key: Keyed<'_, K>,
        visit: &mut dyn FnMut(EncodedEntry<'_>) -> Result<()>,
    ) -> Result<()> {
        let Self { registry, store, .. } = self;
        let mut encoded = Vec::new();
        key.key().encode(&mut encoded);
        let looked_up = match registry.iter_mut().find(|known| known.meta().name == state) {
            Some(found) => found.look_up(store, &encoded, visit),
            None => {
                Err(Error::new(ErrorKind::NotFound, "the operator has no such state").with("state", state))
            }
        };
        looked_up.map_err(|error| registry.scope().locate(error))
    }

    fn clean_up(&mut self, records: usize) -> Result<u64> {
        let Self { registry, store, clock, .. } = self;
        registry.iter_mut().map(|state| state.clean_up(store, records, clock)).sum()
    }

    fn prefetch(&mut self, keys: &[K], hashes: &[KeyHash]) -> Result<()> {
        let Self { registry, store, announced, .. } = self;
        // Without a write-back table there is no room for what is read.
        if !store.caches() {
            return Ok(());
        }
        announced.resize_with(keys.len().max(announced.len()), Vec::new);
        let prefetched = registry.iter_mut().try_for_each(|state| {
            let prefetch = state.announce(keys.len());
            if prefetch == Prefetch::Nothing {
                return Ok(());
            }
            let addressing = state.addressing();
            for ((key, hash), address) in keys.iter().zip(hashes).zip(&mut *announced) {
                addressing.encode_address(At { key: Keyed::with_hash(key, *hash), namespace: &() }, address);
            }
            let prefetched = store.prefetch(&announced[..keys.len()], prefetch);
            prefetched.map_err(|error| error.with("state", &state.meta().name))
        });
        prefetched.map_err(|error| registry.scope().locate(error))
    }

    fn statistics(&self) -> Vec<Statistic> {
        statistics(&self.store, self.environment.options.statistics)
    }
}
