//! The contract of a keyed state backend.

use std::ops::{Bound, RangeBounds};

use async_trait::async_trait;

use crate::{
    KeyGroupRange, KeyHash, KeyScope, Keyed, KeyedSnapshot, ListDescriptor, ListState, MapDescriptor,
    MapState, OperatorId, Result, SegmentStore, SnapshotSource, StateDescriptor, StateHandle, StateKey,
    StateSchema, StateTime, TimerDescriptor, TimerService, ValueDescriptor, ValueState,
};

/// Keyed state of one subtask of one operator (Flink: `KeyedStateBackend`).
///
/// Reading lends, updating takes. A call never awaits and never looks a state up by its name: states are registered once,
/// before the first restore or record, and then addressed by their handles. The key comes with its hash, which is
/// computed once per record. Most code uses the shorter [`KeyScope`](crate::KeyScope).
///
/// # Errors
/// Every access fails with [`Invalid`](crate::ErrorKind::Invalid) when the handle is of another backend, and with
/// [`Unavailable`](crate::ErrorKind::Unavailable) when a store beneath fails. A backend in memory has neither in practice.
pub trait KeyedBackend: Send {
    /// The type of all keys of this operator.
    type Key: StateKey;

    /// Registers a value state. The same name with the same types gives the same handle.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) when the name is taken by a state of another kind or type, or when state of
    /// this name was restored before it was registered.
    fn register_value<V: Send + 'static, N: StateKey>(
        &mut self,
        descriptor: &ValueDescriptor<V, N>,
    ) -> Result<ValueState<V, N>>;

    /// Registers a list state; as [`register_value`](Self::register_value).
    ///
    /// # Errors
    /// As there.
    fn register_list<T: Send + 'static, N: StateKey>(
        &mut self,
        descriptor: &ListDescriptor<T, N>,
    ) -> Result<ListState<T, N>>;

    /// Registers a map state; as [`register_value`](Self::register_value).
    ///
    /// # Errors
    /// As there.
    fn register_map<MK: StateKey, V: Send + 'static, N: StateKey>(
        &mut self,
        descriptor: &MapDescriptor<MK, V, N>,
    ) -> Result<MapState<MK, V, N>>;

    /// Registers a timer service; as [`register_value`](Self::register_value).
    ///
    /// # Errors
    /// As there.
    fn register_timers<N: StateKey>(&mut self, descriptor: &TimerDescriptor<N>) -> Result<TimerService<N>>;

    /// Registers a state of any kind; the handle is that of its kind.
    ///
    /// # Errors
    /// Those of [`register_value`](Self::register_value).
    fn register<D: StateDescriptor>(&mut self, descriptor: &D) -> Result<D::State>
    where
        Self: Sized,
    {
        descriptor.register(self)
    }

    /// What is registered, in that order.
    fn schemas(&self) -> Vec<StateSchema>;

    /// What time it is: set by whoever drives the backend, read where state has a time-to-live.
    fn clock(&mut self) -> &mut StateTime;

    /// The value of (key, namespace), if there is one.
    fn value_get<V: Send + 'static, N: StateKey>(
        &mut self,
        state: ValueState<V, N>,
        key: Keyed<'_, Self::Key>,
        namespace: &N,
    ) -> Result<Option<&V>>;

    /// The value of (key, namespace) if `keep` says so; otherwise it is removed.
    fn value_get_if<V: Send + 'static, N: StateKey>(
        &mut self,
        state: ValueState<V, N>,
        key: Keyed<'_, Self::Key>,
        namespace: &N,
        keep: impl FnOnce(&V) -> bool,
    ) -> Result<Option<&V>> {
        match self.value_get(state, key, namespace)? {
            Some(value) if keep(value) => self.value_get(state, key, namespace),
            Some(_) => self.value_clear(state, key, namespace).map(|_| None),
            None => Ok(None),
        }
    }

    /// Sets the value.
    fn value_put<V: Send + 'static, N: StateKey>(
        &mut self,
        state: ValueState<V, N>,
        key: Keyed<'_, Self::Key>,
        namespace: &N,
        value: V,
    ) -> Result<()>;

    /// Reads, changes and writes the value in one access; where there is none, `initial` makes one first.
    fn value_modify<V: Send + 'static, N: StateKey, R>(
        &mut self,
        state: ValueState<V, N>,
        key: Keyed<'_, Self::Key>,
        namespace: &N,
        initial: impl FnOnce() -> V,
        change: impl FnOnce(&mut V) -> R,
    ) -> Result<R>;

    /// Changes the value in one access, if there is one; says whether there was.
    fn value_update<V: Send + 'static, N: StateKey>(
        &mut self,
        state: ValueState<V, N>,
        key: Keyed<'_, Self::Key>,
        namespace: &N,
        change: impl FnOnce(&mut V),
    ) -> Result<bool> {
        let Some(mut value) = self.value_take(state, key, namespace)? else { return Ok(false) };
        change(&mut value);
        self.value_put(state, key, namespace, value).map(|()| true)
    }

    /// Combines a value with the one that is there, in one access; where there is none, sets it.
    fn value_merge<V: Send + 'static, N: StateKey>(
        &mut self,
        state: ValueState<V, N>,
        key: Keyed<'_, Self::Key>,
        namespace: &N,
        value: V,
        combine: impl FnOnce(&mut V, V),
    ) -> Result<()>;

    /// Removes the value and gives it.
    fn value_take<V: Send + 'static, N: StateKey>(
        &mut self,
        state: ValueState<V, N>,
        key: Keyed<'_, Self::Key>,
        namespace: &N,
    ) -> Result<Option<V>>;

    /// Removes the value; says whether there was one.
    fn value_clear<V: Send + 'static, N: StateKey>(
        &mut self,
        state: ValueState<V, N>,
        key: Keyed<'_, Self::Key>,
        namespace: &N,
    ) -> Result<bool>;

    /// Visits every value of this subtask, in no promised order; stops at the first error.
    fn value_for_each<V: Send + 'static, N: StateKey>(
        &mut self,
        state: ValueState<V, N>,
        visit: impl FnMut(&Self::Key, &N, &V) -> Result<()>,
    ) -> Result<()>;

    /// Asks for the values of keys that will be accessed soon, so that a batch of records waits once and not record by
    /// record. Only a hint; changes nothing that can be observed.
    fn value_prefetch<V: Send + 'static, N: StateKey>(
        &mut self,
        _state: ValueState<V, N>,
        _keys: &mut dyn Iterator<Item = (KeyHash, &Self::Key)>,
    ) -> Result<()> {
        Ok(())
    }

    /// The elements in the order in which they were added; empty when there are none.
    fn list_get<T: Send + 'static, N: StateKey>(
        &mut self,
        state: ListState<T, N>,
        key: Keyed<'_, Self::Key>,
        namespace: &N,
    ) -> Result<&[T]>;

    /// Adds elements at the end, without reading what is there.
    fn list_append<T: Send + 'static, N: StateKey>(
        &mut self,
        state: ListState<T, N>,
        key: Keyed<'_, Self::Key>,
        namespace: &N,
        elements: impl IntoIterator<Item = T>,
    ) -> Result<()>;

    /// Replaces all elements; an empty list clears.
    fn list_put<T: Send + 'static, N: StateKey>(
        &mut self,
        state: ListState<T, N>,
        key: Keyed<'_, Self::Key>,
        namespace: &N,
        elements: Vec<T>,
    ) -> Result<()>;

    /// Removes all elements and gives them.
    fn list_take<T: Send + 'static, N: StateKey>(
        &mut self,
        state: ListState<T, N>,
        key: Keyed<'_, Self::Key>,
        namespace: &N,
    ) -> Result<Vec<T>>;

    /// Removes all elements; says whether there were any.
    fn list_clear<T: Send + 'static, N: StateKey>(
        &mut self,
        state: ListState<T, N>,
        key: Keyed<'_, Self::Key>,
        namespace: &N,
    ) -> Result<bool>;

    /// The value of one map entry, if there is one.
    fn map_get<MK: StateKey, V: Send + 'static, N: StateKey>(
        &mut self,
        state: MapState<MK, V, N>,
        key: Keyed<'_, Self::Key>,
        namespace: &N,
        map_key: &MK,
    ) -> Result<Option<&V>>;

    /// Sets one map entry.
    fn map_put<MK: StateKey, V: Send + 'static, N: StateKey>(
        &mut self,
        state: MapState<MK, V, N>,
        key: Keyed<'_, Self::Key>,
        namespace: &N,
        map_key: MK,
        value: V,
    ) -> Result<()>;

    /// Removes one map entry and gives its value.
    fn map_take<MK: StateKey, V: Send + 'static, N: StateKey>(
        &mut self,
        state: MapState<MK, V, N>,
        key: Keyed<'_, Self::Key>,
        namespace: &N,
        map_key: &MK,
    ) -> Result<Option<V>>;

    /// Removes one map entry; says whether there was one.
    fn map_remove<MK: StateKey, V: Send + 'static, N: StateKey>(
        &mut self,
        state: MapState<MK, V, N>,
        key: Keyed<'_, Self::Key>,
        namespace: &N,
        map_key: &MK,
    ) -> Result<bool>;

    /// Whether there is an entry of this map key.
    fn map_contains<MK: StateKey, V: Send + 'static, N: StateKey>(
        &mut self,
        state: MapState<MK, V, N>,
        key: Keyed<'_, Self::Key>,
        namespace: &N,
        map_key: &MK,
    ) -> Result<bool> {
        Ok(self.map_get(state, key, namespace, map_key)?.is_some())
    }

    /// Visits every entry of the map of (key, namespace), in no promised order; stops at the first error.
    fn map_for_each<MK: StateKey, V: Send + 'static, N: StateKey>(
        &mut self,
        state: MapState<MK, V, N>,
        key: Keyed<'_, Self::Key>,
        namespace: &N,
        visit: impl FnMut(&MK, &V) -> Result<()>,
    ) -> Result<()>;

    /// Visits the entries of the map of (key, namespace) whose map key lies in `range`, ascending by the encoding of the map
    /// key (for numbers and texts that is their own order); stops at the first error.
    fn map_range<MK: StateKey, V: Send + 'static, N: StateKey>(
        &mut self,
        state: MapState<MK, V, N>,
        key: Keyed<'_, Self::Key>,
        namespace: &N,
        range: impl RangeBounds<MK>,
        mut visit: impl FnMut(&MK, &V) -> Result<()>,
    ) -> Result<()> {
        let range = encoded_range(&range);
        let mut found = Vec::new();
        self.map_for_each(state, key, namespace, |map_key, _| {
            let mut encoded = Vec::with_capacity(MK::WIDTH.unwrap_or(32));
            map_key.encode(&mut encoded);
            if range.contains(&encoded) {
                found.push((encoded, map_key.clone()));
            }
            Ok(())
        })?;
        found.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        for (_, map_key) in &found {
            if let Some(value) = self.map_get(state, key, namespace, map_key)? {
                visit(map_key, value)?;
            }
        }
        Ok(())
    }

    /// Whether the map has no entry.
    fn map_is_empty<MK: StateKey, V: Send + 'static, N: StateKey>(
        &mut self,
        state: MapState<MK, V, N>,
        key: Keyed<'_, Self::Key>,
        namespace: &N,
    ) -> Result<bool>;

    /// Removes all entries; says whether there were any.
    fn map_clear<MK: StateKey, V: Send + 'static, N: StateKey>(
        &mut self,
        state: MapState<MK, V, N>,
        key: Keyed<'_, Self::Key>,
        namespace: &N,
    ) -> Result<bool>;

    /// Registers a timer; says whether it is new (equal ones collapse into one).
    fn timer_register<N: StateKey>(
        &mut self,
        service: TimerService<N>,
        key: Keyed<'_, Self::Key>,
        namespace: &N,
        time: i64,
    ) -> Result<bool>;

    /// Deletes a timer; says whether there was one.
    fn timer_delete<N: StateKey>(
        &mut self,
        service: TimerService<N>,
        key: Keyed<'_, Self::Key>,
        namespace: &N,
        time: i64,
    ) -> Result<bool>;

    /// Takes the earliest timer that stands at `up_to` or before. Timers of one time come in no promised order.
    fn timer_pop<N: StateKey>(
        &mut self,
        service: TimerService<N>,
        up_to: i64,
    ) -> Result<Option<FiredTimer<Self::Key, N>>>;

    /// A time that no timer stands before: that of the earliest timer, if there is one.
    fn timer_next<N: StateKey>(&mut self, service: TimerService<N>) -> Result<Option<i64>>;

    /// Visits every timer of this subtask, in no promised order; stops at the first error.
    fn timer_for_each<N: StateKey>(
        &mut self,
        service: TimerService<N>,
        visit: impl FnMut(&FiredTimer<Self::Key, N>) -> Result<()>,
    ) -> Result<()>;

    /// Visits every key and namespace with state of this handle whose key group lies in `key_groups`, each once, in no
    /// promised order; stops at the first error. Timers are no such state.
    fn for_each_key<S: StateHandle>(
        &mut self,
        state: S,
        key_groups: KeyGroupRange,
        visit: impl FnMut(Keyed<'_, Self::Key>, &S::Namespace) -> Result<()>,
    ) -> Result<()>;

    /// Calls `apply` with every key that has state of this handle in `namespace` (Flink: `applyToAllKeys`). It may change
    /// any state of that key. Keys that come into being meanwhile may be visited or not; stops at the first error.
    ///
    /// Takes memory for the keys of one part of the key groups at a time, not for all.
    fn apply_to_all_keys<S: StateHandle>(
        &mut self,
        state: S,
        namespace: &S::Namespace,
        mut apply: impl FnMut(&mut KeyScope<'_, Self>) -> Result<()>,
    ) -> Result<()>
    where
        Self: Sized,
    {
        // About as many keys a part as fit a cache; a small state is walked once.
        let parts = (self.entries() / 8192).clamp(1, 256) as u32;
        for part in 0..parts {
            let mut keys = Vec::new();
            self.for_each_key(state, KeyGroupRange::of_subtask(part, parts), |key, of| {
                if of == namespace {
                    keys.push((key.hash(), key.key().clone()));
                }
                Ok(())
            })?;
            for (hash, key) in &keys {
                apply(&mut KeyScope::new(self, Keyed::with_hash(key, *hash)))?;
            }
        }
        Ok(())
    }

    /// After so many records: looks on at the entries of states with a time-to-live, as many for each record as their
    /// [`Cleanup`](crate::Cleanup) says, and removes what has expired; says how many. Called every few hundred records by
    /// whoever drives the backend.
    fn clean_up(&mut self, _records: usize) -> Result<u64> {
        Ok(0)
    }

    /// How many entries there are (values, lists, map entries, timers), as far as the backend knows.
    fn entries(&self) -> u64;

    /// What the backend tells of its inner life, for reports and logs: pairs of a name and a number, where the name holds the
    /// unit. Asked for once per checkpoint.
    fn statistics(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}

/// The bounds of `range`, encoded; encodings keep the order.
pub fn encoded_range<K: StateKey>(range: &impl RangeBounds<K>) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    let encode = |key: &K| {
        let mut encoded = Vec::with_capacity(K::WIDTH.unwrap_or(32));
        key.encode(&mut encoded);
        encoded
    };
    (range.start_bound().map(encode), range.end_bound().map(encode))
}

/// A timer that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FiredTimer<K, N> {
    /// When it stood, in milliseconds.
    pub time: i64,
    /// The key that it was registered for.
    pub key: K,
    /// The hash of that key.
    pub hash: KeyHash,
    /// The namespace that it was registered for.
    pub namespace: N,
}

/// What a restore found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Entries that were read (deltas may replace earlier ones).
    pub entries: u64,
    /// Bytes that were read from the store.
    pub bytes: u64,
    /// States of the snapshot that no registered state claims. They are kept and written again.
    pub unclaimed: Vec<String>,
}

/// A backend that can be filled from snapshots.
#[async_trait]
pub trait RestoreSnapshot {
    /// Fills the empty backend with those entries of `snapshots` that lie in its own key groups.
    ///
    /// All states must be registered before. After an error the backend is unusable.
    ///
    /// # Errors
    /// [`Corrupt`](crate::ErrorKind::Corrupt) and [`NotFound`](crate::ErrorKind::NotFound) name the segment;
    /// [`Incompatible`](crate::ErrorKind::Incompatible) names the state and both codecs or versions;
    /// [`Invalid`](crate::ErrorKind::Invalid) when the backend is not empty.
    async fn restore(&mut self, snapshots: &[KeyedSnapshot], store: &dyn SegmentStore) -> Result<Restored>;
}

/// A backend with everything that a checkpointed job needs.
pub trait CheckpointedBackend: KeyedBackend + SnapshotSource + RestoreSnapshot {}

impl<B: KeyedBackend + SnapshotSource + RestoreSnapshot> CheckpointedBackend for B {}

/// Whose state a backend will hold.
#[derive(Clone, Debug)]
pub struct BackendScope {
    /// The operator.
    pub operator: OperatorId,
    /// Which of its subtasks, from 0.
    pub subtask: u32,
    /// The key groups of that subtask. Access to a key outside of them is a bug of the caller.
    pub key_groups: KeyGroupRange,
}

impl BackendScope {
    /// All key groups of `operator`: for a program without parallel subtasks.
    ///
    /// # Errors
    /// When `operator` is no [`OperatorId`].
    pub fn whole(operator: &str) -> Result<Self> {
        Ok(Self { operator: OperatorId::new(operator)?, subtask: 0, key_groups: KeyGroupRange::ALL })
    }
}

/// Makes backends of one kind: what a job, a conformance run or a bench is generic over.
pub trait BackendFactory: Clone + Send + Sync + 'static {
    /// The backend for keys of type `K`.
    type Backend<K: StateKey>: CheckpointedBackend<Key = K> + 'static;

    /// The name in job files and reports, for example `memory`.
    fn name(&self) -> &'static str;

    /// Makes an empty backend.
    ///
    /// # Errors
    /// When its resources cannot be had.
    fn create<K: StateKey>(&self, scope: BackendScope) -> Result<Self::Backend<K>>;
}
