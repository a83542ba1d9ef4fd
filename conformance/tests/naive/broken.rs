//! The naive backend with one flaw: to see that the suite can fail.

use std::collections::VecDeque;

use async_trait::async_trait;
use strandline_state_api::*;

use super::backend::Naive;
use super::snapshot::{Cut, NaiveWriter};

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// A cleared value is still there.
    ValueStays,
    /// A cleared map keeps its entry with the empty map key.
    MapEntryStays,
    /// Namespaces are not told apart.
    NamespacesMix,
    /// A list that is cleared by putting an empty one is only shortened to one element.
    ListKeepsOne,
    /// A timer at the bound does not fire.
    TimerBoundExcluded,
    /// A timer that is set twice counts twice: the second is told to be new.
    TimerNotDeduplicated,
    /// The cut is made when it is handed over, and not at the barrier.
    LateCut,
    /// When a commit fails, the next one answers with the snapshot before.
    FailureForgotten,
    /// Restore ignores the key groups of the subtask.
    AllKeyGroups,
    /// State that nobody claims is dropped.
    UnclaimedDropped,
    /// Of several snapshots only the first is restored.
    FirstSnapshotOnly,
    /// The time that it is told is forgotten.
    ClockStands,
    /// A value that is to be combined replaces the one that is there.
    MergeReplaces,
    /// The last element of a list that is taken is lost.
    TakeLosesLast,
    /// Keys are visited twice.
    KeysTwice,
}

/// Makes backends with a flaw.
#[derive(Clone, Debug)]
pub struct Broken(pub Flaw);

impl BackendFactory for Broken {
    type Backend<K: StateKey> = BrokenBackend<K>;

    fn name(&self) -> &'static str {
        "broken"
    }

    fn create<K: StateKey>(&self, scope: BackendScope) -> Result<BrokenBackend<K>> {
        let (naive, late) = (Naive::new(scope), VecDeque::new());
        Ok(BrokenBackend { naive, flaw: self.0, late, stopped: StateTime::UNKNOWN })
    }
}

/// Passes everything on to the naive backend, but for the flaw.
pub struct BrokenBackend<K> {
    naive: Naive<K>,
    flaw: Flaw,
    /// Cuts that should have been made.
    late: VecDeque<(CheckpointId, SnapshotKind)>,
    stopped: StateTime,
}

impl<K: StateKey> BrokenBackend<K> {
    fn has(&self, flaw: Flaw) -> bool {
        self.flaw == flaw
    }

    /// The namespace that is used in the place of this one.
    fn namespace<N: StateKey>(&self, namespace: &N) -> N {
        let mixed = self.has(Flaw::NamespacesMix).then(|| N::decode(&[]).ok()).flatten();
        mixed.unwrap_or_else(|| namespace.clone())
    }
}

/// Methods that only pass on.
macro_rules! pass_on {
    ($($name:ident<$($param:ident: $bound:ident $(+ $life:lifetime)?),*>($($arg:ident: $type:ty),*) -> $out:ty;)*) => {$(
        fn $name<$($param: $bound $(+ $life)?),*>(&mut self, $($arg: $type),*) -> Result<$out> {
            self.naive.$name($($arg),*)
        }
    )*};
}

/// The same for those that work on a key and a namespace.
macro_rules! pass_on_key {
    ($($name:ident<$($param:ident: $bound:ident $(+ $life:lifetime)?),*>($state:ty $(, $arg:ident: $type:ty)*) -> $out:ty;)*) => {$(
        fn $name<$($param: $bound $(+ $life)?,)* N: StateKey>(
            &mut self,
            state: $state,
            key: Keyed<'_, K>,
            namespace: &N,
            $($arg: $type),*
        ) -> Result<$out> {
            let namespace = self.namespace(namespace);
            self.naive.$name(state, key, &namespace, $($arg),*)
        }
    )*};
}

impl<K: StateKey> KeyedBackend for BrokenBackend<K> {
    type Key = K;

    pass_on! {
        register_value<V: Send + 'static, N: StateKey>(descriptor: &ValueDescriptor<V, N>) -> ValueState<V, N>;
        register_list<T: Send + 'static, N: StateKey>(descriptor: &ListDescriptor<T, N>) -> ListState<T, N>;
        register_map<MK: StateKey, V: Send + 'static, N: StateKey>(descriptor: &MapDescriptor<MK, V, N>)
            -> MapState<MK, V, N>;
        register_timers<N: StateKey>(descriptor: &TimerDescriptor<N>) -> TimerService<N>;
        value_for_each<V: Send + 'static, N: StateKey>(
            state: ValueState<V, N>, visit: impl FnMut(&K, &N, &V) -> Result<()>) -> ();
        timer_next<N: StateKey>(service: TimerService<N>) -> Option<i64>;
        timer_for_each<N: StateKey>(
            service: TimerService<N>, visit: impl FnMut(&FiredTimer<K, N>) -> Result<()>) -> ();
    }

    pass_on_key! {
        value_get<V: Send + 'static>(ValueState<V, N>) -> Option<&V>;
        value_put<V: Send + 'static>(ValueState<V, N>, value: V) -> ();
        list_get<T: Send + 'static>(ListState<T, N>) -> &[T];
        list_append<T: Send + 'static>(ListState<T, N>, elements: impl IntoIterator<Item = T>) -> ();
        list_clear<T: Send + 'static>(ListState<T, N>) -> bool;
        value_take<V: Send + 'static>(ValueState<V, N>) -> Option<V>;
        map_take<MK: StateKey, V: Send + 'static>(MapState<MK, V, N>, map_key: &MK) -> Option<V>;
        map_get<MK: StateKey, V: Send + 'static>(MapState<MK, V, N>, map_key: &MK) -> Option<&V>;
        map_put<MK: StateKey, V: Send + 'static>(MapState<MK, V, N>, map_key: MK, value: V) -> ();
        map_remove<MK: StateKey, V: Send + 'static>(MapState<MK, V, N>, map_key: &MK) -> bool;
        map_for_each<MK: StateKey, V: Send + 'static>(
            MapState<MK, V, N>, visit: impl FnMut(&MK, &V) -> Result<()>) -> ();
        map_is_empty<MK: StateKey, V: Send + 'static>(MapState<MK, V, N>) -> bool;
        timer_delete<>(TimerService<N>, time: i64) -> bool;
    }

    fn schemas(&self) -> Vec<StateSchema> {
        self.naive.schemas()
    }

    fn clock(&mut self) -> &mut StateTime {
        if self.has(Flaw::ClockStands) {
            self.stopped = StateTime::UNKNOWN;
            return &mut self.stopped;
        }
        self.naive.clock()
    }

    fn value_merge<V: Send + 'static, N: StateKey>(
        &mut self,
        state: ValueState<V, N>,
        key: Keyed<'_, K>,
        namespace: &N,
        value: V,
        combine: impl FnOnce(&mut V, V),
    ) -> Result<()> {
        let namespace = self.namespace(namespace);
        if self.has(Flaw::MergeReplaces) {
            return self.naive.value_put(state, key, &namespace, value);
        }
        self.naive.value_merge(state, key, &namespace, value, combine)
    }

    fn list_take<T: Send + 'static, N: StateKey>(
        &mut self,
        state: ListState<T, N>,
        key: Keyed<'_, K>,
        namespace: &N,
    ) -> Result<Vec<T>> {
        let namespace = self.namespace(namespace);
        let mut taken = self.naive.list_take(state, key, &namespace)?;
        if self.has(Flaw::TakeLosesLast) {
            taken.pop();
        }
        Ok(taken)
    }

    fn for_each_key<S: StateHandle>(
        &mut self,
        state: S,
        key_groups: KeyGroupRange,
        mut visit: impl FnMut(Keyed<'_, K>, &S::Namespace) -> Result<()>,
    ) -> Result<()> {
        let twice = self.has(Flaw::KeysTwice);
        self.naive.for_each_key(state, key_groups, |key, namespace| {
            if twice {
                visit(key, namespace)?;
            }
            visit(key, namespace)
        })
    }

    fn value_modify<V: Send + 'static, N: StateKey, R>(
        &mut self,
        state: ValueState<V, N>,
        key: Keyed<'_, K>,
        namespace: &N,
        initial: impl FnOnce() -> V,
        change: impl FnOnce(&mut V) -> R,
    ) -> Result<R> {
        let namespace = self.namespace(namespace);
        self.naive.value_modify(state, key, &namespace, initial, change)
    }

    fn value_clear<V: Send + 'static, N: StateKey>(
        &mut self,
        state: ValueState<V, N>,
        key: Keyed<'_, K>,
        namespace: &N,
    ) -> Result<bool> {
        if self.has(Flaw::ValueStays) {
            return Ok(self.value_get(state, key, namespace)?.is_some());
        }
        let namespace = self.namespace(namespace);
        self.naive.value_clear(state, key, &namespace)
    }

    fn list_put<T: Send + 'static, N: StateKey>(
        &mut self,
        state: ListState<T, N>,
        key: Keyed<'_, K>,
        namespace: &N,
        mut elements: Vec<T>,
    ) -> Result<()> {
        if self.has(Flaw::ListKeepsOne) && elements.is_empty() {
            return Ok(());
        }
        if self.has(Flaw::ListKeepsOne) {
            elements.truncate(1);
        }
        let namespace = self.namespace(namespace);
        self.naive.list_put(state, key, &namespace, elements)
    }

    fn map_clear<MK: StateKey, V: Send + 'static, N: StateKey>(
        &mut self,
        state: MapState<MK, V, N>,
        key: Keyed<'_, K>,
        namespace: &N,
    ) -> Result<bool> {
        let namespace = self.namespace(namespace);
        if self.has(Flaw::MapEntryStays) {
            let mut all = Vec::new();
            self.naive.map_for_each(state, key, &namespace, |map_key: &MK, _: &V| {
                all.push(map_key.clone());
                Ok(())
            })?;
            for map_key in all.iter().skip(1) {
                self.naive.map_remove(state, key, &namespace, map_key)?;
            }
            return Ok(!all.is_empty());
        }
        self.naive.map_clear(state, key, &namespace)
    }

    fn timer_register<N: StateKey>(
        &mut self,
        service: TimerService<N>,
        key: Keyed<'_, K>,
        namespace: &N,
        time: i64,
    ) -> Result<bool> {
        let namespace = self.namespace(namespace);
        let new = self.naive.timer_register(service, key, &namespace, time)?;
        Ok(new || self.has(Flaw::TimerNotDeduplicated))
    }

    fn timer_pop<N: StateKey>(
        &mut self,
        service: TimerService<N>,
        up_to: i64,
    ) -> Result<Option<FiredTimer<K, N>>> {
        let excluded = i64::from(self.has(Flaw::TimerBoundExcluded));
        self.naive.timer_pop(service, up_to.saturating_sub(excluded))
    }

    fn entries(&self) -> u64 {
        self.naive.entries()
    }
}

impl<K: StateKey> SnapshotSource for BrokenBackend<K> {
    type Prepared = Cut;
    type Writer = BrokenWriter;

    fn prepare(&mut self, checkpoint: CheckpointId, kind: SnapshotKind) -> Result<()> {
        if self.has(Flaw::LateCut) {
            self.late.push_back((checkpoint, kind));
            return Ok(());
        }
        self.naive.prepare(checkpoint, kind)
    }

    fn advance(&mut self, budget: usize) -> Result<Progress<Cut>> {
        if let Some((checkpoint, kind)) = self.late.pop_front() {
            self.naive.prepare(checkpoint, kind)?;
        }
        self.naive.advance(budget)
    }

    fn take_writer(&mut self) -> Result<BrokenWriter> {
        let forgets = self.has(Flaw::FailureForgotten);
        Ok(BrokenWriter {
            naive: self.naive.take_writer()?,
            forgets,
            failed: false,
            last: KeyedSnapshot::default(),
        })
    }
}

pub struct BrokenWriter {
    naive: NaiveWriter,
    forgets: bool,
    failed: bool,
    last: KeyedSnapshot,
}

#[async_trait]
impl SnapshotWriter for BrokenWriter {
    type Prepared = Cut;

    async fn commit(&mut self, cut: Cut, store: &dyn SegmentStore) -> Result<KeyedSnapshot> {
        if self.forgets && std::mem::take(&mut self.failed) {
            return Ok(self.last.clone());
        }
        let committed = self.naive.commit(cut, store).await;
        self.failed = committed.is_err();
        self.last = committed?;
        Ok(self.last.clone())
    }
}

#[async_trait]
impl<K: StateKey> RestoreSnapshot for BrokenBackend<K> {
    async fn restore(&mut self, snapshots: &[KeyedSnapshot], store: &dyn SegmentStore) -> Result<Restored> {
        let own = self.naive.scope.key_groups;
        if self.has(Flaw::AllKeyGroups) {
            self.naive.scope.key_groups = KeyGroupRange::ALL;
        }
        let count = if self.has(Flaw::FirstSnapshotOnly) { snapshots.len().min(1) } else { snapshots.len() };
        let restored = self.naive.restore(&snapshots[..count], store).await;
        self.naive.scope.key_groups = own;
        if self.has(Flaw::UnclaimedDropped) {
            self.naive.unclaimed.clear();
        }
        restored
    }
}
