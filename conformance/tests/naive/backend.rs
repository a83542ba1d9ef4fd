//! The naive backend: registration, and the tables of the handles.

use std::any::TypeId;
use std::collections::{BTreeMap, VecDeque};
use std::marker::PhantomData;

use strandline_state_api::backend::{BackendScope, StateId, StateRegistry, StateTime, StoredValues};
use strandline_state_api::schema::{StateKind, StateSchema};
use strandline_state_api::{
    CheckpointId, KeyGroup, KeyGroupRange, KeyHash, Keyed, KeyedBackend, Result, StateKey,
};

use super::cells::Cells;
use super::snapshot::{StateRows, WholeState};
use super::table::{CellCodec, ListCells, Table, TimerCells, ValueCells};

/// Keyed state in sorted maps.
pub struct Naive<K> {
    pub registry: StateRegistry<Table>,
    /// The restored entries of states that were not registered.
    pub orphans: Vec<StateRows>,
    /// The snapshots under way.
    pub prepared: VecDeque<(CheckpointId, WholeState)>,
    pub clock: StateTime,
    key: PhantomData<fn() -> K>,
}

const VALUES: &[StateKind] = &[StateKind::Value, StateKind::Reducing, StateKind::Aggregating];
const TIMERS: &[StateKind] = &[StateKind::EventTimers, StateKind::ProcessingTimers];

impl<K: StateKey> Naive<K> {
    pub fn new(scope: BackendScope) -> Self {
        Self {
            registry: StateRegistry::new(scope),
            orphans: Vec::new(),
            prepared: VecDeque::new(),
            clock: StateTime::UNKNOWN,
            key: PhantomData,
        }
    }

    /// Registers a state whose cells have the types `T`.
    fn register<T: 'static>(
        &mut self,
        schema: &StateSchema,
        type_names: &'static str,
        codec: impl CellCodec + 'static,
    ) -> Result<StateId> {
        let types = TypeId::of::<T>();
        self.registry.register(
            schema,
            type_names,
            |known| known.types == types,
            |_| {
                let (schema, cells, codec) = (schema.clone(), BTreeMap::new(), Box::new(codec));
                Ok(Box::new(Table { schema, type_names, types, cells, lent: None, codec }))
            },
        )
    }

    /// Returns the cells of a handle, if the state has the kind and the types of the handle.
    fn cells<T: 'static>(&mut self, state: StateId, kinds: &[StateKind]) -> Result<Cells<'_>> {
        let (table, location) = self.registry.get_located(state)?;
        if table.types != TypeId::of::<T>() || !kinds.contains(&table.schema.meta.kind) {
            return Err(location.foreign_handle());
        }
        Ok(Cells { cells: &mut table.cells, lent: &mut table.lent, codec: table.codec.as_ref(), location })
    }
}

impl<K: StateKey> KeyedBackend for Naive<K> {
    type Key = K;
    type Values<'b, V: Send + 'static, N: StateKey> = Cells<'b>;
    type Lists<'b, T: Send + 'static, N: StateKey> = Cells<'b>;
    type Maps<'b, MK: StateKey, V: Send + 'static, N: StateKey> = Cells<'b>;
    type Timers<'b, N: StateKey> = Cells<'b>;

    fn scope(&self) -> &BackendScope {
        self.registry.scope()
    }

    fn clock(&mut self) -> &mut StateTime {
        &mut self.clock
    }

    fn schemas(&self) -> Vec<StateSchema> {
        self.registry.schemas()
    }

    fn entries(&self) -> u64 {
        self.registry.iter().map(|table| table.cells.len() as u64).sum()
    }

    fn register_values<V: Send + 'static, N: StateKey>(
        &mut self,
        values: StoredValues<V>,
    ) -> Result<StateId> {
        self.register::<(N, (), V)>(&values.schema().clone(), values.types(), ValueCells(values))
    }

    fn register_lists<T: Send + 'static, N: StateKey>(
        &mut self,
        elements: StoredValues<T>,
    ) -> Result<StateId> {
        self.register::<(N, (), Vec<T>)>(&elements.schema().clone(), elements.types(), ListCells(elements))
    }

    fn register_maps<MK: StateKey, V: Send + 'static, N: StateKey>(
        &mut self,
        values: StoredValues<V>,
    ) -> Result<StateId> {
        self.register::<(N, MK, V)>(&values.schema().clone(), values.types(), ValueCells(values))
    }

    fn register_timers<N: StateKey>(&mut self, schema: StateSchema) -> Result<StateId> {
        self.register::<(N, (), ())>(&schema.clone(), "timers", TimerCells(schema))
    }

    fn values<V: Send + 'static, N: StateKey>(&mut self, state: StateId) -> Result<Cells<'_>> {
        self.cells::<(N, (), V)>(state, VALUES)
    }

    fn lists<T: Send + 'static, N: StateKey>(&mut self, state: StateId) -> Result<Cells<'_>> {
        self.cells::<(N, (), Vec<T>)>(state, &[StateKind::List])
    }

    fn maps<MK: StateKey, V: Send + 'static, N: StateKey>(&mut self, state: StateId) -> Result<Cells<'_>> {
        self.cells::<(N, MK, V)>(state, &[StateKind::Map])
    }

    fn timers<N: StateKey>(&mut self, service: StateId) -> Result<Cells<'_>> {
        self.cells::<(N, (), ())>(service, TIMERS)
    }

    fn for_each_key<N: StateKey>(
        &mut self,
        state: StateId,
        key_groups: KeyGroupRange,
        mut visit: impl FnMut(Keyed<'_, K>, &N) -> Result<()>,
    ) -> Result<()> {
        let cells = &self.registry.get(state)?.cells;
        let mut addresses: Vec<_> = cells.keys().map(|(_, key, namespace, _)| (key, namespace)).collect();
        addresses.dedup();
        for (key, namespace) in addresses {
            let hash = KeyHash::of_encoded(key);
            if key_groups.contains(KeyGroup::of(hash)) {
                visit(Keyed::with_hash(&K::decode(key)?, hash), &N::decode(namespace)?)?;
            }
        }
        Ok(())
    }
}
