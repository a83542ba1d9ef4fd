//! Helpers that the tests of the portable format share.

use std::future::Future;
use std::ops::ControlFlow;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use strandline_snapshot_format::{
    EntryRef, FinishedSegment, MemorySegments, Merge, Op, SegmentKind, SegmentReader, SegmentWriter,
    WriterOptions,
};
use strandline_state_api::schema::{StateKind, StateMeta};
use strandline_state_api::snapshot::{SegmentRef, SegmentStore, SnapshotPart};
use strandline_state_api::{KeyGroup, KeyGroupRange, Result};

/// Returns the number of cases of a property; `STRANDLINE_CASES` multiplies it.
pub(crate) fn cases(default: u32) -> u32 {
    let factor = std::env::var("STRANDLINE_CASES").ok().and_then(|text| text.parse::<u32>().ok());
    default.saturating_mul(factor.unwrap_or(1))
}

/// Runs a future that never waits, as those over [`MemorySegments`] do.
pub(crate) fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a future over memory waited"),
    }
}

/// An owned entry with the name of its state; it sorts as the format does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    pub(crate) group: u16,
    pub(crate) state: String,
    pub(crate) key: Vec<u8>,
    pub(crate) namespace: Vec<u8>,
    /// Whether the operation is not `Clear`, so that clears sort first.
    pub(crate) rank: bool,
    pub(crate) sub: Vec<u8>,
    pub(crate) op: u8,
    pub(crate) value: Vec<u8>,
}

impl Entry {
    pub(crate) fn of(states: &[StateMeta], entry: EntryRef<'_>) -> Self {
        Self {
            group: entry.group.index(),
            state: states[usize::from(entry.state)].name.clone(),
            key: entry.key.to_vec(),
            namespace: entry.namespace.to_vec(),
            rank: entry.op != Op::Clear,
            sub: entry.sub.to_vec(),
            op: entry.op.code(),
            value: entry.value.to_vec(),
        }
    }

    pub(crate) fn op(&self) -> Op {
        [Op::Put, Op::Delete, Op::Append, Op::Clear][usize::from(self.op)]
    }

    pub(crate) fn lend(&self, states: &[StateMeta]) -> EntryRef<'_> {
        EntryRef {
            group: KeyGroup::new(self.group).unwrap(),
            state: states.iter().position(|meta| meta.name == self.state).unwrap() as u16,
            op: self.op(),
            key: &self.key,
            namespace: &self.namespace,
            sub: &self.sub,
            value: &self.value,
        }
    }
}

/// Returns one state of each kind, and some with namespaces or without values.
pub(crate) fn states() -> Vec<StateMeta> {
    let namespaced =
        |name: &str, kind| StateMeta { namespace_codec: "window".into(), ..StateMeta::new(name, kind) };
    vec![
        StateMeta::new("counts", StateKind::Value),
        StateMeta::new("items", StateKind::List),
        StateMeta::new("map", StateKind::Map),
        StateMeta { value_codec: String::new(), ..StateMeta::new("set", StateKind::Map) },
        StateMeta::new("timers", StateKind::EventTimers),
        namespaced("window-items", StateKind::List),
        namespaced("window-map", StateKind::Map),
        namespaced("window-sum", StateKind::Aggregating),
        namespaced("window-timers", StateKind::ProcessingTimers),
    ]
}

pub(crate) fn write(
    states: &[StateMeta],
    kind: SegmentKind,
    options: WriterOptions,
    entries: &[Entry],
) -> Result<FinishedSegment> {
    let mut writer = SegmentWriter::new(states.to_vec(), kind, options)?;
    for entry in entries {
        writer.push(entry.lend(states))?;
    }
    writer.finish()
}

pub(crate) fn read(
    store: &dyn SegmentStore,
    segment: &SegmentRef,
    range: KeyGroupRange,
) -> Result<Vec<Entry>> {
    now(async {
        let reader = SegmentReader::open(store, segment).await?;
        let mut entries = Vec::new();
        reader
            .read(range, |entry| {
                entries.push(Entry::of(reader.states(), entry));
                Ok(())
            })
            .await?;
        Ok(entries)
    })
}

/// Reads whole bytes as a segment.
pub(crate) fn read_bytes(bytes: &[u8]) -> Result<Vec<Entry>> {
    let store = MemorySegments::new();
    let segment = now(store.put(bytes.to_vec()))?;
    read(&store, &segment, KeyGroupRange::ALL)
}

pub(crate) fn merge(
    store: &dyn SegmentStore,
    parts: &[SnapshotPart],
    target: SegmentKind,
    range: KeyGroupRange,
) -> Result<Vec<Entry>> {
    now(async {
        let mut merge = Merge::open(store, parts, target, range).await?;
        let states = merge.states().to_vec();
        let mut entries = Vec::new();
        while let Some(entry) = merge.next().await? {
            entries.push(Entry::of(&states, entry));
        }
        // Lent in stretches of some lengths, and one by one in between, they are the same.
        let (mut merge, mut lent) = (Merge::open(store, parts, target, range).await?, Vec::new());
        for length in [1, 2, 7, usize::MAX].into_iter().cycle() {
            let mut left = length;
            let more = merge.read(|entry| {
                lent.push(Entry::of(&states, entry));
                left -= 1;
                Ok(if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            });
            if !more.await? {
                break;
            }
            match merge.next().await? {
                Some(entry) => lent.push(Entry::of(&states, entry)),
                None => break,
            }
        }
        assert_eq!(lent, entries);
        Ok(entries)
    })
}
