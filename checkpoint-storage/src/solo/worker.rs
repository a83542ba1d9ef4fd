//! The state of one loop: one subtask of one operator.

use std::fmt;

use strandline_state_api::backend::{BackendFactory, BackendScope, CheckpointedBackend, SnapshotSource};
use strandline_state_api::host::{AnyDescriptor, OperatorStateStore};
use strandline_state_api::{
    BroadcastMap, BroadcastState, Error, KeyScope, Keyed, OperatorListState, Result, StateKey,
};

use super::time::LoopTime;
use super::writing::Running;

/// The state of one loop: a backend, operator state and time, restored from one checkpoint and snapshotted
/// for the next.
///
/// `R` is the role of the loop. A [`SoloJob`](crate::SoloJob) is alone and completes its checkpoints itself.
/// A `Worker` is a member of a [`WorkerGroup`](crate::WorkerGroup), which completes a checkpoint once every
/// member has handed in its [`snapshot`](Self::snapshot).
///
/// The order of calls: [`register`](Self::register) states, `restore` once, then everything else.
pub struct Worker<B: SnapshotSource, R = super::group::Member> {
    pub(super) backend: B,
    pub(super) operator_state: OperatorStateStore,
    pub(super) time: LoopTime,
    /// `None` before the restore.
    pub(super) running: Option<Running<B::Writer>>,
    pub(super) role: R,
}

impl<B: CheckpointedBackend, R> Worker<B, R> {
    pub(super) fn new<F, K>(factory: &F, scope: BackendScope, role: R) -> Result<Self>
    where
        F: BackendFactory<Backend<K> = B>,
        K: StateKey,
    {
        let (operator_state, time) = (OperatorStateStore::new(), LoopTime::default());
        Ok(Self { backend: factory.create::<K>(scope)?, operator_state, time, running: None, role })
    }

    /// Registers a state of any kind: keyed state, timers, an operator list, a broadcast map. Returns its
    /// handle.
    ///
    /// # Errors
    /// [`Invalid`](strandline_state_api::ErrorKind::Invalid) after the restore, and when a state of another
    /// kind or type has the name.
    pub fn register<D: AnyDescriptor>(&mut self, descriptor: &D) -> Result<D::State> {
        if self.running.is_some() {
            let message = "a state is registered after the restore; register all states before";
            return Err(self.locate(Error::invalid(message)));
        }
        let handle = descriptor.register_in(&mut self.backend, &mut self.operator_state)?;
        self.time.expires |= self.backend.schemas().iter().any(|schema| schema.meta.stamped);
        Ok(handle)
    }

    /// All state of one key. Before the restore, and for a key of another subtask, every access is an error.
    #[inline]
    pub fn at<'a>(&'a mut self, key: &'a B::Key) -> KeyScope<'a, B> {
        let key = Keyed::new(key);
        if self.running.is_none() {
            return KeyScope::before_restore(&mut self.backend, key);
        }
        self.time.pass(&mut self.backend);
        KeyScope::new(&mut self.backend, key)
    }

    /// Lends the elements of an operator list.
    ///
    /// # Errors
    /// [`Invalid`](strandline_state_api::ErrorKind::Invalid) before the restore, and for a handle of another
    /// loop.
    pub fn list<T: Send + 'static>(&self, list: OperatorListState<T>) -> Result<&[T]> {
        self.check_restored()?;
        self.operator_state.get(list)
    }

    /// Lends the elements of an operator list for any change.
    ///
    /// # Errors
    /// As [`list`](Self::list).
    pub fn list_mut<T: Send + 'static>(&mut self, list: OperatorListState<T>) -> Result<&mut Vec<T>> {
        self.check_restored()?;
        self.operator_state.get_mut(list)
    }

    /// Lends a broadcast map.
    ///
    /// # Errors
    /// As [`list`](Self::list).
    pub fn broadcast<MK, V>(&self, state: BroadcastState<MK, V>) -> Result<&BroadcastMap<MK, V>>
    where
        MK: StateKey,
        V: Send + 'static,
    {
        self.check_restored()?;
        self.operator_state.broadcast(state)
    }

    /// Lends a broadcast map for any change. Every worker must make the same changes in the same order: a
    /// restore with another parallelism takes any copy.
    ///
    /// # Errors
    /// As [`list`](Self::list).
    pub fn broadcast_mut<MK, V>(&mut self, state: BroadcastState<MK, V>) -> Result<&mut BroadcastMap<MK, V>>
    where
        MK: StateKey,
        V: Send + 'static,
    {
        self.check_restored()?;
        self.operator_state.broadcast_mut(state)
    }

    /// The backend, for what goes beyond one key: to walk all values or keys, to count entries, to prefetch.
    ///
    /// # Errors
    /// [`Invalid`](strandline_state_api::ErrorKind::Invalid) before the restore.
    pub fn backend(&mut self) -> Result<&mut B> {
        self.check_restored()?;
        Ok(&mut self.backend)
    }

    /// Whose state this is: operator, subtask, parallelism, key groups.
    pub fn scope(&self) -> &BackendScope {
        self.backend.scope()
    }

    pub(super) fn check_restored(&self) -> Result<()> {
        match self.running {
            Some(_) => Ok(()),
            None => Err(self.locate(Error::invalid("state is accessed before the restore: restore first"))),
        }
    }

    pub(super) fn locate(&self, error: Error) -> Error {
        self.backend.scope().locate(error)
    }
}

impl<B: CheckpointedBackend, R> fmt::Debug for Worker<B, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("scope", self.backend.scope())
            .field("restored", &self.running.is_some())
            .finish_non_exhaustive()
    }
}
