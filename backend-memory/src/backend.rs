//! The backend: its states by handle, and the methods that span all of them.

use std::any::{Any, type_name};
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::sync::Arc;

use strandline_snapshot_format::EntryRef;
use strandline_state_api::backend::{
    BackendScope, EncodedEntry, StateId, StateRegistry, StateTime, Statistic, StoredValues,
};
use strandline_state_api::schema::{StateMeta, StateSchema};
use strandline_state_api::snapshot::SnapshotPart;
use strandline_state_api::{
    Error, ErrorKind, KeyGroup, KeyGroupRange, KeyHash, Keyed, KeyedBackend, Result, StateKey,
};

use crate::chain::Chain;
use crate::options::MemoryOptions;
use crate::state::{ListTable, MapTable, MemoryState, TimerTable, ValueTable};
use crate::under_way::UnderWay;

/// Keyed state of one subtask as native values in memory. See the [crate](crate) for how it works.
#[derive(Debug)]
pub struct MemoryBackend<K> {
    pub(crate) options: MemoryOptions,
    pub(crate) states: StateRegistry<dyn MemoryState>,
    /// The current epoch, equal in all tables.
    pub(crate) epoch: u32,
    /// The snapshots that are prepared and not drained, oldest first.
    pub(crate) under_way: VecDeque<UnderWay>,
    /// Whether the next snapshot must be a base, because the files before it do not go with a delta.
    pub(crate) needs_base: bool,
    /// The files that the state was restored from, as long as deltas may follow them.
    pub(crate) restored: Vec<SnapshotPart>,
    /// The forms in which those files hold registered states, other than the current ones, until a base of
    /// the current forms takes their place.
    pub(crate) older_forms: Vec<StateMeta>,
    /// What the first phase and the writer share.
    pub(crate) chain: Arc<Chain>,
    pub(crate) clock: StateTime,
    key: PhantomData<fn() -> K>,
}

impl<K: StateKey> MemoryBackend<K> {
    /// Creates an empty backend.
    pub fn new(scope: BackendScope, options: MemoryOptions) -> Self {
        Self {
            options,
            states: StateRegistry::new(scope),
            epoch: 1,
            under_way: VecDeque::new(),
            needs_base: false,
            restored: Vec::new(),
            older_forms: Vec::new(),
            chain: Arc::default(),
            clock: StateTime::UNKNOWN,
            key: PhantomData,
        }
    }

    fn register<S: MemoryState>(
        &mut self,
        schema: &StateSchema,
        types: &'static str,
        make: impl FnOnce(KeyGroupRange, u32) -> S,
    ) -> Result<StateId> {
        let epoch = self.epoch;
        self.states.register(
            schema,
            types,
            |known| (known as &dyn Any).is::<S>(),
            |scope| Ok(Box::new(make(scope.key_groups, epoch))),
        )
    }

    /// Returns the table of a state, for one access.
    #[inline]
    fn table<S: MemoryState>(&mut self, id: StateId) -> Result<&mut S> {
        let state: &mut dyn Any = self.states.get_mut(id)?;
        let table: &mut S = state.downcast_mut().ok_or_else(wrong_types)?;
        table.accessed();
        Ok(table)
    }
}

#[cold]
fn no_state(state: &str) -> Error {
    Error::new(ErrorKind::NotFound, "the operator has no such state").with("state", state)
}

#[cold]
fn wrong_types() -> Error {
    Error::invalid("the state handle has other types than its state: use the one of the registration")
}

impl<K: StateKey> KeyedBackend for MemoryBackend<K> {
    type Key = K;
    type Values<'b, V: Send + 'static, N: StateKey> = &'b mut ValueTable<K, N, V>;
    type Lists<'b, T: Send + 'static, N: StateKey> = &'b mut ListTable<K, N, T>;
    type Maps<'b, MK: StateKey, V: Send + 'static, N: StateKey> = &'b mut MapTable<K, N, MK, V>;
    type Timers<'b, N: StateKey> = &'b mut TimerTable<K, N>;

    // A core has some ten to twenty cache misses under way at once; a longer burst of them would wait.
    const PREFETCH: usize = 16;

    #[inline]
    fn scope(&self) -> &BackendScope {
        self.states.scope()
    }

    #[inline]
    fn clock(&mut self) -> &mut StateTime {
        &mut self.clock
    }

    fn schemas(&self) -> Vec<StateSchema> {
        self.states.schemas()
    }

    fn entries(&self) -> u64 {
        self.states.iter().map(MemoryState::entries).sum()
    }

    fn register_values<V: Send + 'static, N: StateKey>(
        &mut self,
        values: StoredValues<V>,
    ) -> Result<StateId> {
        self.register(&values.schema().clone(), values.types(), |key_groups, epoch| {
            ValueTable::<K, N, V>::new(values, key_groups, epoch)
        })
    }

    fn register_lists<T: Send + 'static, N: StateKey>(
        &mut self,
        elements: StoredValues<T>,
    ) -> Result<StateId> {
        self.register(&elements.schema().clone(), elements.types(), |key_groups, epoch| {
            ListTable::<K, N, T>::new(elements, key_groups, epoch)
        })
    }

    fn register_maps<MK: StateKey, V: Send + 'static, N: StateKey>(
        &mut self,
        values: StoredValues<V>,
    ) -> Result<StateId> {
        self.register(&values.schema().clone(), values.types(), |key_groups, epoch| {
            MapTable::<K, N, MK, V>::new(values, key_groups, epoch)
        })
    }

    fn register_timers<N: StateKey>(&mut self, schema: StateSchema) -> Result<StateId> {
        self.register(&schema.clone(), type_name::<N>(), |key_groups, epoch| {
            TimerTable::<K, N>::new(schema, key_groups, epoch)
        })
    }

    #[inline]
    fn values<V: Send + 'static, N: StateKey>(&mut self, state: StateId) -> Result<Self::Values<'_, V, N>> {
        self.table(state)
    }

    #[inline]
    fn lists<T: Send + 'static, N: StateKey>(&mut self, state: StateId) -> Result<Self::Lists<'_, T, N>> {
        self.table(state)
    }

    #[inline]
    fn maps<MK: StateKey, V: Send + 'static, N: StateKey>(
        &mut self,
        state: StateId,
    ) -> Result<Self::Maps<'_, MK, V, N>> {
        self.table(state)
    }

    #[inline]
    fn timers<N: StateKey>(&mut self, service: StateId) -> Result<Self::Timers<'_, N>> {
        self.table(service)
    }

    fn for_each_key<N: StateKey>(
        &mut self,
        state: StateId,
        key_groups: KeyGroupRange,
        mut visit: impl FnMut(Keyed<'_, K>, &N) -> Result<()>,
    ) -> Result<()> {
        let key_groups = key_groups.intersect(self.scope().key_groups);
        self.states.get(state)?.for_each_key(key_groups, &mut |hash, key, namespace| {
            if !key_groups.contains(KeyGroup::of(hash)) {
                return Ok(());
            }
            let key = key.downcast_ref().ok_or_else(wrong_types)?;
            let namespace = namespace.downcast_ref().ok_or_else(wrong_types)?;
            visit(Keyed::with_hash(key, hash), namespace)
        })
    }

    fn look_up(
        &mut self,
        state: &str,
        key: Keyed<'_, K>,
        visit: &mut dyn FnMut(EncodedEntry<'_>) -> Result<()>,
    ) -> Result<()> {
        let found = self.states.iter().find(|known| known.meta().name == state);
        let found = found.ok_or_else(|| self.states.scope().locate(no_state(state)))?;
        let (layout, mut records) = (found.layout(), Vec::new());
        found.look_up(key.key(), key.hash(), &mut records)?;
        let mut rest = &records[..];
        while let Some((EntryRef { namespace, sub, value, .. }, length)) = layout.split(rest) {
            visit(EncodedEntry { namespace, map_key: sub, value })?;
            rest = &rest[length..];
        }
        Ok(())
    }

    fn clean_up(&mut self, records: usize) -> Result<u64> {
        let Self { states, clock, .. } = self;
        Ok(states.iter_mut().map(|state| state.clean_up(records, clock)).sum())
    }

    #[inline]
    fn prefetch(&mut self, _: &[K], hashes: &[KeyHash]) -> Result<()> {
        self.states.iter_mut().for_each(|state| state.prefetch(hashes));
        Ok(())
    }

    fn statistics(&self) -> Vec<Statistic> {
        vec![Statistic::of_backend("unstored_snapshot_bytes", self.chain.held().bytes as u64)]
    }
}
