//! The naive backend: registration, and the tables of the handles.

use std::marker::PhantomData;

use strandline_snapshot_format::whole::WholeStates;
use strandline_state_api::backend::{BackendScope, DelegateSnapshots, StateId, StateTime, StoredValues};
use strandline_state_api::schema::StateSchema;
use strandline_state_api::{KeyGroupRange, Keyed, KeyedBackend, Result, StateKey};

use super::cells::{Cells, OfLists, OfMaps, OfTimers, OfValues};

/// Keyed state in sorted maps.
pub struct Naive<K>(pub WholeStates<K>);

impl<K: StateKey> KeyedBackend for Naive<K> {
    type Key = K;
    type Values<'b, V: Send + 'static, N: StateKey> = &'b mut Cells<OfValues, V>;
    type Lists<'b, T: Send + 'static, N: StateKey> = &'b mut Cells<OfLists<T>, Vec<T>>;
    type Maps<'b, MK: StateKey, V: Send + 'static, N: StateKey> = &'b mut Cells<OfMaps<MK>, V>;
    type Timers<'b, N: StateKey> = &'b mut Cells<OfTimers, ()>;

    fn scope(&self) -> &BackendScope {
        self.0.scope()
    }

    fn clock(&mut self) -> &mut StateTime {
        self.0.clock()
    }

    fn schemas(&self) -> Vec<StateSchema> {
        self.0.schemas()
    }

    fn entries(&self) -> u64 {
        self.0.entries()
    }

    fn register_values<V: Send + 'static, N: StateKey>(
        &mut self,
        values: StoredValues<V>,
    ) -> Result<StateId> {
        self.0.register::<N, _>(values, Cells::new(OfValues))
    }

    fn register_lists<T: Send + 'static, N: StateKey>(
        &mut self,
        elements: StoredValues<T>,
    ) -> Result<StateId> {
        let cells = Cells::new(OfLists(elements.clone()));
        self.0.register_lists::<N, T, _>(elements, cells)
    }

    fn register_maps<MK: StateKey, V: Send + 'static, N: StateKey>(
        &mut self,
        values: StoredValues<V>,
    ) -> Result<StateId> {
        self.0.register::<N, _>(values, Cells::new(OfMaps(PhantomData::<MK>)))
    }

    fn register_timers<N: StateKey>(&mut self, schema: StateSchema) -> Result<StateId> {
        self.0.register_timers::<N, _>(schema, Cells::new(OfTimers))
    }

    fn values<V: Send + 'static, N: StateKey>(&mut self, state: StateId) -> Result<Self::Values<'_, V, N>> {
        self.0.table::<N, _>(state)
    }

    fn lists<T: Send + 'static, N: StateKey>(&mut self, state: StateId) -> Result<Self::Lists<'_, T, N>> {
        self.0.table::<N, _>(state)
    }

    fn maps<MK: StateKey, V: Send + 'static, N: StateKey>(
        &mut self,
        state: StateId,
    ) -> Result<Self::Maps<'_, MK, V, N>> {
        self.0.table::<N, _>(state)
    }

    fn timers<N: StateKey>(&mut self, service: StateId) -> Result<Self::Timers<'_, N>> {
        self.0.table::<N, _>(service)
    }

    fn for_each_key<N: StateKey>(
        &mut self,
        state: StateId,
        key_groups: KeyGroupRange,
        visit: impl FnMut(Keyed<'_, K>, &N) -> Result<()>,
    ) -> Result<()> {
        self.0.for_each_key(state, key_groups, visit)
    }
}

impl<K: StateKey> DelegateSnapshots for Naive<K> {
    type Delegate = WholeStates<K>;

    fn delegate(&mut self) -> &mut WholeStates<K> {
        &mut self.0
    }
}
