//! The contract of a keyed state backend.

use async_trait::async_trait;

use super::{BackendScope, Lists, Maps, SnapshotSource, StateId, StoredValues, Timers, Values};
use crate::access::{KeyScope, StateHandle};
use crate::schema::StateSchema;
use crate::snapshot::{KeyedSnapshot, SegmentStore};
use crate::state::{Lifespan, StateDescriptor, ValueState};
use crate::time::StateTime;
use crate::{Error, ErrorKind, KeyGroupRange, KeyHash, Keyed, Result, StateKey};

/// Keyed state of one subtask of one operator (Flink: `KeyedStateBackend`).
///
/// A read lends a reference, and a write takes the value. No call awaits, and none looks a state up by its
/// name: an operator registers its states once, before the first restore or record, and handles address them
/// from then on. The key comes with its hash, which is computed once per record.
///
/// Code that uses state needs only the bound `B: KeyedBackend`, a [descriptor](StateDescriptor) to register,
/// and the [`KeyScope`] of a key. The methods below are for authors of backends; see
/// [`backend`](crate::backend) for the kit.
pub trait KeyedBackend: Send + Sized {
    /// The type of all keys of this operator.
    type Key: StateKey;

    /// The table of a value state, borrowed for one access.
    type Values<'b, V: Send + 'static, N: StateKey>: Values<'b, Self::Key, N, V>
    where
        Self: 'b;

    /// The table of a list state, borrowed for one access.
    type Lists<'b, T: Send + 'static, N: StateKey>: Lists<'b, Self::Key, N, T>
    where
        Self: 'b;

    /// The table of a map state, borrowed for one access.
    type Maps<'b, MK: StateKey, V: Send + 'static, N: StateKey>: Maps<'b, Self::Key, N, MK, V>
    where
        Self: 'b;

    /// The timers of a service, borrowed for one access.
    type Timers<'b, N: StateKey>: Timers<'b, Self::Key, N>
    where
        Self: 'b;

    /// How many keys the driver [announces](Self::prefetch) at once, while it works on as many: those whose memory or
    /// disk the backend can wait for together.
    const PREFETCH: usize = 64;

    /// Returns the scope of the state: operator, subtask and key groups.
    fn scope(&self) -> &BackendScope;

    /// Lends the clock of the backend. The driver sets the clock; the backend reads it for states with a
    /// time-to-live.
    fn clock(&mut self) -> &mut StateTime;

    /// Returns the schemas of all registered states, in the order of registration.
    fn schemas(&self) -> Vec<StateSchema>;

    /// Counts the entries (values, lists, map entries, timers), as far as the backend knows them.
    fn entries(&self) -> u64;

    /// Registers a value state. A [descriptor](StateDescriptor) calls this after it has checked itself.
    ///
    /// # Errors
    /// Those of [`StateDescriptor::register`], for the other kinds, too.
    fn register_values<V: Send + 'static, N: StateKey>(&mut self, values: StoredValues<V>)
    -> Result<StateId>;

    /// Registers a list state whose elements have the type `T`.
    fn register_lists<T: Send + 'static, N: StateKey>(
        &mut self,
        elements: StoredValues<T>,
    ) -> Result<StateId> {
        Err(unsupported(self, elements.meta().kind))
    }

    /// Registers a map state.
    fn register_maps<MK: StateKey, V: Send + 'static, N: StateKey>(
        &mut self,
        values: StoredValues<V>,
    ) -> Result<StateId> {
        Err(unsupported(self, values.meta().kind))
    }

    /// Registers a timer service.
    fn register_timers<N: StateKey>(&mut self, schema: StateSchema) -> Result<StateId> {
        Err(unsupported(self, schema.meta.kind))
    }

    /// Returns the table of a value state.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) for a handle of another backend, for the other kinds, too.
    fn values<V: Send + 'static, N: StateKey>(&mut self, state: StateId) -> Result<Self::Values<'_, V, N>>;

    /// Returns the table of a list state.
    fn lists<T: Send + 'static, N: StateKey>(&mut self, _state: StateId) -> Result<Self::Lists<'_, T, N>> {
        Err(unsupported(self, "list"))
    }

    /// Returns the table of a map state.
    fn maps<MK: StateKey, V: Send + 'static, N: StateKey>(
        &mut self,
        _state: StateId,
    ) -> Result<Self::Maps<'_, MK, V, N>> {
        Err(unsupported(self, "map"))
    }

    /// Returns the timers of a service.
    fn timers<N: StateKey>(&mut self, _service: StateId) -> Result<Self::Timers<'_, N>> {
        Err(unsupported(self, "timer"))
    }

    /// Visits every key and namespace of a state whose key group lies in `key_groups`, each once, in
    /// arbitrary order; stops at the first error. The state must not be a timer service.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) for a handle of another backend, and those of `visit`.
    fn for_each_key<N: StateKey>(
        &mut self,
        state: StateId,
        key_groups: KeyGroupRange,
        visit: impl FnMut(Keyed<'_, Self::Key>, &N) -> Result<()>,
    ) -> Result<()>;

    /// Visits the entries of one key of a state as a snapshot would hold them now, in any order; stops at the first
    /// error. So somebody outside of the job sees a state between two records. The state must not be a timer service.
    /// Values that have expired are visited as long as nothing has removed them. (Flink: queryable state)
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) when no registered state has the name; [`Unsupported`](ErrorKind::Unsupported)
    /// for a timer service, and in a backend without look-ups; those of `visit`, of the codec and of the store.
    fn look_up(
        &mut self,
        state: &str,
        _key: Keyed<'_, Self::Key>,
        _visit: &mut dyn FnMut(EncodedEntry<'_>) -> Result<()>,
    ) -> Result<()> {
        let message =
            "this backend answers no look-ups from outside; read a checkpoint, or choose another backend";
        Err(self.scope().locate(Error::new(ErrorKind::Unsupported, message).with("state", state)))
    }

    /// Scans some entries of states with a time-to-live for expired values and removes them; returns the
    /// number removed.
    ///
    /// The driver calls this every few hundred records. `records` is their number since the last call: for
    /// each of them the backend scans as many entries as [`Cleanup::per_record`](crate::Cleanup::per_record)
    /// asks for.
    ///
    /// # Errors
    /// Fails when the underlying store fails.
    fn clean_up(&mut self, _records: usize) -> Result<u64> {
        Ok(0)
    }

    /// Announces the keys of the next records, with their hashes, so that a batch of records waits once for memory or
    /// disk, and not record by record. The call has no observable effect.
    ///
    /// The driver calls this for each batch. The backend knows which states are accessed for most keys: see
    /// [`Demand`](super::Demand).
    ///
    /// # Errors
    /// Fails when the underlying store fails.
    fn prefetch(&mut self, _keys: &[Self::Key], _hashes: &[KeyHash]) -> Result<()> {
        Ok(())
    }

    /// Returns measurements of the backend for reports and logs. The runtime calls this once per checkpoint.
    fn statistics(&self) -> Vec<Statistic> {
        Vec::new()
    }
}

#[cold]
fn unsupported<B: KeyedBackend>(backend: &B, kind: impl std::fmt::Display) -> Error {
    let message = format!("this backend has no {kind} state; choose another backend");
    backend.scope().locate(Error::new(ErrorKind::Unsupported, message))
}

/// An entry of one key of a state, encoded as the portable format has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodedEntry<'a> {
    /// The namespace; empty when the state has none.
    pub namespace: &'a [u8],
    /// The map key; empty unless the state is a map.
    pub map_key: &'a [u8],
    /// The value, with its stamp if the state has a time-to-live; of a list, the whole list.
    pub value: &'a [u8],
}

/// One measurement of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statistic {
    /// The name, which includes the unit, for example `cache_bytes`.
    pub name: &'static str,
    /// The measured value.
    pub value: u64,
    /// Whether the value belongs to one backend or to the process.
    pub scope: Scope,
}

impl Statistic {
    /// Creates a measurement of one backend; add up the measurements of several backends.
    pub fn of_backend(name: &'static str, value: u64) -> Self {
        Self { name, value, scope: Scope::Backend }
    }

    /// Creates a measurement of a resource that all backends of the process share.
    pub fn of_process(name: &'static str, value: u64) -> Self {
        Self { name, value, scope: Scope::Process }
    }
}

/// What a [`Statistic`] measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// One backend: add up the measurements of several backends.
    Backend,
    /// A resource that all backends of the process share: all of them report the same value.
    Process,
}

/// Methods for code that uses a whole backend; every [`KeyedBackend`] implements them.
pub trait KeyedBackendExt: KeyedBackend {
    /// Registers a state of any kind; see [`StateDescriptor::register`].
    ///
    /// # Errors
    /// Those of [`StateDescriptor::register`].
    fn register<D: StateDescriptor>(&mut self, descriptor: &D) -> Result<D::State> {
        descriptor.register(self)
    }

    /// Opens all state of one key.
    #[inline]
    fn at<'a>(&'a mut self, key: &'a Self::Key) -> KeyScope<'a, Self> {
        KeyScope::new(self, Keyed::new(key))
    }

    /// Visits every unexpired value of a state in this subtask, in arbitrary order; stops at the first error.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) for a handle of another backend, and those of `visit`.
    fn for_each_value<V: Send + 'static, N: StateKey, L: Lifespan>(
        &mut self,
        state: ValueState<V, N, L>,
        mut visit: impl FnMut(&Self::Key, &N, &V) -> Result<()>,
    ) -> Result<()> {
        let clock = *self.clock();
        self.values::<L::Stored<V>, N>(state.id)?.for_each(|key, namespace, stored| {
            if state.lifespan.hides(stored, &clock) {
                return Ok(());
            }
            visit(key, namespace, L::value(stored))
        })
    }

    /// Visits every key and namespace that has state of this handle, each once, in arbitrary order; stops at
    /// the first error (Flink: `getKeys`).
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) for a handle of another backend, and those of `visit`.
    fn keys<S: StateHandle>(
        &mut self,
        state: S,
        visit: impl FnMut(Keyed<'_, Self::Key>, &S::Namespace) -> Result<()>,
    ) -> Result<()> {
        self.for_each_key(state.state_id(), KeyGroupRange::ALL, visit)
    }

    /// Calls `apply` with every key that has state of this handle in `namespace`; stops at the first error
    /// (Flink: `applyToAllKeys`). `apply` may change or remove any state of its key. The call may or may not
    /// visit keys that `apply` adds.
    ///
    /// The call holds the keys of one part of the key groups in memory at a time.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) for a handle of another backend, and those of `apply`.
    fn apply_to_all_keys<S: StateHandle>(
        &mut self,
        state: S,
        namespace: &S::Namespace,
        mut apply: impl FnMut(&mut KeyScope<'_, Self>) -> Result<()>,
    ) -> Result<()> {
        apply_to(self, state.state_id(), |of: &S::Namespace| of == namespace, |scope, _| apply(scope))
    }

    /// As [`apply_to_all_keys`](Self::apply_to_all_keys), with every key and each of its namespaces.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) for a handle of another backend, and those of `apply`.
    fn apply_to_all_namespaces<S: StateHandle>(
        &mut self,
        state: S,
        apply: impl FnMut(&mut KeyScope<'_, Self>, &S::Namespace) -> Result<()>,
    ) -> Result<()> {
        apply_to(self, state.state_id(), |_: &S::Namespace| true, apply)
    }
}

fn apply_to<B: KeyedBackend, N: StateKey>(
    backend: &mut B,
    state: StateId,
    is_wanted: impl Fn(&N) -> bool,
    mut apply: impl FnMut(&mut KeyScope<'_, B>, &N) -> Result<()>,
) -> Result<()> {
    // A part has about as many keys as fit into a cache; a small state is one part.
    let parts = (backend.entries() / 8192).clamp(1, 256) as u32;
    for part in 0..parts {
        let mut entries: Vec<(KeyHash, B::Key, N)> = Vec::new();
        let key_groups = KeyGroupRange::of_subtask(part, parts);
        backend.for_each_key(state, key_groups, |key, namespace: &N| {
            if is_wanted(namespace) {
                entries.push((key.hash(), key.key().clone(), namespace.clone()));
            }
            Ok(())
        })?;
        for (hash, key, namespace) in &entries {
            apply(&mut KeyScope::new(backend, Keyed::with_hash(key, *hash)), namespace)?;
        }
    }
    Ok(())
}

impl<B: KeyedBackend> KeyedBackendExt for B {}

/// The result of a restore.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// The number of entries that were read (deltas may replace earlier ones).
    pub entries: u64,
    /// The number of bytes that were read from the store.
    pub bytes: u64,
    /// States of the snapshot that no registered state claims. The backend keeps them and writes them again.
    pub orphans: Vec<String>,
}

/// A backend that snapshots can fill.
#[async_trait]
pub trait RestoreSnapshot {
    /// Fills the empty backend with those entries of `snapshots` that lie in its own key groups.
    ///
    /// Register all states before. After an error the backend is unusable.
    ///
    /// # Errors
    /// [`Corrupt`](ErrorKind::Corrupt) and [`NotFound`](ErrorKind::NotFound) name the segment;
    /// [`Incompatible`](ErrorKind::Incompatible) names the state and both codecs or versions;
    /// [`Invalid`](ErrorKind::Invalid) when the backend is not empty.
    async fn restore(&mut self, snapshots: &[KeyedSnapshot], store: &dyn SegmentStore) -> Result<Restored>;
}

/// A backend with everything that a checkpointed job needs.
pub trait CheckpointedBackend: KeyedBackend + SnapshotSource + RestoreSnapshot {}

impl<B: KeyedBackend + SnapshotSource + RestoreSnapshot> CheckpointedBackend for B {}
