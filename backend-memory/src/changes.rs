//! What changed in one step, and how it becomes segments.

use std::fmt;

use prefetch_index::prefetch_index;
use strandline_snapshot_format::{EntryRef, ExpiryFilter, Kept, Op, SegmentKind, SegmentWriter};
use strandline_state_api::schema::StateMeta;
use strandline_state_api::{KeyGroup, Result};

use crate::options::MemoryOptions;
use crate::record::Layout;

/// Changed entries, tombstones and old values of one state, as encoded records in no order.
pub(crate) struct StateDelta {
    pub(crate) meta: StateMeta,
    pub(crate) layout: Layout,
    pub(crate) chunks: Vec<Vec<u8>>,
}

impl fmt::Debug for StateDelta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} bytes", self.meta.name, self.chunks.iter().map(Vec::len).sum::<usize>())
    }
}

/// What changed between one snapshot and the next, encoded and owned.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub(crate) states: Vec<StateDelta>,
    /// Whether they hold all entries, so that they need no older file.
    pub(crate) full: bool,
    bytes: usize,
    records: usize,
}

impl Changes {
    /// Creates changes of about `records` records.
    pub(crate) fn new(states: Vec<StateDelta>, full: bool, records: usize) -> Self {
        let bytes = states.iter().flat_map(|state| &state.chunks).map(Vec::len).sum();
        Self { states, full, bytes, records }
    }

    /// Returns the number of bytes of all records.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the number of records, as far as it is known.
    pub(crate) fn records(&self) -> usize {
        self.records
    }
}

/// How many records ahead of the current one the writer prefetches.
const AHEAD: usize = 8;

/// The location of a record, with enough of its key to compare most records without reading them.
#[derive(Clone, Copy, Default)]
struct RecordLocation {
    /// The key group, then the first six bytes of the key.
    prefix: u64,
    chunk: u32,
    offset: u32,
}

impl RecordLocation {
    fn new(entry: &EntryRef<'_>, chunk: usize, offset: usize) -> Self {
        let mut first = [0; 8];
        let taken = entry.key.len().min(6);
        first[2..2 + taken].copy_from_slice(&entry.key[..taken]);
        let prefix = u64::from(entry.group.index()) << 48 | u64::from_be_bytes(first);
        Self { prefix, chunk: chunk as u32, offset: offset as u32 }
    }

    #[inline]
    fn group(self) -> u64 {
        self.prefix >> 48
    }
}

/// The records of one state in the order of the format, each position once.
pub(crate) struct Sorted<'a> {
    delta: &'a StateDelta,
    locations: Vec<RecordLocation>,
    next: usize,
}

impl<'a> Sorted<'a> {
    pub(crate) fn new(delta: &'a StateDelta) -> Self {
        let mut sorted = Self { delta, locations: locations_by_group(delta), next: 0 };
        let mut locations = std::mem::take(&mut sorted.locations);
        // Groups are small, so almost all comparisons read from the nearest cache.
        for group in locations.chunk_by_mut(|a, b| a.group() == b.group()) {
            group.sort_unstable_by(|a, b| {
                a.prefix.cmp(&b.prefix).then_with(|| match (sorted.at(*a), sorted.at(*b)) {
                    // An entry that was removed and came back has a put and a tombstone: the put counts.
                    (Some(x), Some(y)) => x.cmp_position(&y).then(rank(x.op).cmp(&rank(y.op))),
                    _ => std::cmp::Ordering::Equal,
                })
            });
        }
        locations.dedup_by(|b, a| {
            a.prefix == b.prefix
                && matches!((sorted.at(*a), sorted.at(*b)), (Some(x), Some(y)) if x.cmp_position(&y).is_eq())
        });
        sorted.locations = locations;
        sorted
    }

    #[inline]
    fn at(&self, location: RecordLocation) -> Option<EntryRef<'a>> {
        let bytes = self.delta.chunks.get(location.chunk as usize)?.get(location.offset as usize..)?;
        let group = KeyGroup::new(location.group() as u16)?;
        self.delta.layout.entry(group, bytes).map(|(entry, _)| entry)
    }

    /// Returns the next record and its bytes.
    #[inline]
    pub(crate) fn peek(&self) -> Option<(EntryRef<'a>, &'a [u8])> {
        let location = *self.locations.get(self.next)?;
        let bytes = self.delta.chunks.get(location.chunk as usize)?.get(location.offset as usize..)?;
        let group = KeyGroup::new(location.group() as u16)?;
        self.delta.layout.entry(group, bytes).map(|(entry, length)| (entry, &bytes[..length]))
    }

    /// Passes over the next record.
    #[inline]
    pub(crate) fn skip(&mut self) {
        self.next += 1;
    }

    fn group(&self) -> Option<u64> {
        self.locations.get(self.next).map(|location| location.group())
    }

    /// Prefetches the record that comes [`AHEAD`] of the next.
    #[inline]
    fn prefetch(&self) {
        if let Some(location) = self.locations.get(self.next + AHEAD)
            && let Some(chunk) = self.delta.chunks.get(location.chunk as usize)
        {
            prefetch_index(chunk, location.offset as usize);
        }
    }
}

/// Returns all records, those of a key group side by side and the groups in order, by counting: a shard
/// drains its groups together, so records that are near in the one order are near in the other.
fn locations_by_group(delta: &StateDelta) -> Vec<RecordLocation> {
    let mut found = Vec::new();
    let mut next = vec![0; KeyGroup::COUNT as usize];
    for (chunk, bytes) in delta.chunks.iter().enumerate() {
        let mut offset = 0;
        while let Some((entry, length)) = delta.layout.split(&bytes[offset..]) {
            next[usize::from(entry.group.index())] += 1;
            found.push(RecordLocation::new(&entry, chunk, offset));
            offset += length;
        }
        debug_assert_eq!(offset, bytes.len(), "records of {} end early", delta.meta.name);
    }
    let mut before = 0;
    for count in &mut next {
        before += std::mem::replace(count, before);
    }
    let mut locations = vec![RecordLocation::default(); found.len()];
    for location in found {
        let next = &mut next[location.group() as usize];
        locations[*next] = location;
        *next += 1;
    }
    locations
}

fn rank(op: Op) -> u8 {
    match op {
        Op::Put => 0,
        Op::Append => 1,
        Op::Delete | Op::Clear => 2,
    }
}

/// Writes `changes` as segments and hands each to `done` when it is complete.
///
/// A [`SegmentKind::Base`] leaves out tombstones and turns appends into puts: nothing older exists. It also
/// leaves out what `filter` does.
pub(crate) fn write_segments(
    changes: &Changes,
    kind: SegmentKind,
    filter: &ExpiryFilter,
    options: &MemoryOptions,
    done: &mut dyn FnMut(SegmentWriter) -> Result<()>,
) -> Result<()> {
    let mut states: Vec<_> = changes.states.iter().collect();
    states.sort_by(|a, b| a.meta.name.cmp(&b.meta.name));
    let metas: Vec<_> = states.iter().map(|state| state.meta.clone()).collect();
    let mut sorted: Vec<_> = states.into_iter().map(Sorted::new).collect();
    let start = || SegmentWriter::new(metas.clone(), kind, options.format.writer);
    let mut writer = start()?;
    let mut part = Vec::new();
    while let Some(group) = sorted.iter().filter_map(Sorted::group).min() {
        for (index, state) in sorted.iter_mut().enumerate() {
            while state.group() == Some(group) {
                state.prefetch();
                let location = state.locations[state.next];
                state.next += 1;
                let Some(mut entry) = state.at(location) else { continue };
                if kind == SegmentKind::Base {
                    match entry.op {
                        Op::Put => {}
                        Op::Append => entry.op = Op::Put,
                        Op::Delete | Op::Clear => continue,
                    }
                    match filter.keep(&metas[index], entry.value, &mut part) {
                        Kept::Whole => {}
                        Kept::Part => entry.value = &part,
                        Kept::Nothing => continue,
                    }
                }
                entry.state = index as u16;
                debug_assert_eq!(u64::from(KeyGroup::index(entry.group)), group);
                writer.push(entry)?;
            }
        }
        if writer.bytes_so_far() >= options.format.max_segment_bytes {
            done(std::mem::replace(&mut writer, start()?))?;
        }
    }
    if writer.is_empty() { Ok(()) } else { done(writer) }
}
