//! A backend with its writer and store, for cases with states of their own.

use std::sync::Arc;

use strandline_state_api::backend::{
    BackendFactory, Progress, RestoreSnapshot, Restored, SnapshotKind, SnapshotSource, SnapshotWriter,
};
use strandline_state_api::snapshot::KeyedSnapshot;
use strandline_state_api::{CheckpointId, KeyGroupRange, Result, StateKey};

use crate::segments::FaultySegments;
use crate::subject::Subject;
use crate::wait::wait;

pub(crate) struct Simple<F: BackendFactory, K: StateKey> {
    pub(crate) subject: Subject<F>,
    pub(crate) store: Arc<FaultySegments>,
    pub(crate) backend: F::Backend<K>,
    pub(crate) writer: <F::Backend<K> as SnapshotSource>::Writer,
    pub(crate) restored: Restored,
    pub(crate) last: CheckpointId,
}

impl<F: BackendFactory, K: StateKey> Simple<F, K> {
    pub(crate) fn new(subject: &Subject<F>) -> Self {
        let mut backend = subject.backend();
        let writer = backend.take_writer().unwrap();
        let (store, restored, last) = (Arc::default(), Restored::default(), CheckpointId(0));
        Self { subject: subject.clone(), store, backend, writer, restored, last }
    }

    /// Takes a whole snapshot.
    pub(crate) fn snapshot(&mut self, kind: SnapshotKind) -> Result<KeyedSnapshot> {
        self.prepare(kind)?;
        self.finish()
    }

    /// Prepares a snapshot.
    pub(crate) fn prepare(&mut self, kind: SnapshotKind) -> Result<()> {
        self.last = self.last.next();
        self.backend.prepare(self.last, kind)
    }

    /// Completes the snapshot that was prepared last.
    pub(crate) fn finish(&mut self) -> Result<KeyedSnapshot> {
        let prepared = self.hand_over()?;
        wait(self.writer.commit(prepared, self.store.as_ref()))
    }

    /// Advances the snapshot that was prepared last until it is ready.
    pub(crate) fn hand_over(&mut self) -> Result<<F::Backend<K> as SnapshotSource>::Prepared> {
        let mut steps = 0;
        loop {
            match self.backend.advance(1_000)? {
                Progress::Ready(id, prepared) => {
                    assert_eq!(id, self.last, "another snapshot is ready than the one under way");
                    return Ok(prepared);
                }
                Progress::More => steps += 1,
                Progress::Idle => panic!("checkpoint {} is lost: no snapshot is under way", self.last),
            }
            assert!(steps < 10_000, "checkpoint {} is not ready after 10,000 steps", self.last);
        }
    }

    /// Restores a new backend, whose states `register` registers, from `snapshots`.
    pub(crate) fn restore<R>(
        &self,
        snapshots: &[KeyedSnapshot],
        register: impl FnOnce(&mut F::Backend<K>) -> Result<R>,
    ) -> Result<(Self, R)> {
        self.restore_range(KeyGroupRange::ALL, snapshots, register)
    }

    /// Restores a new backend for a part of the key groups.
    pub(crate) fn restore_range<R>(
        &self,
        range: KeyGroupRange,
        snapshots: &[KeyedSnapshot],
        register: impl FnOnce(&mut F::Backend<K>) -> Result<R>,
    ) -> Result<(Self, R)> {
        let mut backend = self.subject.backend_of(range);
        let registered = register(&mut backend)?;
        let restored = wait(backend.restore(snapshots, self.store.as_ref()))?;
        let writer = backend.take_writer()?;
        let (subject, store) = (self.subject.clone(), Arc::clone(&self.store));
        Ok((Self { subject, store, backend, writer, restored, last: self.last }, registered))
    }
}
