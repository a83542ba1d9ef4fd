//! A backend with its writer, its store and its model.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use strandline_state_api::backend::{
    BackendFactory, Progress, RestoreSnapshot, Restored, SnapshotKind, SnapshotSource, SnapshotWriter,
};
use strandline_state_api::snapshot::KeyedSnapshot;
use strandline_state_api::{CheckpointId, KeyGroupRange, KeyedBackend};

use super::{Contents, Failure, Op, States, group_of, same};
use crate::segments::{FaultySegments, Gate};
use crate::subject::Subject;
use crate::wait::wait;

/// The input of the backend's writer.
pub(crate) type Prepared<F> = <<F as BackendFactory>::Backend<String> as SnapshotSource>::Prepared;

/// A snapshot, and the contents that it must hold.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    pub(crate) snapshot: KeyedSnapshot,
    pub(crate) contents: Contents,
}

/// A backend for keys of text with all [`States`], and the model of its contents.
pub(crate) struct World<F: BackendFactory> {
    pub(crate) subject: Subject<F>,
    pub(crate) store: Arc<FaultySegments>,
    pub(crate) range: KeyGroupRange,
    pub(crate) backend: F::Backend<String>,
    /// `None` while another thread holds the writer.
    pub(crate) writer: Option<Arc<<F::Backend<String> as SnapshotSource>::Writer>>,
    pub(crate) states: States,
    pub(crate) contents: Contents,
    pub(crate) last: CheckpointId,
}

impl<F: BackendFactory> World<F> {
    /// Creates an empty world for all key groups.
    pub(crate) fn new(subject: &Subject<F>) -> Self {
        Self::in_range(subject, KeyGroupRange::ALL, Arc::default())
    }

    /// Creates an empty world for some key groups.
    pub(crate) fn in_range(subject: &Subject<F>, range: KeyGroupRange, store: Arc<FaultySegments>) -> Self {
        let mut backend = subject.backend_of(range);
        let states = States::register(&mut backend, subject.capabilities()).unwrap();
        Contents::default().time.set(&mut backend);
        let writer = Some(Arc::new(backend.take_writer().unwrap()));
        let (contents, last) = (Contents::default(), CheckpointId(0));
        Self { subject: subject.clone(), store, range, backend, writer, states, contents, last }
    }

    /// Restores a new backend for `range` from snapshots whose checkpoint was `last` or before, and which
    /// hold `contents` together.
    pub(crate) fn restored(
        subject: &Subject<F>,
        range: KeyGroupRange,
        store: Arc<FaultySegments>,
        snapshots: &[KeyedSnapshot],
        contents: &Contents,
        last: CheckpointId,
    ) -> Result<(Self, Restored), Failure> {
        let mut backend = subject.backend_of(range);
        let states = States::register_reversed(&mut backend, subject.capabilities())?;
        let restored = wait(backend.restore(snapshots, store.as_ref()))?;
        let writer = Some(Arc::new(backend.take_writer()?));
        let contents = contents.clone().clip(range);
        contents.time.set(&mut backend);
        let mut world =
            Self { subject: subject.clone(), store, range, backend, writer, states, contents, last };
        world.check()?;
        Ok((world, restored))
    }

    /// Restores `taken` into a new backend, which replaces this one.
    pub(crate) fn restore_from(&mut self, taken: &Taken) -> Restored {
        let store = Arc::clone(&self.store);
        let snapshots = std::slice::from_ref(&taken.snapshot);
        let contents = taken.contents.clone().at(self.contents.time.processing);
        let (world, restored) =
            Self::restored(&self.subject, self.range, store, snapshots, &contents, self.last).unwrap();
        *self = world;
        restored
    }

    /// Applies an operation to the backend and to the model; both must return the same.
    pub(crate) fn apply(&mut self, op: &Op) -> Result<(), Failure> {
        debug_assert!(op.key().is_none_or(|key| self.range.contains(group_of(key))));
        op.apply(&mut self.backend, &self.states, &mut self.contents)
    }

    /// Applies many operations, each of which must succeed.
    pub(crate) fn apply_all(&mut self, ops: impl IntoIterator<Item = Op>) {
        for op in ops {
            self.apply(&op).unwrap();
        }
    }

    /// Applies `count` random operations.
    pub(crate) fn shake(&mut self, seed: u64, count: usize) {
        let mut rng = fastrand::Rng::with_seed(seed);
        self.apply_all((0..count).map(|_| Op::any(&mut rng)));
    }

    /// Applies those of `count` random operations whose keys belong to this subtask.
    pub(crate) fn shake_own(&mut self, seed: u64, count: usize) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let range = self.range;
        let own = |op: &Op| op.key().is_none_or(|key| range.contains(group_of(key)));
        self.apply_all((0..count).map(|_| Op::any(&mut rng)).filter(own));
    }

    /// Leaves out operations on expiring state, too, so that the time of a snapshot does not matter.
    pub(crate) fn shake_lasting(&mut self, seed: u64, count: usize) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let range = self.range;
        let own = |op: &Op| op.key().is_none_or(|key| range.contains(group_of(key)));
        let ops = (0..count).map(|_| Op::any(&mut rng)).filter(|op| own(op) && op.is_lasting());
        self.apply_all(ops);
    }

    /// Compares the backend with the model.
    pub(crate) fn check(&mut self) -> Result<(), Failure> {
        self.contents.check_tables(&mut self.backend, &self.states, self.range)?;
        if self.subject.capabilities().counts_entries {
            let (entries, wanted) = (self.backend.entries(), self.contents.entries());
            if !wanted.contains(&entries) {
                return Err(Failure(format!("{entries} entries, but there should be {wanted:?}")));
            }
        }
        Ok(())
    }

    /// Prepares a snapshot; returns the contents that it must hold.
    pub(crate) fn prepare(&mut self, kind: SnapshotKind) -> Result<Contents, Failure> {
        self.last = self.last.next();
        self.backend.prepare(self.last, kind)?;
        Ok(self.contents.clone())
    }

    /// Advances by one bounded step; a snapshot that becomes ready must be that of `checkpoint`.
    pub(crate) fn advance(
        &mut self,
        checkpoint: CheckpointId,
        budget: usize,
    ) -> Result<Option<Prepared<F>>, Failure> {
        match self.backend.advance(budget)? {
            Progress::Idle => {
                Err(Failure(format!("checkpoint {checkpoint} is lost: no snapshot is under way")))
            }
            Progress::More => Ok(None),
            Progress::Ready(id, prepared) => {
                same("the oldest checkpoint comes first", id, checkpoint)?;
                Ok(Some(prepared))
            }
        }
    }

    /// Advances until the snapshot of `checkpoint` is ready.
    pub(crate) fn hand_over(&mut self, checkpoint: CheckpointId) -> Result<Prepared<F>, Failure> {
        for _ in 0..1_000 {
            if let Some(prepared) = self.advance(checkpoint, 1 << 20)? {
                return Ok(prepared);
            }
        }
        Err(Failure(format!("checkpoint {checkpoint} is not ready after 1,000 large steps")))
    }

    /// Commits a prepared snapshot.
    pub(crate) fn commit(&mut self, prepared: Prepared<F>) -> strandline_state_api::Result<KeyedSnapshot> {
        let writer = self.writer.as_ref().expect("the writer is here");
        wait(writer.commit(prepared, self.store.as_ref()))
    }

    /// Starts to commit a prepared snapshot in a store that hangs after `operations`.
    pub(crate) fn start_commit(&self, prepared: Prepared<F>, gate: Gate) -> InFlight {
        let writer = Arc::clone(self.writer.as_ref().expect("the writer is here"));
        let gate = Arc::new(gate);
        let store = Arc::clone(&gate);
        let commit = Box::pin(async move { writer.commit(prepared, store.as_ref()).await });
        InFlight { commit, gate }
    }

    /// Takes a whole snapshot without a change in between.
    pub(crate) fn snapshot(&mut self, kind: SnapshotKind) -> Taken {
        let contents = self.prepare(kind).unwrap();
        let prepared = self.hand_over(self.last).unwrap();
        let snapshot = self.commit(prepared).unwrap();
        Taken { snapshot, contents }
    }

    /// Restores `taken` into a temporary backend, and compares everything with its contents, timers too.
    pub(crate) fn check_snapshot(&self, taken: &Taken) -> Result<(), Failure> {
        self.check_snapshot_in(&self.store, taken)
    }

    /// As [`check_snapshot`](Self::check_snapshot), from another store.
    pub(crate) fn check_snapshot_in(
        &self,
        store: &Arc<FaultySegments>,
        taken: &Taken,
    ) -> Result<(), Failure> {
        check_restored(
            &self.subject,
            store,
            self.range,
            std::slice::from_ref(&taken.snapshot),
            &taken.contents.clone().at(self.contents.time.processing),
        )
    }
}

/// A commit that hangs.
pub(crate) struct InFlight {
    commit: Pin<Box<dyn Future<Output = strandline_state_api::Result<KeyedSnapshot>> + Send>>,
    gate: Arc<Gate>,
}

impl InFlight {
    /// Goes on as far as the store lets it; returns the result when there is one.
    pub(crate) fn poll(&mut self) -> Option<strandline_state_api::Result<KeyedSnapshot>> {
        match self.commit.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => Some(result),
            Poll::Pending => None,
        }
    }

    /// Lets the store answer, and waits for the end.
    pub(crate) fn finish(self) -> strandline_state_api::Result<KeyedSnapshot> {
        self.gate.open();
        wait(self.commit)
    }
}

/// Restores `snapshots` into a temporary backend for `range`, and compares everything with `contents`.
pub(crate) fn check_restored<F: BackendFactory>(
    subject: &Subject<F>,
    store: &Arc<FaultySegments>,
    range: KeyGroupRange,
    snapshots: &[KeyedSnapshot],
    contents: &Contents,
) -> Result<(), Failure> {
    let store = Arc::clone(store);
    let (mut world, restored) = World::restored(subject, range, store, snapshots, contents, CheckpointId(0))?;
    same("orphans", restored.orphans, Vec::new())?;
    world.contents.check_timers_by_taking_them(&mut world.backend, &world.states)
}
