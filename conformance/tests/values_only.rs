//! A minimal backend, which has only values: hash maps, and a snapshot of everything each time. Read it
//! before you write a backend of your own.

#![allow(missing_docs, missing_debug_implementations, unreachable_pub)]

use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::marker::PhantomData;

use async_trait::async_trait;
use strandline_snapshot_format::{EntryRef, Merge, Op, SegmentKind, SegmentWriter, WriterOptions};
use strandline_state_api::backend::*;
use strandline_state_api::schema::{StateMeta, StateSchema};
use strandline_state_api::snapshot::{KeyedSnapshot, SegmentStore, SnapshotPart};
use strandline_state_api::{
    CheckpointId, KeyGroup, KeyGroupRange, KeyHash, Keyed, KeyedBackend, Result, StateKey,
};

/// An encoded key and namespace.
type Slot = (Vec<u8>, Vec<u8>);
/// An entry of a snapshot: its key group, and its encoded key, namespace, map key and value.
type Row = (KeyGroup, [Vec<u8>; 4]);
/// All entries of all states at a barrier.
type Rows = Vec<(StateMeta, Vec<Row>)>;

fn slot<K: StateKey, N: StateKey>(at: At<'_, K, N>) -> Slot {
    let mut slot = Slot::default();
    at.key.key().encode(&mut slot.0);
    at.namespace.encode(&mut slot.1);
    slot
}

/// One state with namespaces of type `N`.
struct Table<N, V> {
    stored: StoredValues<V>,
    values: HashMap<Slot, V>,
    /// The value that the last read removed and lent.
    lent: Option<V>,
    namespace: PhantomData<N>,
}

/// A table of any types.
trait AnyTable: RegisteredState + Any + Send {
    fn accept(&mut self, stored: &StateMeta) -> Result<()>;
    fn insert(&mut self, entry: &EntryRef<'_>) -> Result<()>;
    fn rows(&self) -> Result<Vec<Row>>;
    fn slots(&self) -> Vec<Slot>;
}

impl<N: StateKey, V: Send + 'static> RegisteredState for Table<N, V> {
    fn schema(&self) -> &StateSchema {
        self.stored.schema()
    }
    fn types(&self) -> &'static str {
        self.stored.types()
    }
}

impl<N: StateKey, V: Send + 'static> AnyTable for Table<N, V> {
    fn accept(&mut self, stored: &StateMeta) -> Result<()> {
        self.stored.accept(stored).map(drop)
    }
    fn insert(&mut self, entry: &EntryRef<'_>) -> Result<()> {
        let value = self.stored.decode_stored(entry.value)?;
        self.values.insert((entry.key.to_vec(), entry.namespace.to_vec()), value);
        Ok(())
    }
    fn rows(&self) -> Result<Vec<Row>> {
        let row = |(slot, value): (&Slot, &V)| {
            let mut encoded = Vec::new();
            self.stored.encode(value, &mut encoded)?;
            Ok((
                KeyGroup::of(KeyHash::of_encoded(&slot.0)),
                [slot.0.clone(), slot.1.clone(), vec![], encoded],
            ))
        };
        self.values.iter().map(row).collect()
    }
    fn slots(&self) -> Vec<Slot> {
        self.values.keys().cloned().collect()
    }
}

/// The values of one state, borrowed for one access.
pub struct Borrowed<'b, V>(&'b mut HashMap<Slot, V>, &'b mut Option<V>);

impl<V> Borrowed<'_, V> {
    fn remove_unless(&mut self, slot: &Slot, keep: impl FnOnce(&V) -> bool) {
        if self.0.get(slot).is_some_and(|value| !keep(value)) {
            self.0.remove(slot);
        }
    }
}

impl<'b, K: StateKey, N: StateKey, V: Send + 'static> Values<'b, K, N, V> for Borrowed<'b, V> {
    fn get_if(self, at: At<'_, K, N>, judge: impl FnOnce(&V) -> Verdict) -> Result<Option<&'b V>> {
        let verdict = self.0.get(&slot(at)).map_or(Verdict::Keep, judge);
        if verdict == Verdict::Keep {
            return Ok(self.0.get(&slot(at)));
        }
        *self.1 = self.0.remove(&slot(at)).filter(|_| verdict == Verdict::LendOnce);
        Ok(self.1.as_ref())
    }
    fn put(self, at: At<'_, K, N>, value: V) -> Result<()> {
        self.0.insert(slot(at), value);
        Ok(())
    }
    fn modify<R>(
        mut self,
        at: At<'_, K, N>,
        keep: impl FnOnce(&V) -> bool,
        initial: impl FnOnce() -> V,
        change: impl FnOnce(&mut V) -> R,
    ) -> Result<R> {
        self.remove_unless(&slot(at), keep);
        Ok(change(self.0.entry(slot(at)).or_insert_with(initial)))
    }
    fn update(self, at: At<'_, K, N>, change: impl FnOnce(&mut V)) -> Result<bool> {
        Ok(self.0.get_mut(&slot(at)).map(change).is_some())
    }
    fn merge(self, at: At<'_, K, N>, value: V, combine: impl FnOnce(&mut V, V)) -> Result<()> {
        match self.0.get_mut(&slot(at)) {
            Some(into) => combine(into, value),
            None => drop(self.0.insert(slot(at), value)),
        }
        Ok(())
    }
    fn take(self, at: At<'_, K, N>) -> Result<Option<V>> {
        Ok(self.0.remove(&slot(at)))
    }
    fn for_each(self, mut visit: impl FnMut(&K, &N, &V) -> Result<()>) -> Result<()> {
        self.0.iter().try_for_each(|((key, ns), value)| visit(&K::decode(key)?, &N::decode(ns)?, value))
    }
}

/// The backend: the registered states, the entries of orphans, the snapshots under way, and the clock.
pub struct ValuesOnly<K> {
    states: StateRegistry<dyn AnyTable>,
    orphans: Rows,
    prepared: VecDeque<(CheckpointId, Rows)>,
    clock: StateTime,
    key: PhantomData<fn() -> K>,
}

impl<K: StateKey> KeyedBackend for ValuesOnly<K> {
    type Key = K;
    type Values<'b, V: Send + 'static, N: StateKey> = Borrowed<'b, V>;
    type Lists<'b, T: Send + 'static, N: StateKey> = Unsupported;
    type Maps<'b, MK: StateKey, V: Send + 'static, N: StateKey> = Unsupported;
    type Timers<'b, N: StateKey> = Unsupported;

    fn scope(&self) -> &BackendScope {
        self.states.scope()
    }
    fn clock(&mut self) -> &mut StateTime {
        &mut self.clock
    }
    fn schemas(&self) -> Vec<StateSchema> {
        self.states.schemas()
    }
    fn entries(&self) -> u64 {
        self.states.iter().map(|table| table.slots().len() as u64).sum()
    }
    fn register_values<V: Send + 'static, N: StateKey>(
        &mut self,
        stored: StoredValues<V>,
    ) -> Result<StateId> {
        let same = |known: &dyn AnyTable| (known as &dyn Any).is::<Table<N, V>>();
        let table =
            |stored| Table::<N, V> { stored, values: HashMap::new(), lent: None, namespace: PhantomData };
        let (schema, types) = (stored.schema().clone(), stored.types());
        self.states.register(&schema, types, same, |_| Ok(Box::new(table(stored))))
    }
    fn values<V: Send + 'static, N: StateKey>(&mut self, state: StateId) -> Result<Borrowed<'_, V>> {
        let (table, location) = self.states.get_located(state)?;
        let table = (table as &mut dyn Any).downcast_mut::<Table<N, V>>();
        table
            .map(|table| Borrowed(&mut table.values, &mut table.lent))
            .ok_or_else(|| location.foreign_handle())
    }
    fn for_each_key<N: StateKey>(
        &mut self,
        state: StateId,
        key_groups: KeyGroupRange,
        mut visit: impl FnMut(Keyed<'_, K>, &N) -> Result<()>,
    ) -> Result<()> {
        for (key, namespace) in self.states.get(state)?.slots() {
            let (key, namespace) = (K::decode(&key)?, N::decode(&namespace)?);
            if key_groups.contains(Keyed::new(&key).group()) {
                visit(Keyed::new(&key), &namespace)?;
            }
        }
        Ok(())
    }
}

impl<K: StateKey> SnapshotSource for ValuesOnly<K> {
    type Prepared = Rows;
    type Writer = Writer;

    fn prepare(&mut self, checkpoint: CheckpointId, _: SnapshotKind) -> Result<()> {
        self.states.begin_checkpoint(checkpoint)?;
        let mut rows = self.orphans.clone();
        for table in self.states.iter() {
            let meta = table.schema().meta.clone();
            let of_table =
                table.rows().map_err(|error| self.states.scope().locate(error).with("state", &meta.name))?;
            rows.push((meta, of_table));
        }
        self.prepared.push_back((checkpoint, rows));
        Ok(())
    }
    fn advance(&mut self, _: usize) -> Result<Progress<Rows>> {
        Ok(self.prepared.pop_front().map_or(Progress::Idle, |(id, rows)| Progress::Ready(id, rows)))
    }
    fn take_writer(&mut self) -> Result<Writer> {
        self.states.take_writer().map(|()| Writer)
    }
}

/// Writes one segment for each snapshot.
pub struct Writer;

#[async_trait]
impl SnapshotWriter for Writer {
    type Prepared = Rows;

    async fn commit(&self, mut rows: Rows, store: &dyn SegmentStore) -> Result<KeyedSnapshot> {
        rows.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
        let states: Vec<_> = rows.iter().map(|(meta, _)| meta.clone()).collect();
        let mut entries = Vec::new();
        for (state, (_, of_state)) in (0..).zip(&rows) {
            entries.extend(of_state.iter().map(|(group, [key, namespace, sub, value])| EntryRef {
                namespace,
                sub,
                value,
                ..EntryRef::new(*group, state, Op::Put, key)
            }));
        }
        entries.sort_by(EntryRef::cmp_position);
        let mut writer = SegmentWriter::new(states.clone(), SegmentKind::Base, WriterOptions::default())?;
        entries.into_iter().try_for_each(|entry| writer.push(entry))?;
        let finished = writer.finish()?;
        if finished.entries == 0 {
            return Ok(KeyedSnapshot::default());
        }
        let segment = store.put(finished.bytes).await?;
        let written_bytes = segment.len;
        let parts = vec![SnapshotPart::portable(segment, finished.key_groups)];
        Ok(KeyedSnapshot { parts, written_bytes, states })
    }
}

#[async_trait]
impl<K: StateKey> RestoreSnapshot for ValuesOnly<K> {
    async fn restore(&mut self, snapshots: &[KeyedSnapshot], store: &dyn SegmentStore) -> Result<Restored> {
        self.states.begin_restore(self.entries() > 0)?;
        let restored = self.restore_all(snapshots, store).await;
        restored.map_err(|error| self.states.scope().locate(error))
    }
}

impl<K: StateKey> ValuesOnly<K> {
    async fn restore_all(
        &mut self,
        snapshots: &[KeyedSnapshot],
        store: &dyn SegmentStore,
    ) -> Result<Restored> {
        let own = self.states.scope().key_groups;
        let mut restored = Restored::default();
        for snapshot in snapshots {
            let mut merge = Merge::open(store, &snapshot.parts, SegmentKind::Base, own).await?;
            let metas = merge.states().to_vec();
            for meta in &metas {
                match self.states.claimant(meta).and_then(|index| self.states.at_mut(index)) {
                    Some(table) => table.accept(meta)?,
                    None if self.orphans.iter().any(|(known, _)| known == meta) => {}
                    None => self.orphans.push((meta.clone(), Vec::new())),
                }
            }
            while let Some(entry) = merge.next().await? {
                let meta = &metas[usize::from(entry.state)];
                if let Some(table) = self.states.claimant(meta).and_then(|index| self.states.at_mut(index)) {
                    table.insert(&entry).map_err(|error| error.with("state", &meta.name))?;
                } else if let Some((_, rows)) = self.orphans.iter_mut().find(|(known, _)| known == meta) {
                    let parts = [entry.key, entry.namespace, entry.sub, entry.value];
                    rows.push((entry.group, parts.map(<[_]>::to_vec)));
                }
                restored.entries += 1;
            }
            restored.bytes += snapshot.clip(own).full_bytes();
        }
        self.orphans.iter().for_each(|(meta, _)| self.states.add_orphan(meta));
        restored.orphans = self.states.orphans().iter().map(|meta| meta.name.clone()).collect();
        Ok(restored)
    }
}

/// Creates the backends.
#[derive(Clone, Debug)]
pub struct ValuesOnlyFactory;

impl BackendFactory for ValuesOnlyFactory {
    type Backend<K: StateKey> = ValuesOnly<K>;

    fn name(&self) -> &'static str {
        "values-only"
    }

    fn create<K: StateKey>(&self, scope: BackendScope) -> Result<ValuesOnly<K>> {
        let (states, orphans, prepared) = (StateRegistry::new(scope), Vec::new(), VecDeque::new());
        Ok(ValuesOnly { states, orphans, prepared, clock: StateTime::UNKNOWN, key: PhantomData })
    }
}

mod suite {
    use strandline_conformance::{Capabilities, backend_tests};

    const CAPABILITIES: Capabilities = Capabilities {
        incremental: false,
        cleans_up: false,
        filters_full_snapshots: false,
        ..Capabilities::ALL
    };

    backend_tests!(super::ValuesOnlyFactory, CAPABILITIES, kinds: [values]);
}
