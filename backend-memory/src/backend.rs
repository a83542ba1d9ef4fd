//! The backend: states by handle, and everything that spans them.

use std::any::Any;
use std::collections::VecDeque;

use strandline_state_api::format::{FoldOptions, StateMeta};
use strandline_state_api::{
    BackendFactory, BackendScope, CheckpointId, Error, FiredTimer, KeyGroup, KeyGroupRange, KeyHash, Keyed,
    KeyedBackend, ListDescriptor, ListState, MapDescriptor, MapState, Result, SnapshotPart, StateHandle,
    StateKey, StateSchema, StateTime, TimerDescriptor, TimerService, ValueDescriptor, ValueState,
};

use crate::list::ListTable;
use crate::map::MapTable;
use crate::snapshot::UnderWay;
use crate::state::AnyState;
use crate::timers::TimerTable;
use crate::value::ValueTable;

/// How the backend writes its snapshots.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct MemoryOptions {
    /// Deltas are folded into a new base once they hold this many times the bytes of the base. 1.0 unless set.
    pub fold_ratio: f64,
    /// And once there are more of them than this, whatever they hold. 16 unless set.
    pub max_deltas: usize,
    /// When at least this share of all entries changed since the last snapshot, the next one takes all entries and is a
    /// base of its own, which costs less than a delta and a fold. 0.5 unless set; above 1.0 for never.
    pub full_share: f64,
    /// How segments are written.
    pub format: FoldOptions,
}

impl Default for MemoryOptions {
    fn default() -> Self {
        Self { fold_ratio: 1.0, max_deltas: 16, full_share: 0.5, format: FoldOptions::default() }
    }
}

/// Keyed state of one subtask as native values in memory. See the [crate](crate) for how it works.
#[derive(Debug)]
pub struct MemoryBackend<K> {
    pub(crate) scope: BackendScope,
    pub(crate) options: MemoryOptions,
    pub(crate) states: Vec<Box<dyn AnyState>>,
    /// The epoch that changes belong to now; equal in all tables.
    pub(crate) epoch: u32,
    pub(crate) under_way: VecDeque<UnderWay>,
    /// The newest checkpoint that was prepared.
    pub(crate) newest: Option<CheckpointId>,
    /// Whether a snapshot failed on this side, so that the next must take all entries.
    pub(crate) broken: bool,
    /// The parts that the state was restored from.
    pub(crate) restored: Vec<SnapshotPart>,
    /// States of the restored snapshot that were not registered. They live on in the parts, or are kept as they were.
    pub(crate) unclaimed: Vec<StateMeta>,
    pub(crate) writer_taken: bool,
    pub(crate) clock: StateTime,
    key: std::marker::PhantomData<fn() -> K>,
}

impl<K: StateKey> MemoryBackend<K> {
    /// An empty backend.
    pub fn new(scope: BackendScope, options: MemoryOptions) -> Self {
        Self {
            scope,
            options,
            states: Vec::new(),
            epoch: 1,
            under_way: VecDeque::new(),
            newest: None,
            broken: false,
            restored: Vec::new(),
            unclaimed: Vec::new(),
            writer_taken: false,
            clock: StateTime::UNKNOWN,
            key: std::marker::PhantomData,
        }
    }

    /// Registers a state that `make` makes, or gives the index of the one that has its name.
    fn register<S: AnyState>(&mut self, make: impl FnOnce(&BackendScope, u32) -> S) -> Result<u32> {
        let made = make(&self.scope, self.epoch);
        let meta = made.meta();
        if meta.name.is_empty() {
            return Err(Error::invalid("a state needs a name").with("operator", &self.scope.operator));
        }
        if self.unclaimed.iter().any(|unclaimed| unclaimed.name == meta.name) {
            return Err(Error::invalid(
                "the state was registered after it was restored; register it when the operator opens",
            )
            .with("operator", &self.scope.operator)
            .with("state", &meta.name));
        }
        if let Some(index) = self.states.iter().position(|state| state.meta().name == meta.name) {
            let known = &*self.states[index];
            if known.schema() == made.schema() && (known as &dyn Any).is::<S>() {
                return Ok(index as u32);
            }
            return Err(self.refusal(known.meta(), meta));
        }
        self.states.push(Box::new(made));
        Ok(self.states.len() as u32 - 1)
    }

    fn refusal(&self, known: &StateMeta, wanted: &StateMeta) -> Error {
        Error::invalid("a state of this name is registered with another kind or other types")
            .with("operator", &self.scope.operator)
            .with("state", &known.name)
            .with("registered", known.kind)
            .with("wanted", wanted.kind)
    }

    #[inline]
    fn state<S: AnyState>(&mut self, index: usize) -> Result<&mut S> {
        let state =
            self.states.get_mut(index).and_then(|state| (&mut **state as &mut dyn Any).downcast_mut());
        state.ok_or_else(foreign_handle)
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
}

#[cold]
fn foreign_handle() -> Error {
    Error::invalid("the state handle belongs to another backend")
}

impl<K: StateKey> KeyedBackend for MemoryBackend<K> {
    type Key = K;

    fn register_value<V: Send + 'static, N: StateKey>(
        &mut self,
        descriptor: &ValueDescriptor<V, N>,
    ) -> Result<ValueState<V, N>> {
        self.register(|scope, epoch| ValueTable::<K, N, V>::new(descriptor, scope.key_groups, epoch))
            .map(ValueState::from_index)
    }

    fn register_list<T: Send + 'static, N: StateKey>(
        &mut self,
        descriptor: &ListDescriptor<T, N>,
    ) -> Result<ListState<T, N>> {
        self.register(|scope, epoch| ListTable::<K, N, T>::new(descriptor, scope.key_groups, epoch))
            .map(ListState::from_index)
    }

    fn register_map<MK: StateKey, V: Send + 'static, N: StateKey>(
        &mut self,
        descriptor: &MapDescriptor<MK, V, N>,
    ) -> Result<MapState<MK, V, N>> {
        self.register(|scope, epoch| MapTable::<K, N, MK, V>::new(descriptor, scope.key_groups, epoch))
            .map(MapState::from_index)
    }

    fn register_timers<N: StateKey>(&mut self, descriptor: &TimerDescriptor<N>) -> Result<TimerService<N>> {
        self.register(|scope, epoch| TimerTable::<K, N>::new(descriptor, scope.key_groups, epoch))
            .map(TimerService::from_index)
    }

    fn schemas(&self) -> Vec<StateSchema> {
        self.states.iter().map(|state| state.schema().clone()).collect()
    }

    #[inline]
    fn clock(&mut self) -> &mut StateTime {
        &mut self.clock
    }

    #[inline]
    fn value_get<V: Send + 'static, N: StateKey>(
        &mut self,
        state: ValueState<V, N>,
        key: Keyed<'_, K>,
        namespace: &N,
    ) -> Result<Option<&V>> {
        Ok(self.state::<ValueTable<K, N, V>>(state.index())?.get(key, namespace))
    }

    #[inline]
    fn value_get_if<V: Send + 'static, N: StateKey>(
        &mut self,
        state: ValueState<V, N>,
        key: Keyed<'_, K>,
        namespace: &N,
        keep: impl FnOnce(&V) -> bool,
    ) -> Result<Option<&V>> {
        Ok(self.state::<ValueTable<K, N, V>>(state.index())?.get_if(key, namespace, keep))
    }

    #[inline]
    fn value_put<V: Send + 'static, N: StateKey>(
        &mut self,
        state: ValueState<V, N>,
        key: Keyed<'_, K>,
        namespace: &N,
        value: V,
    ) -> Result<()> {
        self.check(key)?;
        self.state::<ValueTable<K, N, V>>(state.index())?.put(key, namespace, value)
    }

    #[inline]
    fn value_modify<V: Send + 'static, N: StateKey, R>(
        &mut self,
        state: ValueState<V, N>,
        key: Keyed<'_, K>,
        namespace: &N,
        initial: impl FnOnce() -> V,
        change: impl FnOnce(&mut V) -> R,
    ) -> Result<R> {
        self.check(key)?;
        self.state::<ValueTable<K, N, V>>(state.index())?.modify(key, namespace, initial, change)
    }

    #[inline]
    fn value_merge<V: Send + 'static, N: StateKey>(
        &mut self,
        state: ValueState<V, N>,
        key: Keyed<'_, K>,
        namespace: &N,
        value: V,
        combine: impl FnOnce(&mut V, V),
    ) -> Result<()> {
        self.check(key)?;
        self.state::<ValueTable<K, N, V>>(state.index())?.merge(key, namespace, value, combine)
    }

    #[inline]
    fn value_update<V: Send + 'static, N: StateKey>(
        &mut self,
        state: ValueState<V, N>,
        key: Keyed<'_, K>,
        namespace: &N,
        change: impl FnOnce(&mut V),
    ) -> Result<bool> {
        Ok(self.state::<ValueTable<K, N, V>>(state.index())?.update(key, namespace, change))
    }

    fn value_take<V: Send + 'static, N: StateKey>(
        &mut self,
        state: ValueState<V, N>,
        key: Keyed<'_, K>,
        namespace: &N,
    ) -> Result<Option<V>> {
        Ok(self.state::<ValueTable<K, N, V>>(state.index())?.take(key, namespace))
    }

    fn value_clear<V: Send + 'static, N: StateKey>(
        &mut self,
        state: ValueState<V, N>,
        key: Keyed<'_, K>,
        namespace: &N,
    ) -> Result<bool> {
        Ok(self.state::<ValueTable<K, N, V>>(state.index())?.take(key, namespace).is_some())
    }

    fn value_for_each<V: Send + 'static, N: StateKey>(
        &mut self,
        state: ValueState<V, N>,
        visit: impl FnMut(&K, &N, &V) -> Result<()>,
    ) -> Result<()> {
        self.state::<ValueTable<K, N, V>>(state.index())?.for_each(visit)
    }

    #[inline]
    fn value_prefetch<V: Send + 'static, N: StateKey>(
        &mut self,
        state: ValueState<V, N>,
        keys: &mut dyn Iterator<Item = (KeyHash, &K)>,
    ) -> Result<()> {
        let table = self.state::<ValueTable<K, N, V>>(state.index())?;
        // With a namespace the slot is not known from the key alone.
        if N::WIDTH == Some(0) {
            keys.for_each(|(hash, _)| table.prefetch(hash));
        }
        Ok(())
    }

    #[inline]
    fn list_get<T: Send + 'static, N: StateKey>(
        &mut self,
        state: ListState<T, N>,
        key: Keyed<'_, K>,
        namespace: &N,
    ) -> Result<&[T]> {
        Ok(self.state::<ListTable<K, N, T>>(state.index())?.get(key, namespace))
    }

    #[inline]
    fn list_append<T: Send + 'static, N: StateKey>(
        &mut self,
        state: ListState<T, N>,
        key: Keyed<'_, K>,
        namespace: &N,
        elements: impl IntoIterator<Item = T>,
    ) -> Result<()> {
        self.check(key)?;
        self.state::<ListTable<K, N, T>>(state.index())?.append(key, namespace, elements)
    }

    fn list_put<T: Send + 'static, N: StateKey>(
        &mut self,
        state: ListState<T, N>,
        key: Keyed<'_, K>,
        namespace: &N,
        elements: Vec<T>,
    ) -> Result<()> {
        self.check(key)?;
        self.state::<ListTable<K, N, T>>(state.index())?.put(key, namespace, elements)
    }

    fn list_take<T: Send + 'static, N: StateKey>(
        &mut self,
        state: ListState<T, N>,
        key: Keyed<'_, K>,
        namespace: &N,
    ) -> Result<Vec<T>> {
        Ok(self.state::<ListTable<K, N, T>>(state.index())?.take(key, namespace))
    }

    fn list_clear<T: Send + 'static, N: StateKey>(
        &mut self,
        state: ListState<T, N>,
        key: Keyed<'_, K>,
        namespace: &N,
    ) -> Result<bool> {
        Ok(self.state::<ListTable<K, N, T>>(state.index())?.clear(key, namespace))
    }

    #[inline]
    fn map_get<MK: StateKey, V: Send + 'static, N: StateKey>(
        &mut self,
        state: MapState<MK, V, N>,
        key: Keyed<'_, K>,
        namespace: &N,
        map_key: &MK,
    ) -> Result<Option<&V>> {
        Ok(self.state::<MapTable<K, N, MK, V>>(state.index())?.get(key, namespace, map_key))
    }

    #[inline]
    fn map_put<MK: StateKey, V: Send + 'static, N: StateKey>(
        &mut self,
        state: MapState<MK, V, N>,
        key: Keyed<'_, K>,
        namespace: &N,
        map_key: MK,
        value: V,
    ) -> Result<()> {
        self.check(key)?;
        self.state::<MapTable<K, N, MK, V>>(state.index())?.put(key, namespace, map_key, value)
    }

    fn map_remove<MK: StateKey, V: Send + 'static, N: StateKey>(
        &mut self,
        state: MapState<MK, V, N>,
        key: Keyed<'_, K>,
        namespace: &N,
        map_key: &MK,
    ) -> Result<bool> {
        Ok(self.state::<MapTable<K, N, MK, V>>(state.index())?.take(key, namespace, map_key).is_some())
    }

    fn map_take<MK: StateKey, V: Send + 'static, N: StateKey>(
        &mut self,
        state: MapState<MK, V, N>,
        key: Keyed<'_, K>,
        namespace: &N,
        map_key: &MK,
    ) -> Result<Option<V>> {
        Ok(self.state::<MapTable<K, N, MK, V>>(state.index())?.take(key, namespace, map_key))
    }

    fn map_for_each<MK: StateKey, V: Send + 'static, N: StateKey>(
        &mut self,
        state: MapState<MK, V, N>,
        key: Keyed<'_, K>,
        namespace: &N,
        visit: impl FnMut(&MK, &V) -> Result<()>,
    ) -> Result<()> {
        self.state::<MapTable<K, N, MK, V>>(state.index())?.for_each(key, namespace, visit)
    }

    fn map_is_empty<MK: StateKey, V: Send + 'static, N: StateKey>(
        &mut self,
        state: MapState<MK, V, N>,
        key: Keyed<'_, K>,
        namespace: &N,
    ) -> Result<bool> {
        Ok(self.state::<MapTable<K, N, MK, V>>(state.index())?.is_empty(key, namespace))
    }

    fn map_clear<MK: StateKey, V: Send + 'static, N: StateKey>(
        &mut self,
        state: MapState<MK, V, N>,
        key: Keyed<'_, K>,
        namespace: &N,
    ) -> Result<bool> {
        Ok(self.state::<MapTable<K, N, MK, V>>(state.index())?.clear(key, namespace))
    }

    fn timer_register<N: StateKey>(
        &mut self,
        service: TimerService<N>,
        key: Keyed<'_, K>,
        namespace: &N,
        time: i64,
    ) -> Result<bool> {
        self.check(key)?;
        self.state::<TimerTable<K, N>>(service.index())?.register(key, namespace, time)
    }

    fn timer_delete<N: StateKey>(
        &mut self,
        service: TimerService<N>,
        key: Keyed<'_, K>,
        namespace: &N,
        time: i64,
    ) -> Result<bool> {
        Ok(self.state::<TimerTable<K, N>>(service.index())?.delete(key, namespace, time))
    }

    fn timer_pop<N: StateKey>(
        &mut self,
        service: TimerService<N>,
        up_to: i64,
    ) -> Result<Option<FiredTimer<K, N>>> {
        Ok(self.state::<TimerTable<K, N>>(service.index())?.pop(up_to))
    }

    fn timer_next<N: StateKey>(&mut self, service: TimerService<N>) -> Result<Option<i64>> {
        Ok(self.state::<TimerTable<K, N>>(service.index())?.next())
    }

    fn timer_for_each<N: StateKey>(
        &mut self,
        service: TimerService<N>,
        visit: impl FnMut(&FiredTimer<K, N>) -> Result<()>,
    ) -> Result<()> {
        self.state::<TimerTable<K, N>>(service.index())?.for_each(visit)
    }

    fn for_each_key<S: StateHandle>(
        &mut self,
        state: S,
        key_groups: KeyGroupRange,
        mut visit: impl FnMut(Keyed<'_, K>, &S::Namespace) -> Result<()>,
    ) -> Result<()> {
        let key_groups = key_groups.intersect(self.scope.key_groups);
        let table = self.states.get(state.position()).ok_or_else(foreign_handle)?;
        table.for_each_key(key_groups, &mut |hash, key, namespace| {
            if !key_groups.contains(KeyGroup::of(hash)) {
                return Ok(());
            }
            let key = key.downcast_ref().ok_or_else(foreign_handle)?;
            let namespace = namespace.downcast_ref().ok_or_else(foreign_handle)?;
            visit(Keyed::with_hash(key, hash), namespace)
        })
    }

    fn clean_up(&mut self, records: usize) -> Result<u64> {
        let Self { states, clock, .. } = self;
        Ok(states.iter_mut().map(|state| state.clean_up(records, clock)).sum())
    }

    fn entries(&self) -> u64 {
        self.states.iter().map(|state| state.entries()).sum()
    }
}

/// Makes [`MemoryBackend`]s.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MemoryBackendFactory {
    /// The options of every backend it makes.
    pub options: MemoryOptions,
}

impl BackendFactory for MemoryBackendFactory {
    type Backend<K: StateKey> = MemoryBackend<K>;

    fn name(&self) -> &'static str {
        "memory"
    }

    fn create<K: StateKey>(&self, scope: BackendScope) -> Result<MemoryBackend<K>> {
        Ok(MemoryBackend::new(scope, self.options.clone()))
    }
}
