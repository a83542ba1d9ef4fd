//! Both phases of a whole snapshot.

use async_trait::async_trait;
use strandline_state_api::backend::{Progress, SnapshotKind, SnapshotSource, SnapshotWriter};
use strandline_state_api::schema::StateMeta;
use strandline_state_api::snapshot::{KeyedSnapshot, SegmentStore, SnapshotPart};
use strandline_state_api::{CheckpointId, KeyGroup, Result, StateKey};

use super::{AnyState, EntryAddress, WholeStates};
use crate::entry::{EntryRef, Op};
use crate::expiry::{ExpiryFilter, Kept};
use crate::segment_kind::SegmentKind;
use crate::timer_key;
use crate::writer::{FinishedSegment, SegmentWriter, WriterOptions};

/// All entries of all states at one barrier, encoded.
#[derive(Clone, Debug, Default)]
pub struct WholeSnapshot {
    pub(super) states: Vec<StateEntries>,
}

impl WholeSnapshot {
    /// Leaves out the states that `keep` refuses.
    pub fn retain(&mut self, mut keep: impl FnMut(&StateMeta) -> bool) {
        self.states.retain(|state| keep(&state.meta));
    }
}

/// All entries of one state, encoded.
#[derive(Clone, Debug)]
pub(super) struct StateEntries {
    pub(super) meta: StateMeta,
    pub(super) entries: Vec<Stored>,
}

/// One entry as it stands in a segment.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) group: KeyGroup,
    /// [`Op::Append`] where elements follow those of an older form of an unclaimed list.
    pub(super) op: Op,
    pub(super) key: Vec<u8>,
    pub(super) namespace: Vec<u8>,
    pub(super) sub: Vec<u8>,
    pub(super) value: Vec<u8>,
}

impl<K: StateKey> WholeStates<K> {
    fn encode(&self, kind: SnapshotKind) -> Result<WholeSnapshot> {
        let expiring = self.states.iter().map(|state| (&state.schema().meta, state.ttl()));
        let filter = match kind {
            SnapshotKind::Incremental | SnapshotKind::View => ExpiryFilter::default(),
            SnapshotKind::Full | SnapshotKind::Savepoint => ExpiryFilter::of(self.clock, expiring),
        };
        let mut whole = self.orphans.clone();
        for state in self.states.iter() {
            let encoded = encode(state, &filter);
            whole.states.push(encoded.map_err(|error| {
                self.states.scope().locate(error.with("state", &state.schema().meta.name))
            })?);
        }
        Ok(whole)
    }
}

fn encode(state: &dyn AnyState, filter: &ExpiryFilter) -> Result<StateEntries> {
    let meta = state.schema().meta.clone();
    let (mut entries, mut part) = (Vec::with_capacity(state.entries()), Vec::new());
    state.stored(&mut |at, content| {
        let value = match filter.keep(&meta, content, &mut part) {
            Kept::Whole => content,
            Kept::Part => &part,
            Kept::Nothing => return Ok(()),
        };
        let EntryAddress { time, key, namespace, map_key } = at.clone();
        let group = KeyGroup::of(at.key_hash());
        let key = if meta.kind.is_timers() { timer_key(time, &key) } else { key };
        let (op, value) = (Op::Put, value.to_vec());
        entries.push(Stored { group, op, key, namespace, sub: map_key, value });
        Ok(())
    })?;
    Ok(StateEntries { meta, entries })
}

fn timer_key(time: i64, key: &[u8]) -> Vec<u8> {
    let mut packed = Vec::with_capacity(8 + key.len());
    timer_key::pack(time, key, &mut packed);
    packed
}

impl<K: StateKey> SnapshotSource for WholeStates<K> {
    type Prepared = WholeSnapshot;
    type Writer = WholeWriter;

    fn prepare(&mut self, checkpoint: CheckpointId, kind: SnapshotKind) -> Result<()> {
        self.states.begin_checkpoint(checkpoint)?;
        let whole = self.encode(kind);
        self.prepared.push_back((checkpoint, whole));
        Ok(())
    }

    fn advance(&mut self, _budget: usize) -> Result<Progress<WholeSnapshot>> {
        let Some((checkpoint, whole)) = self.prepared.pop_front() else { return Ok(Progress::Idle) };
        let whole = whole.map_err(|error| error.with("checkpoint", checkpoint))?;
        Ok(Progress::Ready(checkpoint, whole))
    }

    fn take_writer(&mut self) -> Result<WholeWriter> {
        self.states.take_writer().map(|()| WholeWriter(()))
    }
}

/// Writes one segment for each snapshot, and one more for each further form of an unclaimed state. As each
/// snapshot is whole, the writer has nothing to remember: a commit that fails leaves nothing behind.
#[derive(Debug)]
pub struct WholeWriter(());

#[async_trait]
impl SnapshotWriter for WholeWriter {
    type Prepared = WholeSnapshot;

    async fn commit(&self, whole: WholeSnapshot, store: &dyn SegmentStore) -> Result<KeyedSnapshot> {
        let mut snapshot = KeyedSnapshot::default();
        let mut layers: Vec<Vec<&StateEntries>> = Vec::new();
        for state in &whole.states {
            // The forms of an unclaimed state come in the order of their layers.
            let has_no_other =
                |layer: &Vec<&StateEntries>| layer.iter().all(|of| of.meta.name != state.meta.name);
            match layers.iter_mut().find(|layer| has_no_other(layer)) {
                Some(layer) => layer.push(state),
                None => layers.push(vec![state]),
            }
        }
        for (layer, states) in layers.iter_mut().enumerate() {
            let kind = if layer == 0 { SegmentKind::Base } else { SegmentKind::Delta };
            states.sort_by(|a, b| a.meta.name.cmp(&b.meta.name));
            if let Some(finished) = segment(states, kind)? {
                let segment = store.put(finished.bytes).await?;
                snapshot.written_bytes += segment.len;
                snapshot.parts.push(SnapshotPart::portable(segment, finished.key_groups));
            }
        }
        if !snapshot.parts.is_empty() {
            snapshot.states = whole.states.iter().map(|state| state.meta.clone()).collect();
            snapshot.states.sort_by(|a, b| a.name.cmp(&b.name));
        }
        Ok(snapshot)
    }
}

/// Writes the entries of `states`, sorted by name, to a segment; returns none if there are no entries.
fn segment(states: &[&StateEntries], kind: SegmentKind) -> Result<Option<FinishedSegment>> {
    let mut entries = Vec::new();
    for (state, of_state) in (0..).zip(states) {
        entries.extend(of_state.entries.iter().map(|entry| EntryRef {
            namespace: &entry.namespace,
            sub: &entry.sub,
            value: &entry.value,
            ..EntryRef::new(entry.group, state, entry.op, &entry.key)
        }));
    }
    if entries.is_empty() {
        return Ok(None);
    }
    entries.sort_unstable_by(EntryRef::cmp_position);
    let metas = states.iter().map(|state| state.meta.clone()).collect();
    let mut writer = SegmentWriter::new(metas, kind, WriterOptions::default())?;
    entries.into_iter().try_for_each(|entry| writer.push(entry))?;
    writer.finish().map(Some)
}
