//! A bare backend with all that a snapshot and a restore need.

use std::fmt;
use std::sync::Arc;

use strandline_snapshot_format::MemorySegments;
use strandline_state_api::assignment::assign_keyed;
use strandline_state_api::backend::{
    BackendFactory, BackendScope, KeyedBackendExt, Progress, RestoreSnapshot, Restored, SnapshotKind,
    SnapshotSource, SnapshotWriter,
};
use strandline_state_api::snapshot::{KeyedSnapshot, SegmentStore};
use strandline_state_api::{
    CheckpointId, Error, ErrorKind, KeyGroupRange, KeyScope, Keyed, KeyedBackend, OperatorId, Result,
    StateKey, Timestamp,
};

use crate::wait::block_on;

/// The number of entries that a snapshot advances by in one step: several steps for most tests.
const STEP: usize = 1_000;
/// A snapshot that needs more steps is stuck.
const MAX_STEPS: usize = 1_000_000;

/// Drives one bare backend in a test, without an operator: snapshots, restores at any parallelism, and time.
///
/// The rig waits for its store in the calling thread. Of the stores of `strandline-checkpoint-storage`, enter
/// the runtime of those that need tokio first.
///
/// ```
/// use strandline_backend_memory::MemoryBackendFactory;
/// use strandline_state_api::ValueDescriptor;
/// use strandline_state_api::backend::{KeyedBackendExt, SnapshotKind};
/// use strandline_state_testing::Rig;
///
/// # fn main() -> strandline_state_api::Result<()> {
/// let counts = ValueDescriptor::<u64>::new("counts");
/// let mut rig = Rig::<_, u64>::new(MemoryBackendFactory::default())?;
/// let state = rig.backend.register(&counts)?;
/// rig.at(&7).state(state).put(3)?;
/// let snapshot = rig.snapshot(SnapshotKind::Incremental)?;
/// let (mut again, state) = rig.restore(&[snapshot], |backend| backend.register(&counts))?;
/// assert_eq!(again.at(&7).state(state).get()?, Some(&3));
/// let mut three = Rig::rescale(&mut [again], 3, |backend| backend.register(&counts))?;
/// let (rig, state) = three.iter_mut().find(|(rig, _)| rig.owns(&7)).expect("an owner");
/// assert_eq!(rig.at(&7).state(*state).get()?, Some(&3));
/// # Ok(())
/// # }
/// ```
pub struct Rig<F: BackendFactory, K: StateKey, S = MemorySegments> {
    /// The backend, for registrations and for everything that the rig has no method for.
    pub backend: F::Backend<K>,
    factory: F,
    store: Arc<S>,
    writer: <F::Backend<K> as SnapshotSource>::Writer,
    restored: Restored,
    last: CheckpointId,
}

impl<F: BackendFactory, K: StateKey> Rig<F, K> {
    /// Creates an empty backend for all keys, whose snapshots are kept in memory.
    ///
    /// # Errors
    /// Those of the factory.
    pub fn new(factory: F) -> Result<Self> {
        Self::on(factory, Arc::default())
    }
}

impl<F: BackendFactory, K: StateKey, S: SegmentStore> Rig<F, K, S> {
    /// Creates an empty backend for all keys, whose snapshots are kept in `store`.
    ///
    /// # Errors
    /// Those of the factory.
    pub fn on(factory: F, store: Arc<S>) -> Result<Self> {
        Self::in_scope(factory, store, BackendScope::whole("rig")?)
    }

    /// Creates an empty backend for one subtask of an operator, whose snapshots are kept in `store`.
    ///
    /// # Errors
    /// Those of the factory.
    pub fn in_scope(factory: F, store: Arc<S>, scope: BackendScope) -> Result<Self> {
        let nothing = |_: &mut F::Backend<K>| Ok(());
        Self::open(factory, store, scope, None, CheckpointId(0), nothing).map(|(rig, ())| rig)
    }

    fn open<R>(
        factory: F,
        store: Arc<S>,
        scope: BackendScope,
        snapshots: Option<&[KeyedSnapshot]>,
        last: CheckpointId,
        register: impl FnOnce(&mut F::Backend<K>) -> Result<R>,
    ) -> Result<(Self, R)> {
        let mut backend = factory.create::<K>(scope)?;
        let registered = register(&mut backend)?;
        let restored = match snapshots {
            Some(snapshots) => block_on(backend.restore(snapshots, store.as_ref()))?,
            None => Restored::default(),
        };
        let writer = backend.take_writer()?;
        Ok((Self { backend, factory, store, writer, restored, last }, registered))
    }

    /// Opens all state of one key.
    pub fn at<'a>(&'a mut self, key: &'a K) -> KeyScope<'a, F::Backend<K>> {
        self.backend.at(key)
    }

    /// Returns whether the backend owns a key; others belong to other subtasks.
    pub fn owns(&self, key: &K) -> bool {
        self.key_groups().contains(Keyed::new(key).group())
    }

    fn key_groups(&self) -> KeyGroupRange {
        self.backend.scope().key_groups
    }

    /// Sets the processing time, by which states with a time-to-live in processing time expire.
    pub fn processing_time(&mut self, now: impl Into<Timestamp>) {
        self.backend.clock().processing_time = Some(now.into());
    }

    /// Sets the watermark, by which states with a time-to-live in event time expire.
    pub fn watermark(&mut self, watermark: impl Into<Timestamp>) {
        self.backend.clock().watermark = Some(watermark.into());
    }

    /// Returns the store, to read files, to damage them, and to make it fail.
    pub fn store(&self) -> &Arc<S> {
        &self.store
    }

    /// Returns what the restore of this backend has read.
    pub fn restored(&self) -> &Restored {
        &self.restored
    }

    /// Takes a snapshot: [`prepare`](Self::prepare) and [`finish`](Self::finish).
    ///
    /// # Errors
    /// Those of both.
    pub fn snapshot(&mut self, kind: SnapshotKind) -> Result<KeyedSnapshot> {
        self.prepare(kind)?;
        self.finish()
    }

    /// Marks the cut of the next snapshot: later changes are not part of it. The numbers of checkpoints rise,
    /// also over restores.
    ///
    /// # Errors
    /// Those of [`SnapshotSource::prepare`].
    pub fn prepare(&mut self, kind: SnapshotKind) -> Result<()> {
        self.last = self.last.next();
        self.backend.prepare(self.last, kind)
    }

    /// Completes the snapshot that was prepared last, and stores it: [`hand_over`](Self::hand_over) and a commit.
    ///
    /// # Errors
    /// Those of [`hand_over`](Self::hand_over) and of [`SnapshotWriter::commit`].
    pub fn finish(&mut self) -> Result<KeyedSnapshot> {
        let prepared = self.hand_over()?;
        block_on(self.writer.commit(prepared, self.store.as_ref()))
    }

    /// Advances the snapshot that was prepared last until the backend hands it over. To drop it aborts it.
    ///
    /// # Errors
    /// Those of [`SnapshotSource::advance`]; [`Internal`](ErrorKind::Internal) where the backend loses the
    /// snapshot or never completes it.
    pub fn hand_over(&mut self) -> Result<<F::Backend<K> as SnapshotSource>::Prepared> {
        for _ in 0..MAX_STEPS {
            match self.backend.advance(STEP)? {
                Progress::Ready(id, prepared) if id == self.last => return Ok(prepared),
                Progress::More => {}
                Progress::Ready(..) => return Err(self.faulty("another snapshot is ready than the last one")),
                Progress::Idle => return Err(self.faulty("the snapshot is lost: none is under way")),
            }
        }
        Err(self.faulty("the snapshot does not become ready"))
    }

    /// Returns the checkpoint of the newest snapshot.
    pub fn checkpoint(&self) -> CheckpointId {
        self.last
    }

    fn faulty(&self, message: &str) -> Error {
        let error = Error::new(ErrorKind::Internal, format!("the backend is faulty: {message}"));
        self.backend.scope().locate(error).with("checkpoint", self.last)
    }

    /// Restores a new backend for the same keys, whose states `register` registers, from `snapshots`. This
    /// backend stays as it is.
    ///
    /// # Errors
    /// Those of the factory, of `register` and of the restore.
    pub fn restore<R>(
        &self,
        snapshots: &[KeyedSnapshot],
        register: impl FnOnce(&mut F::Backend<K>) -> Result<R>,
    ) -> Result<(Self, R)> {
        self.restore_in(self.backend.scope().clone(), snapshots, register)
    }

    /// Restores a new backend in `scope`, for example for a part of the key groups, as
    /// [`restore`](Self::restore) does for the same keys.
    ///
    /// # Errors
    /// Those of [`restore`](Self::restore).
    pub fn restore_in<R>(
        &self,
        scope: BackendScope,
        snapshots: &[KeyedSnapshot],
        register: impl FnOnce(&mut F::Backend<K>) -> Result<R>,
    ) -> Result<(Self, R)> {
        let (factory, store) = (self.factory.clone(), Arc::clone(&self.store));
        Self::open(factory, store, scope, Some(snapshots), self.last, register)
    }

    /// Continues with `parallelism` new backends, the subtasks in their order: takes a snapshot of each of
    /// `old`, which are all subtasks together, and restores from them.
    ///
    /// # Errors
    /// Those of [`snapshot`](Self::snapshot), [`restore`](Self::restore) and [`assign_keyed`];
    /// [`Invalid`](ErrorKind::Invalid) when `old` is empty.
    pub fn rescale<R>(
        old: &mut [Self],
        parallelism: u32,
        mut register: impl FnMut(&mut F::Backend<K>) -> Result<R>,
    ) -> Result<Vec<(Self, R)>> {
        let mut taken = Vec::new();
        for rig in &mut *old {
            taken.push((rig.key_groups(), rig.snapshot(SnapshotKind::Incremental)?));
        }
        let Some(first) = old.first() else {
            return Err(Error::invalid("there is no rig to rescale: pass those of all subtasks"));
        };
        let last = old.iter().map(|rig| rig.last).max().unwrap_or(first.last);
        let operator: &OperatorId = &first.backend.scope().operator;
        let open = |(subtask, assigned): (u32, &[KeyedSnapshot])| {
            let scope = BackendScope::new(operator.clone(), subtask, parallelism);
            let (factory, store) = (first.factory.clone(), Arc::clone(&first.store));
            Self::open(factory, store, scope, Some(assigned), last, &mut register)
        };
        let assigned = assign_keyed(&taken, parallelism)?;
        (0..).zip(assigned.iter().map(|keyed| &keyed.snapshots[..])).map(open).collect()
    }
}

impl<F: BackendFactory, K: StateKey, S> fmt::Debug for Rig<F, K, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rig")
            .field("backend", &self.factory.name())
            .field("scope", self.backend.scope())
            .field("last", &self.last)
            .finish_non_exhaustive()
    }
}
