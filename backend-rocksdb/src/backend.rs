//! The backend: states by handle, over one store of bytes.

use std::any::Any;
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::ops::RangeBounds;
use std::sync::Arc;

use strandline_state_api::format::StateMeta;
use strandline_state_api::{
    BackendScope, CheckpointId, Error, ErrorKind, FiredTimer, KeyGroupRange, KeyHash, Keyed, KeyedBackend,
    ListDescriptor, ListState, MapDescriptor, MapState, Result, StateHandle, StateKey, StateSchema,
    StateTime, TimerDescriptor, TimerService, ValueDescriptor, ValueState,
};

use crate::database::{Database, Environment};
use crate::directory::StoredState;
use crate::snapshot::UnderWay;
use crate::state::{AnyState, List, Map, Timers, Value};
use crate::statistics::statistics;
use crate::store::Store;
use crate::writer::Uploaded;

/// Keyed state of one subtask in embedded RocksDB. See the [crate](crate) for how it works.
#[derive(Debug)]
pub struct RocksBackend<K> {
    pub(crate) scope: BackendScope,
    pub(crate) environment: Environment,
    pub(crate) store: Store,
    pub(crate) states: Vec<Box<dyn AnyState>>,
    /// Their names, for errors: a state that lent something cannot be asked.
    names: Vec<String>,
    /// States of the restored snapshot that were not registered. Their entries are kept.
    pub(crate) unclaimed: Vec<StoredState>,
    pub(crate) under_way: VecDeque<UnderWay>,
    /// The newest checkpoint that was prepared.
    pub(crate) newest: Option<CheckpointId>,
    /// The files that the state was restored from.
    pub(crate) restored: Option<Uploaded>,
    pub(crate) used: bool,
    pub(crate) writer_taken: bool,
    pub(crate) clock: StateTime,
    key: PhantomData<fn() -> K>,
}

impl<K: StateKey> RocksBackend<K> {
    pub(crate) fn new(scope: BackendScope, environment: Environment, database: Arc<Database>) -> Self {
        let store = Store::new(database, Arc::clone(&environment.memory));
        Self {
            scope,
            environment,
            store,
            states: Vec::new(),
            names: Vec::new(),
            unclaimed: Vec::new(),
            under_way: VecDeque::new(),
            newest: None,
            restored: None,
            used: false,
            writer_taken: false,
            clock: StateTime::UNKNOWN,
            key: PhantomData,
        }
    }

    /// Where the database of this backend is. It changes with a restore.
    pub fn path(&self) -> &std::path::Path {
        self.store.database().path()
    }

    /// Compacts the local database, here and now: rewrites its files without what was overwritten, removed, or has expired in
    /// states with a time-to-live. RocksDB does that by itself in time; this is for tests and for quiet hours.
    pub fn compact(&self) {
        self.store.database().compact();
    }

    /// Registers a state that `make` makes with a number for its keys, or gives the index of the one that has its name.
    fn register<S: AnyState>(&mut self, make: impl FnOnce(&BackendScope, u16) -> S) -> Result<u32> {
        let made = make(&self.scope, self.free_id()?);
        let meta = made.place().meta();
        if meta.name.is_empty() {
            return Err(Error::invalid("a state needs a name").with("operator", &self.scope.operator));
        }
        if let Some(index) = self.states.iter().position(|state| state.place().meta().name == meta.name) {
            let known = &*self.states[index];
            if known.place().schema == made.place().schema && (known as &dyn Any).is::<S>() {
                return Ok(index as u32);
            }
            return Err(self.refusal(known.place().meta(), meta));
        }
        if self.unclaimed.iter().any(|stored| stored.meta.name == meta.name) {
            let message =
                "the state was registered after it was restored; register it when the operator opens";
            return Err(Error::invalid(message)
                .with("operator", &self.scope.operator)
                .with("state", &meta.name));
        }
        self.names.push(meta.name.clone());
        self.states.push(Box::new(made));
        self.publish_expiries();
        Ok(self.states.len() as u32 - 1)
    }

    /// Tells the database which values expire, and when.
    pub(crate) fn publish_expiries(&self) {
        self.store.database().expiries.change(|expiries| {
            for state in &self.states {
                if let Some(ttl) = state.ttl() {
                    expiries.insert(state.place().id, ttl, state.place().meta().kind);
                }
            }
        });
    }

    /// The lowest number that no state has.
    pub(crate) fn free_id(&self) -> Result<u16> {
        let registered = self.states.iter().map(|state| state.place().id);
        let mut taken: Vec<u16> = registered.chain(self.unclaimed.iter().map(|stored| stored.id)).collect();
        taken.sort_unstable();
        let free = (0u16..).zip(&taken).find(|(number, taken)| number < *taken);
        let next = free.map_or(taken.len(), |(number, _)| usize::from(number));
        u16::try_from(next).map_err(|_| too_many_states())
    }

    fn refusal(&self, known: &StateMeta, wanted: &StateMeta) -> Error {
        Error::invalid("a state of this name is registered with another kind or other types")
            .with("operator", &self.scope.operator)
            .with("state", &known.name)
            .with("registered", known.kind)
            .with("wanted", wanted.kind)
    }

    /// Whether the key belongs here; a subtask must never hold state of another's keys.
    #[inline]
    fn check(&self, key: Keyed<'_, K>) -> Result<()> {
        if self.scope.key_groups.contains(key.group()) { Ok(()) } else { Err(self.foreign_key(key)) }
    }

    #[cold]
    fn foreign_key(&self, key: Keyed<'_, K>) -> Error {
        Error::invalid("the key does not belong to the key groups of this subtask")
            .with("operator", &self.scope.operator)
            .with("subtask", self.scope.subtask)
            .with("key group", key.group())
            .with("key groups", self.scope.key_groups)
    }

    /// Calls `access` with a state and the store; an error is told where it happened.
    #[inline]
    fn with<'a, S: AnyState, R>(
        &'a mut self,
        index: usize,
        access: impl FnOnce(&'a mut S, &'a mut Store) -> Result<R>,
    ) -> Result<R> {
        let Self { states, names, store, scope, .. } = self;
        let state = states.get_mut(index).ok_or_else(foreign_handle)?;
        let state = (&mut **state as &mut dyn Any).downcast_mut::<S>().ok_or_else(foreign_handle)?;
        access(state, store).map_err(|error| {
            let name = names.get(index).map_or("", String::as_str);
            error.with("state", name).with("operator", &scope.operator).with("subtask", scope.subtask)
        })
    }
}

#[cold]
pub(crate) fn too_many_states() -> Error {
    Error::new(ErrorKind::Unsupported, "an operator has 65,536 states at most")
}

#[cold]
fn foreign_handle() -> Error {
    Error::invalid("the state handle belongs to another backend")
}

impl<K: StateKey> KeyedBackend for RocksBackend<K> {
    type Key = K;

    fn register_value<V: Send + 'static, N: StateKey>(
        &mut self,
        descriptor: &ValueDescriptor<V, N>,
    ) -> Result<ValueState<V, N>> {
        self.register(|_, id| Value::<K, N, V>::new(descriptor, id)).map(ValueState::from_index)
    }

    fn register_list<T: Send + 'static, N: StateKey>(
        &mut self,
        descriptor: &ListDescriptor<T, N>,
    ) -> Result<ListState<T, N>> {
        self.register(|_, id| List::<K, N, T>::new(descriptor, id)).map(ListState::from_index)
    }

    fn register_map<MK: StateKey, V: Send + 'static, N: StateKey>(
        &mut self,
        descriptor: &MapDescriptor<MK, V, N>,
    ) -> Result<MapState<MK, V, N>> {
        self.register(|_, id| Map::<K, N, MK, V>::new(descriptor, id)).map(MapState::from_index)
    }

    fn register_timers<N: StateKey>(&mut self, descriptor: &TimerDescriptor<N>) -> Result<TimerService<N>> {
        self.register(|scope, id| Timers::<K, N>::new(descriptor, id, scope.key_groups))
            .map(TimerService::from_index)
    }

    fn schemas(&self) -> Vec<StateSchema> {
        self.states.iter().map(|state| state.place().schema.clone()).collect()
    }

    #[inline]
    fn clock(&mut self) -> &mut StateTime {
        &mut self.clock
    }

    fn value_get_if<V: Send + 'static, N: StateKey>(
        &mut self,
        state: ValueState<V, N>,
        key: Keyed<'_, K>,
        namespace: &N,
        keep: impl FnOnce(&V) -> bool,
    ) -> Result<Option<&V>> {
        self.with(state.index(), |state: &mut Value<K, N, V>, store| {
            state.get_if(store, key, namespace, keep)
        })
    }

    fn value_merge<V: Send + 'static, N: StateKey>(
        &mut self,
        state: ValueState<V, N>,
        key: Keyed<'_, K>,
        namespace: &N,
        value: V,
        combine: impl FnOnce(&mut V, V),
    ) -> Result<()> {
        self.check(key)?;
        self.with(state.index(), |state: &mut Value<K, N, V>, store| {
            state.merge(store, key, namespace, value, combine)
        })
    }

    fn value_update<V: Send + 'static, N: StateKey>(
        &mut self,
        state: ValueState<V, N>,
        key: Keyed<'_, K>,
        namespace: &N,
        change: impl FnOnce(&mut V),
    ) -> Result<bool> {
        self.with(state.index(), |state: &mut Value<K, N, V>, store| {
            state.update(store, key, namespace, change)
        })
    }

    fn value_take<V: Send + 'static, N: StateKey>(
        &mut self,
        state: ValueState<V, N>,
        key: Keyed<'_, K>,
        namespace: &N,
    ) -> Result<Option<V>> {
        self.with(state.index(), |state: &mut Value<K, N, V>, store| state.take(store, key, namespace))
    }

    fn value_get<V: Send + 'static, N: StateKey>(
        &mut self,
        state: ValueState<V, N>,
        key: Keyed<'_, K>,
        namespace: &N,
    ) -> Result<Option<&V>> {
        self.with(state.index(), |state: &mut Value<K, N, V>, store| state.get(store, key, namespace))
    }

    fn value_put<V: Send + 'static, N: StateKey>(
        &mut self,
        state: ValueState<V, N>,
        key: Keyed<'_, K>,
        namespace: &N,
        value: V,
    ) -> Result<()> {
        self.check(key)?;
        self.with(state.index(), |state: &mut Value<K, N, V>, store| state.put(store, key, namespace, &value))
    }

    fn value_modify<V: Send + 'static, N: StateKey, R>(
        &mut self,
        state: ValueState<V, N>,
        key: Keyed<'_, K>,
        namespace: &N,
        initial: impl FnOnce() -> V,
        change: impl FnOnce(&mut V) -> R,
    ) -> Result<R> {
        self.check(key)?;
        self.with(state.index(), |state: &mut Value<K, N, V>, store| {
            state.modify(store, key, namespace, initial, change)
        })
    }

    fn value_clear<V: Send + 'static, N: StateKey>(
        &mut self,
        state: ValueState<V, N>,
        key: Keyed<'_, K>,
        namespace: &N,
    ) -> Result<bool> {
        self.with(state.index(), |state: &mut Value<K, N, V>, store| state.clear(store, key, namespace))
    }

    fn value_for_each<V: Send + 'static, N: StateKey>(
        &mut self,
        state: ValueState<V, N>,
        visit: impl FnMut(&K, &N, &V) -> Result<()>,
    ) -> Result<()> {
        let range = self.scope.key_groups;
        self.with(state.index(), |state: &mut Value<K, N, V>, store| state.for_each(store, range, visit))
    }

    fn value_prefetch<V: Send + 'static, N: StateKey>(
        &mut self,
        state: ValueState<V, N>,
        keys: &mut dyn Iterator<Item = (KeyHash, &K)>,
    ) -> Result<()> {
        // Without a table there is no place for what is read, and with a namespace the addresses are not known.
        if !self.store.caches() || N::WIDTH != Some(0) {
            return Ok(());
        }
        let namespace = N::decode(&[])?;
        self.with(state.index(), |state: &mut Value<K, N, V>, store| state.prefetch(store, keys, &namespace))
    }

    fn list_get<T: Send + 'static, N: StateKey>(
        &mut self,
        state: ListState<T, N>,
        key: Keyed<'_, K>,
        namespace: &N,
    ) -> Result<&[T]> {
        self.with(state.index(), |state: &mut List<K, N, T>, store| state.get(store, key, namespace))
    }

    fn list_append<T: Send + 'static, N: StateKey>(
        &mut self,
        state: ListState<T, N>,
        key: Keyed<'_, K>,
        namespace: &N,
        elements: impl IntoIterator<Item = T>,
    ) -> Result<()> {
        self.check(key)?;
        self.with(state.index(), |state: &mut List<K, N, T>, store| {
            state.append(store, key, namespace, elements)
        })
    }

    fn list_put<T: Send + 'static, N: StateKey>(
        &mut self,
        state: ListState<T, N>,
        key: Keyed<'_, K>,
        namespace: &N,
        elements: Vec<T>,
    ) -> Result<()> {
        self.check(key)?;
        self.with(state.index(), |state: &mut List<K, N, T>, store| {
            state.put(store, key, namespace, elements)
        })
    }

    fn list_take<T: Send + 'static, N: StateKey>(
        &mut self,
        state: ListState<T, N>,
        key: Keyed<'_, K>,
        namespace: &N,
    ) -> Result<Vec<T>> {
        self.with(state.index(), |state: &mut List<K, N, T>, store| state.take(store, key, namespace))
    }

    fn list_clear<T: Send + 'static, N: StateKey>(
        &mut self,
        state: ListState<T, N>,
        key: Keyed<'_, K>,
        namespace: &N,
    ) -> Result<bool> {
        self.with(state.index(), |state: &mut List<K, N, T>, store| state.clear(store, key, namespace))
    }

    fn map_get<MK: StateKey, V: Send + 'static, N: StateKey>(
        &mut self,
        state: MapState<MK, V, N>,
        key: Keyed<'_, K>,
        namespace: &N,
        map_key: &MK,
    ) -> Result<Option<&V>> {
        self.with(state.index(), |state: &mut Map<K, N, MK, V>, store| {
            state.get(store, key, namespace, map_key)
        })
    }

    fn map_put<MK: StateKey, V: Send + 'static, N: StateKey>(
        &mut self,
        state: MapState<MK, V, N>,
        key: Keyed<'_, K>,
        namespace: &N,
        map_key: MK,
        value: V,
    ) -> Result<()> {
        self.check(key)?;
        self.with(state.index(), |state: &mut Map<K, N, MK, V>, store| {
            state.put(store, key, namespace, &map_key, &value)
        })
    }

    fn map_take<MK: StateKey, V: Send + 'static, N: StateKey>(
        &mut self,
        state: MapState<MK, V, N>,
        key: Keyed<'_, K>,
        namespace: &N,
        map_key: &MK,
    ) -> Result<Option<V>> {
        self.with(state.index(), |state: &mut Map<K, N, MK, V>, store| {
            state.take(store, key, namespace, map_key)
        })
    }

    fn map_remove<MK: StateKey, V: Send + 'static, N: StateKey>(
        &mut self,
        state: MapState<MK, V, N>,
        key: Keyed<'_, K>,
        namespace: &N,
        map_key: &MK,
    ) -> Result<bool> {
        self.with(state.index(), |state: &mut Map<K, N, MK, V>, store| {
            state.remove(store, key, namespace, map_key)
        })
    }

    fn map_contains<MK: StateKey, V: Send + 'static, N: StateKey>(
        &mut self,
        state: MapState<MK, V, N>,
        key: Keyed<'_, K>,
        namespace: &N,
        map_key: &MK,
    ) -> Result<bool> {
        self.with(state.index(), |state: &mut Map<K, N, MK, V>, store| {
            state.contains(store, key, namespace, map_key)
        })
    }

    fn map_for_each<MK: StateKey, V: Send + 'static, N: StateKey>(
        &mut self,
        state: MapState<MK, V, N>,
        key: Keyed<'_, K>,
        namespace: &N,
        visit: impl FnMut(&MK, &V) -> Result<()>,
    ) -> Result<()> {
        self.map_range(state, key, namespace, .., visit)
    }

    fn map_range<MK: StateKey, V: Send + 'static, N: StateKey>(
        &mut self,
        state: MapState<MK, V, N>,
        key: Keyed<'_, K>,
        namespace: &N,
        range: impl RangeBounds<MK>,
        visit: impl FnMut(&MK, &V) -> Result<()>,
    ) -> Result<()> {
        self.with(state.index(), |state: &mut Map<K, N, MK, V>, store| {
            state.range(store, key, namespace, range, visit)
        })
    }

    fn map_is_empty<MK: StateKey, V: Send + 'static, N: StateKey>(
        &mut self,
        state: MapState<MK, V, N>,
        key: Keyed<'_, K>,
        namespace: &N,
    ) -> Result<bool> {
        self.with(state.index(), |state: &mut Map<K, N, MK, V>, store| state.is_empty(store, key, namespace))
    }

    fn map_clear<MK: StateKey, V: Send + 'static, N: StateKey>(
        &mut self,
        state: MapState<MK, V, N>,
        key: Keyed<'_, K>,
        namespace: &N,
    ) -> Result<bool> {
        self.with(state.index(), |state: &mut Map<K, N, MK, V>, store| state.clear(store, key, namespace))
    }

    fn timer_register<N: StateKey>(
        &mut self,
        service: TimerService<N>,
        key: Keyed<'_, K>,
        namespace: &N,
        time: i64,
    ) -> Result<bool> {
        self.check(key)?;
        self.with(service.index(), |timers: &mut Timers<K, N>, store| {
            timers.register(store, key, namespace, time)
        })
    }

    fn timer_delete<N: StateKey>(
        &mut self,
        service: TimerService<N>,
        key: Keyed<'_, K>,
        namespace: &N,
        time: i64,
    ) -> Result<bool> {
        self.with(service.index(), |timers: &mut Timers<K, N>, store| {
            timers.delete(store, key, namespace, time)
        })
    }

    fn timer_pop<N: StateKey>(
        &mut self,
        service: TimerService<N>,
        up_to: i64,
    ) -> Result<Option<FiredTimer<K, N>>> {
        self.with(service.index(), |timers: &mut Timers<K, N>, store| timers.pop(store, up_to))
    }

    fn timer_next<N: StateKey>(&mut self, service: TimerService<N>) -> Result<Option<i64>> {
        self.with(service.index(), |timers: &mut Timers<K, N>, store| timers.next(store))
    }

    fn timer_for_each<N: StateKey>(
        &mut self,
        service: TimerService<N>,
        visit: impl FnMut(&FiredTimer<K, N>) -> Result<()>,
    ) -> Result<()> {
        self.with(service.index(), |timers: &mut Timers<K, N>, store| timers.for_each(store, visit))
    }

    fn for_each_key<S: StateHandle>(
        &mut self,
        state: S,
        key_groups: KeyGroupRange,
        mut visit: impl FnMut(Keyed<'_, K>, &S::Namespace) -> Result<()>,
    ) -> Result<()> {
        let key_groups = key_groups.intersect(self.scope.key_groups);
        let Self { states, store, .. } = self;
        let table = states.get_mut(state.position()).ok_or_else(foreign_handle)?;
        table.for_each_key(store, key_groups, &mut |hash, key, namespace| {
            let key = key.downcast_ref().ok_or_else(foreign_handle)?;
            let namespace = namespace.downcast_ref().ok_or_else(foreign_handle)?;
            visit(Keyed::with_hash(key, hash), namespace)
        })
    }

    fn clean_up(&mut self, records: usize) -> Result<u64> {
        let Self { states, store, clock, .. } = self;
        let mut removed = 0;
        for state in states {
            removed += state.clean_up(store, records, clock)?;
        }
        Ok(removed)
    }

    /// An estimate: RocksDB counts keys by adding up what its files say.
    fn entries(&self) -> u64 {
        self.store.database().property("rocksdb.estimate-num-keys") + self.store.dirty() as u64
    }

    fn statistics(&self) -> Vec<(&'static str, u64)> {
        statistics(&self.store, self.environment.options.statistics)
    }
}
