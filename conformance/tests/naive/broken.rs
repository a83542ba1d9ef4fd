//! The naive backend with one flaw, which shows that the suite can fail.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;

use async_trait::async_trait;
use strandline_snapshot_format::whole::{WholeSnapshot, WholeStates, WholeWriter};
use strandline_state_api::backend::{
    BackendFactory, BackendScope, Progress, RestoreSnapshot, Restored, SnapshotKind, SnapshotSource,
    SnapshotWriter, StateId, StateTime, StoredValues,
};
use strandline_state_api::schema::StateSchema;
use strandline_state_api::snapshot::{KeyedSnapshot, SegmentStore};
use strandline_state_api::{CheckpointId, KeyGroupRange, Keyed, KeyedBackend, Result, StateKey};

use super::backend::Naive;
use super::flawed::Flawed;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// `clear` leaves a value in place.
    ValueStays,
    /// `clear` leaves the entry with the empty map key in a map.
    MapEntryStays,
    /// All namespaces are one.
    NamespacesMix,
    /// A put of an empty list has no effect, and one of a longer list stores one element.
    ListKeepsOne,
    /// A timer at the bound does not fire.
    TimerBoundExcluded,
    /// The second registration of a timer also returns that the timer is new.
    TimerNotDeduplicated,
    /// The cut is made when the snapshot advances, and not at the barrier.
    LateCut,
    /// After a commit that fails, the next one returns the snapshot before.
    FailureForgotten,
    /// After a snapshot that is dropped without a commit, the next one returns the snapshot before.
    DropForgotten,
    /// A commit waits for the one before.
    CommitsInLine,
    /// A restore ignores the key groups of the subtask.
    AllKeyGroups,
    /// Snapshots leave out orphans.
    OrphansDropped,
    /// A restore reads only the first of several snapshots.
    FirstSnapshotOnly,
    /// The clock forgets the time that the driver sets.
    ClockStands,
    /// A merge replaces the existing value.
    MergeReplaces,
    /// `take` loses the last element of a list.
    TakeLosesLast,
    /// A walk visits keys twice.
    KeysTwice,
    /// `modify` also keeps values that the access refuses.
    ModifyKeepsExpired,
    /// A read that lends a value once keeps it.
    LentStays,
    /// A read that refreshes a value only lends it.
    ReadsDoNotRefresh,
    /// The backend accepts handles of other backends.
    ForeignHandleAccepted,
}

/// Creates backends with a flaw.
#[derive(Clone, Debug)]
pub struct Broken(pub Flaw);

impl BackendFactory for Broken {
    type Backend<K: StateKey> = BrokenBackend<K>;

    fn name(&self) -> &'static str {
        "broken"
    }

    fn create<K: StateKey>(&self, scope: BackendScope) -> Result<BrokenBackend<K>> {
        let (flaw, own, late) = (self.0, scope.key_groups, VecDeque::new());
        let key_groups = if flaw == Flaw::AllKeyGroups { KeyGroupRange::ALL } else { own };
        let naive = Naive(WholeStates::new(BackendScope { key_groups, ..scope }));
        Ok(BrokenBackend {
            naive,
            flaw,
            late,
            ids: Vec::new(),
            stopped: StateTime::UNKNOWN,
            dropped: Arc::default(),
        })
    }
}

/// Passes everything on to the naive backend, except for the flaw.
pub struct BrokenBackend<K> {
    naive: Naive<K>,
    flaw: Flaw,
    /// Cuts that should have been made.
    late: VecDeque<(CheckpointId, SnapshotKind)>,
    /// The registered states, by position.
    ids: Vec<StateId>,
    stopped: StateTime,
    dropped: Arc<AtomicBool>,
}

impl<K: StateKey> BrokenBackend<K> {
    fn has(&self, flaw: Flaw) -> bool {
        self.flaw == flaw
    }

    fn registered(&mut self, id: Result<StateId>) -> Result<StateId> {
        self.ids.extend(id.as_ref().ok().filter(|id| id.index() == self.ids.len()));
        id
    }

    /// Returns the state of the backend's own at the position of a handle.
    fn own(&self, id: StateId) -> StateId {
        let own = self.ids.get(id.index()).filter(|_| self.has(Flaw::ForeignHandleAccepted));
        own.copied().unwrap_or(id)
    }
}

impl<K: StateKey> KeyedBackend for BrokenBackend<K> {
    type Key = K;
    type Values<'b, V: Send + 'static, N: StateKey> = Flawed<<Naive<K> as KeyedBackend>::Values<'b, V, N>>;
    type Lists<'b, T: Send + 'static, N: StateKey> = Flawed<<Naive<K> as KeyedBackend>::Lists<'b, T, N>>;
    type Maps<'b, MK: StateKey, V: Send + 'static, N: StateKey> =
        Flawed<<Naive<K> as KeyedBackend>::Maps<'b, MK, V, N>>;
    type Timers<'b, N: StateKey> = Flawed<<Naive<K> as KeyedBackend>::Timers<'b, N>>;

    fn scope(&self) -> &BackendScope {
        self.naive.scope()
    }

    fn clock(&mut self) -> &mut StateTime {
        if self.has(Flaw::ClockStands) {
            self.stopped = StateTime::UNKNOWN;
            return &mut self.stopped;
        }
        self.naive.clock()
    }

    fn schemas(&self) -> Vec<StateSchema> {
        self.naive.schemas()
    }

    fn entries(&self) -> u64 {
        self.naive.entries()
    }

    fn register_values<V: Send + 'static, N: StateKey>(
        &mut self,
        values: StoredValues<V>,
    ) -> Result<StateId> {
        let id = self.naive.register_values::<V, N>(values);
        self.registered(id)
    }

    fn register_lists<T: Send + 'static, N: StateKey>(
        &mut self,
        elements: StoredValues<T>,
    ) -> Result<StateId> {
        let id = self.naive.register_lists::<T, N>(elements);
        self.registered(id)
    }

    fn register_maps<MK: StateKey, V: Send + 'static, N: StateKey>(
        &mut self,
        values: StoredValues<V>,
    ) -> Result<StateId> {
        let id = self.naive.register_maps::<MK, V, N>(values);
        self.registered(id)
    }

    fn register_timers<N: StateKey>(&mut self, schema: StateSchema) -> Result<StateId> {
        let id = self.naive.register_timers::<N>(schema);
        self.registered(id)
    }

    fn values<V: Send + 'static, N: StateKey>(&mut self, state: StateId) -> Result<Self::Values<'_, V, N>> {
        let (flaw, state) = (self.flaw, self.own(state));
        Ok(Flawed { table: self.naive.values::<V, N>(state)?, flaw })
    }

    fn lists<T: Send + 'static, N: StateKey>(&mut self, state: StateId) -> Result<Self::Lists<'_, T, N>> {
        let (flaw, state) = (self.flaw, self.own(state));
        Ok(Flawed { table: self.naive.lists::<T, N>(state)?, flaw })
    }

    fn maps<MK: StateKey, V: Send + 'static, N: StateKey>(
        &mut self,
        state: StateId,
    ) -> Result<Self::Maps<'_, MK, V, N>> {
        let (flaw, state) = (self.flaw, self.own(state));
        Ok(Flawed { table: self.naive.maps::<MK, V, N>(state)?, flaw })
    }

    fn timers<N: StateKey>(&mut self, service: StateId) -> Result<Self::Timers<'_, N>> {
        let (flaw, service) = (self.flaw, self.own(service));
        Ok(Flawed { table: self.naive.timers::<N>(service)?, flaw })
    }

    fn for_each_key<N: StateKey>(
        &mut self,
        state: StateId,
        key_groups: KeyGroupRange,
        mut visit: impl FnMut(Keyed<'_, K>, &N) -> Result<()>,
    ) -> Result<()> {
        let (twice, state) = (self.has(Flaw::KeysTwice), self.own(state));
        self.naive.for_each_key(state, key_groups, |key, namespace| {
            if twice {
                visit(key, namespace)?;
            }
            visit(key, namespace)
        })
    }
}

impl<K: StateKey> SnapshotSource for BrokenBackend<K> {
    type Prepared = BrokenPrepared;
    type Writer = BrokenWriter;

    fn prepare(&mut self, checkpoint: CheckpointId, kind: SnapshotKind) -> Result<()> {
        if self.has(Flaw::LateCut) {
            self.late.push_back((checkpoint, kind));
            return Ok(());
        }
        self.naive.prepare(checkpoint, kind)
    }

    fn advance(&mut self, budget: usize) -> Result<Progress<BrokenPrepared>> {
        if let Some((checkpoint, kind)) = self.late.pop_front() {
            self.naive.prepare(checkpoint, kind)?;
        }
        Ok(match self.naive.advance(budget)? {
            Progress::Idle => Progress::Idle,
            Progress::More => Progress::More,
            Progress::Ready(checkpoint, mut state) => {
                if self.has(Flaw::OrphansDropped) {
                    let known = self.naive.schemas();
                    state.retain(|stored| known.iter().any(|schema| schema.meta == *stored));
                }
                let dropped = self.has(Flaw::DropForgotten).then(|| Arc::clone(&self.dropped));
                Progress::Ready(checkpoint, BrokenPrepared { state, dropped })
            }
        })
    }

    fn take_writer(&mut self) -> Result<BrokenWriter> {
        let (naive, last) = (self.naive.take_writer()?, Mutex::default());
        Ok(BrokenWriter {
            naive,
            flaw: self.flaw,
            failed: Arc::clone(&self.dropped),
            last,
            busy: AtomicBool::new(false),
        })
    }
}

/// A prepared snapshot that notes its drop.
pub struct BrokenPrepared {
    state: WholeSnapshot,
    dropped: Option<Arc<AtomicBool>>,
}

impl Drop for BrokenPrepared {
    fn drop(&mut self) {
        if let Some(dropped) = &self.dropped {
            dropped.store(true, Ordering::Relaxed);
        }
    }
}

pub struct BrokenWriter {
    naive: WholeWriter,
    flaw: Flaw,
    failed: Arc<AtomicBool>,
    last: Mutex<KeyedSnapshot>,
    busy: AtomicBool,
}

/// The turn of a commit among others.
struct Turn<'a>(&'a AtomicBool);

impl<'a> Turn<'a> {
    async fn of(busy: &'a AtomicBool) -> Self {
        std::future::poll_fn(|context| {
            context.waker().wake_by_ref();
            if busy.swap(true, Ordering::Relaxed) { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
        Self(busy)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

#[async_trait]
impl SnapshotWriter for BrokenWriter {
    type Prepared = BrokenPrepared;

    async fn commit(&self, mut prepared: BrokenPrepared, store: &dyn SegmentStore) -> Result<KeyedSnapshot> {
        let forgets = matches!(self.flaw, Flaw::FailureForgotten | Flaw::DropForgotten);
        if forgets && self.failed.swap(false, Ordering::Relaxed) {
            prepared.dropped = None;
            return Ok(self.last.lock().unwrap().clone());
        }
        let in_line = self.flaw == Flaw::CommitsInLine;
        let _turn = if in_line { Some(Turn::of(&self.busy).await) } else { None };
        let committed = self.naive.commit(std::mem::take(&mut prepared.state), store).await;
        prepared.dropped = None;
        if self.flaw == Flaw::FailureForgotten {
            self.failed.store(committed.is_err(), Ordering::Relaxed);
        }
        let committed = committed?;
        *self.last.lock().unwrap() = committed.clone();
        Ok(committed)
    }
}

#[async_trait]
impl<K: StateKey> RestoreSnapshot for BrokenBackend<K> {
    async fn restore(&mut self, snapshots: &[KeyedSnapshot], store: &dyn SegmentStore) -> Result<Restored> {
        let count = if self.has(Flaw::FirstSnapshotOnly) { snapshots.len().min(1) } else { snapshots.len() };
        self.naive.restore(&snapshots[..count], store).await
    }
}
