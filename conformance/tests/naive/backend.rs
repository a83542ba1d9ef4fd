//! Access to state.

use std::any::TypeId;
use std::collections::VecDeque;
use std::collections::btree_map::Entry;
use std::marker::PhantomData;

use strandline_state_api::format::StateKind;
use strandline_state_api::*;

use super::snapshot::{Cut, Stored};
use super::table::{Address, Cell, Table, address, bytes};

/// Keyed state in sorted maps.
pub struct Naive<K> {
    pub scope: BackendScope,
    pub tables: Vec<Table>,
    /// Restored entries of states that were not registered.
    pub unclaimed: Vec<Stored>,
    pub cuts: VecDeque<(CheckpointId, Cut)>,
    pub last: Option<CheckpointId>,
    pub writer_taken: bool,
    pub clock: StateTime,
    key: PhantomData<fn() -> K>,
}

/// What a cell held.
fn taken<V: 'static>(cell: Option<Cell>) -> Result<Option<V>> {
    cell.map(|cell| cell.downcast().map(|value| *value).map_err(|_| foreign())).transpose()
}

fn foreign() -> Error {
    Error::invalid("the handle belongs to another backend")
}

impl<K: StateKey> Naive<K> {
    pub fn new(scope: BackendScope) -> Self {
        let (tables, unclaimed, cuts) = (Vec::new(), Vec::new(), VecDeque::new());
        Self {
            scope,
            tables,
            unclaimed,
            cuts,
            last: None,
            writer_taken: false,
            clock: StateTime::UNKNOWN,
            key: PhantomData,
        }
    }

    fn register(&mut self, table: Table) -> Result<u32> {
        let name = &table.meta().name;
        if let Some(index) = self.tables.iter().position(|known| known.meta().name == *name) {
            let known = &self.tables[index];
            if known.schema == table.schema && known.types == table.types {
                return Ok(index as u32);
            }
            return Err(Error::invalid("a state of this name has another kind or type").with("state", name));
        }
        if self.unclaimed.iter().any(|stored| stored.meta.name == *name) {
            return Err(Error::invalid("register the state before it is restored").with("state", name));
        }
        self.tables.push(table);
        Ok(self.tables.len() as u32 - 1)
    }

    /// The table of a handle, if kind and types are those of the handle.
    fn table<T: 'static>(&mut self, index: usize, kinds: &[StateKind]) -> Result<&mut Table> {
        let table = self.tables.get_mut(index).filter(|table| table.types == TypeId::of::<T>());
        table.filter(|table| kinds.contains(&table.meta().kind)).ok_or_else(foreign)
    }

    fn values<V: 'static, N: StateKey>(&mut self, state: ValueState<V, N>) -> Result<&mut Table> {
        self.table::<(N, (), V)>(
            state.index(),
            &[StateKind::Value, StateKind::Reducing, StateKind::Aggregating],
        )
    }

    fn lists<T: 'static, N: StateKey>(&mut self, state: ListState<T, N>) -> Result<&mut Table> {
        self.table::<(N, (), Vec<T>)>(state.index(), &[StateKind::List])
    }

    fn maps<MK: StateKey, V: 'static, N: StateKey>(
        &mut self,
        state: MapState<MK, V, N>,
    ) -> Result<&mut Table> {
        self.table::<(N, MK, V)>(state.index(), &[StateKind::Map])
    }

    fn timers<N: StateKey>(&mut self, service: TimerService<N>) -> Result<&mut Table> {
        self.table::<(N, (), ())>(service.index(), &[StateKind::EventTimers, StateKind::ProcessingTimers])
    }
}

impl<K: StateKey> KeyedBackend for Naive<K> {
    type Key = K;

    fn register_value<V: Send + 'static, N: StateKey>(
        &mut self,
        descriptor: &ValueDescriptor<V, N>,
    ) -> Result<ValueState<V, N>> {
        let table =
            Table::of_values::<N, (), V>(descriptor.schema::<K>(), descriptor.codec(), descriptor.decoder());
        self.register(table).map(ValueState::from_index)
    }

    fn register_list<T: Send + 'static, N: StateKey>(
        &mut self,
        descriptor: &ListDescriptor<T, N>,
    ) -> Result<ListState<T, N>> {
        let table =
            Table::of_lists::<N, T>(descriptor.schema::<K>(), descriptor.codec(), descriptor.decoder());
        self.register(table).map(ListState::from_index)
    }

    fn register_map<MK: StateKey, V: Send + 'static, N: StateKey>(
        &mut self,
        descriptor: &MapDescriptor<MK, V, N>,
    ) -> Result<MapState<MK, V, N>> {
        let table =
            Table::of_values::<N, MK, V>(descriptor.schema::<K>(), descriptor.codec(), descriptor.decoder());
        self.register(table).map(MapState::from_index)
    }

    fn register_timers<N: StateKey>(&mut self, descriptor: &TimerDescriptor<N>) -> Result<TimerService<N>> {
        self.register(Table::of_timers::<N>(descriptor.meta::<K>())).map(TimerService::from_index)
    }

    fn schemas(&self) -> Vec<StateSchema> {
        self.tables.iter().map(|table| table.schema.clone()).collect()
    }

    fn clock(&mut self) -> &mut StateTime {
        &mut self.clock
    }

    fn value_get<V: Send + 'static, N: StateKey>(
        &mut self,
        state: ValueState<V, N>,
        key: Keyed<'_, K>,
        namespace: &N,
    ) -> Result<Option<&V>> {
        let cell = self.values(state)?.cells.get(&address(0, key, namespace, &[]));
        Ok(cell.and_then(|cell| cell.downcast_ref()))
    }

    fn value_put<V: Send + 'static, N: StateKey>(
        &mut self,
        state: ValueState<V, N>,
        key: Keyed<'_, K>,
        namespace: &N,
        value: V,
    ) -> Result<()> {
        self.values(state)?.cells.insert(address(0, key, namespace, &[]), Box::new(value));
        Ok(())
    }

    fn value_modify<V: Send + 'static, N: StateKey, R>(
        &mut self,
        state: ValueState<V, N>,
        key: Keyed<'_, K>,
        namespace: &N,
        initial: impl FnOnce() -> V,
        change: impl FnOnce(&mut V) -> R,
    ) -> Result<R> {
        let cells = &mut self.values(state)?.cells;
        let cell = cells.entry(address(0, key, namespace, &[])).or_insert_with(|| Box::new(initial()));
        cell.downcast_mut().map(change).ok_or_else(foreign)
    }

    fn value_merge<V: Send + 'static, N: StateKey>(
        &mut self,
        state: ValueState<V, N>,
        key: Keyed<'_, K>,
        namespace: &N,
        value: V,
        combine: impl FnOnce(&mut V, V),
    ) -> Result<()> {
        match self.values(state)?.cells.entry(address(0, key, namespace, &[])) {
            Entry::Occupied(mut cell) => combine(cell.get_mut().downcast_mut().ok_or_else(foreign)?, value),
            Entry::Vacant(free) => {
                free.insert(Box::new(value));
            }
        }
        Ok(())
    }

    fn value_take<V: Send + 'static, N: StateKey>(
        &mut self,
        state: ValueState<V, N>,
        key: Keyed<'_, K>,
        namespace: &N,
    ) -> Result<Option<V>> {
        taken(self.values(state)?.cells.remove(&address(0, key, namespace, &[])))
    }

    fn value_clear<V: Send + 'static, N: StateKey>(
        &mut self,
        state: ValueState<V, N>,
        key: Keyed<'_, K>,
        namespace: &N,
    ) -> Result<bool> {
        Ok(self.values(state)?.cells.remove(&address(0, key, namespace, &[])).is_some())
    }

    fn value_for_each<V: Send + 'static, N: StateKey>(
        &mut self,
        state: ValueState<V, N>,
        mut visit: impl FnMut(&K, &N, &V) -> Result<()>,
    ) -> Result<()> {
        for ((_, key, namespace, _), cell) in &self.values(state)?.cells {
            let value = cell.downcast_ref().ok_or_else(foreign)?;
            visit(&K::decode(key)?, &N::decode(namespace)?, value)?;
        }
        Ok(())
    }

    fn list_get<T: Send + 'static, N: StateKey>(
        &mut self,
        state: ListState<T, N>,
        key: Keyed<'_, K>,
        namespace: &N,
    ) -> Result<&[T]> {
        let cell = self.lists(state)?.cells.get(&address(0, key, namespace, &[]));
        Ok(cell.and_then(|cell| cell.downcast_ref::<Vec<T>>()).map_or(&[], Vec::as_slice))
    }

    fn list_append<T: Send + 'static, N: StateKey>(
        &mut self,
        state: ListState<T, N>,
        key: Keyed<'_, K>,
        namespace: &N,
        elements: impl IntoIterator<Item = T>,
    ) -> Result<()> {
        let cells = &mut self.lists(state)?.cells;
        let mut elements = elements.into_iter().peekable();
        if elements.peek().is_some() {
            let cell =
                cells.entry(address(0, key, namespace, &[])).or_insert_with(|| Box::new(Vec::<T>::new()));
            cell.downcast_mut::<Vec<T>>().ok_or_else(foreign)?.extend(elements);
        }
        Ok(())
    }

    fn list_put<T: Send + 'static, N: StateKey>(
        &mut self,
        state: ListState<T, N>,
        key: Keyed<'_, K>,
        namespace: &N,
        elements: Vec<T>,
    ) -> Result<()> {
        self.list_clear(state, key, namespace)?;
        self.list_append(state, key, namespace, elements)
    }

    fn list_take<T: Send + 'static, N: StateKey>(
        &mut self,
        state: ListState<T, N>,
        key: Keyed<'_, K>,
        namespace: &N,
    ) -> Result<Vec<T>> {
        Ok(taken(self.lists(state)?.cells.remove(&address(0, key, namespace, &[])))?.unwrap_or_default())
    }

    fn list_clear<T: Send + 'static, N: StateKey>(
        &mut self,
        state: ListState<T, N>,
        key: Keyed<'_, K>,
        namespace: &N,
    ) -> Result<bool> {
        Ok(self.lists(state)?.cells.remove(&address(0, key, namespace, &[])).is_some())
    }

    fn map_get<MK: StateKey, V: Send + 'static, N: StateKey>(
        &mut self,
        state: MapState<MK, V, N>,
        key: Keyed<'_, K>,
        namespace: &N,
        map_key: &MK,
    ) -> Result<Option<&V>> {
        let cell = self.maps(state)?.cells.get(&address(0, key, namespace, &bytes(map_key)));
        Ok(cell.and_then(|cell| cell.downcast_ref()))
    }

    fn map_put<MK: StateKey, V: Send + 'static, N: StateKey>(
        &mut self,
        state: MapState<MK, V, N>,
        key: Keyed<'_, K>,
        namespace: &N,
        map_key: MK,
        value: V,
    ) -> Result<()> {
        self.maps(state)?.cells.insert(address(0, key, namespace, &bytes(&map_key)), Box::new(value));
        Ok(())
    }

    fn map_take<MK: StateKey, V: Send + 'static, N: StateKey>(
        &mut self,
        state: MapState<MK, V, N>,
        key: Keyed<'_, K>,
        namespace: &N,
        map_key: &MK,
    ) -> Result<Option<V>> {
        taken(self.maps(state)?.cells.remove(&address(0, key, namespace, &bytes(map_key))))
    }

    fn map_remove<MK: StateKey, V: Send + 'static, N: StateKey>(
        &mut self,
        state: MapState<MK, V, N>,
        key: Keyed<'_, K>,
        namespace: &N,
        map_key: &MK,
    ) -> Result<bool> {
        Ok(self.maps(state)?.cells.remove(&address(0, key, namespace, &bytes(map_key))).is_some())
    }

    fn map_for_each<MK: StateKey, V: Send + 'static, N: StateKey>(
        &mut self,
        state: MapState<MK, V, N>,
        key: Keyed<'_, K>,
        namespace: &N,
        mut visit: impl FnMut(&MK, &V) -> Result<()>,
    ) -> Result<()> {
        for ((.., map_key), cell) in self.maps(state)?.of_key(key, namespace) {
            visit(&MK::decode(map_key)?, cell.downcast_ref().ok_or_else(foreign)?)?;
        }
        Ok(())
    }

    fn map_is_empty<MK: StateKey, V: Send + 'static, N: StateKey>(
        &mut self,
        state: MapState<MK, V, N>,
        key: Keyed<'_, K>,
        namespace: &N,
    ) -> Result<bool> {
        Ok(self.maps(state)?.of_key(key, namespace).next().is_none())
    }

    fn map_clear<MK: StateKey, V: Send + 'static, N: StateKey>(
        &mut self,
        state: MapState<MK, V, N>,
        key: Keyed<'_, K>,
        namespace: &N,
    ) -> Result<bool> {
        let table = self.maps(state)?;
        let all: Vec<Address> = table.of_key(key, namespace).map(|(at, _)| at.clone()).collect();
        for at in &all {
            table.cells.remove(at);
        }
        Ok(!all.is_empty())
    }

    fn timer_register<N: StateKey>(
        &mut self,
        service: TimerService<N>,
        key: Keyed<'_, K>,
        namespace: &N,
        time: i64,
    ) -> Result<bool> {
        Ok(self.timers(service)?.cells.insert(address(time, key, namespace, &[]), Box::new(())).is_none())
    }

    fn timer_delete<N: StateKey>(
        &mut self,
        service: TimerService<N>,
        key: Keyed<'_, K>,
        namespace: &N,
        time: i64,
    ) -> Result<bool> {
        Ok(self.timers(service)?.cells.remove(&address(time, key, namespace, &[])).is_some())
    }

    fn timer_pop<N: StateKey>(
        &mut self,
        service: TimerService<N>,
        up_to: i64,
    ) -> Result<Option<FiredTimer<K, N>>> {
        let cells = &mut self.timers(service)?.cells;
        if cells.first_key_value().is_none_or(|((time, ..), _)| *time > up_to) {
            return Ok(None);
        }
        let Some(((time, key, namespace, _), _)) = cells.pop_first() else { return Ok(None) };
        let (hash, key, namespace) = (KeyHash::of_encoded(&key), K::decode(&key)?, N::decode(&namespace)?);
        Ok(Some(FiredTimer { time, key, hash, namespace }))
    }

    fn timer_next<N: StateKey>(&mut self, service: TimerService<N>) -> Result<Option<i64>> {
        Ok(self.timers(service)?.cells.first_key_value().map(|((time, ..), _)| *time))
    }

    fn timer_for_each<N: StateKey>(
        &mut self,
        service: TimerService<N>,
        mut visit: impl FnMut(&FiredTimer<K, N>) -> Result<()>,
    ) -> Result<()> {
        for (time, key, namespace, _) in self.timers(service)?.cells.keys() {
            let (hash, key) = (KeyHash::of_encoded(key), K::decode(key)?);
            visit(&FiredTimer { time: *time, key, hash, namespace: N::decode(namespace)? })?;
        }
        Ok(())
    }

    fn for_each_key<S: StateHandle>(
        &mut self,
        state: S,
        key_groups: KeyGroupRange,
        mut visit: impl FnMut(Keyed<'_, K>, &S::Namespace) -> Result<()>,
    ) -> Result<()> {
        let cells = &self.tables.get(state.position()).ok_or_else(foreign)?.cells;
        let mut places: Vec<_> = cells.keys().map(|(_, key, namespace, _)| (key, namespace)).collect();
        places.dedup();
        for (key, namespace) in places {
            let hash = KeyHash::of_encoded(key);
            if key_groups.contains(KeyGroup::of(hash)) {
                visit(Keyed::with_hash(&K::decode(key)?, hash), &S::Namespace::decode(namespace)?)?;
            }
        }
        Ok(())
    }

    fn entries(&self) -> u64 {
        self.tables.iter().map(|table| table.cells.len() as u64).sum()
    }
}
