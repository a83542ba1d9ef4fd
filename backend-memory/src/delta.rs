//! What the first phase hands to the second, and how it becomes segments.

use std::fmt;

use prefetch_index::prefetch_index;
use strandline_state_api::format::{EntryRef, Op, SegmentKind, SegmentWriter, StateMeta};
use strandline_state_api::{KeyGroup, Trimmed, Trimming};

use crate::backend::MemoryOptions;
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

/// A prepared snapshot: what changed since the one before, encoded and owned.
#[derive(Debug)]
pub struct Delta {
    pub(crate) states: Vec<StateDelta>,
    /// All states, those in older files too that nobody registered.
    pub(crate) described: Vec<StateMeta>,
    /// Whether it holds all entries, so that it stands for itself.
    pub(crate) full: bool,
    /// Whether the caller asked for a snapshot that needs no older file.
    pub(crate) fold: bool,
    /// What that leaves out.
    pub(crate) trimming: Trimming,
}

impl Delta {
    /// Bytes of its records.
    pub fn bytes(&self) -> usize {
        self.states.iter().flat_map(|state| &state.chunks).map(Vec::len).sum()
    }
}

/// Records that are on their way from memory while one is written.
const AHEAD: usize = 8;

/// Where a record is, with enough of its position to compare most records without looking at them.
#[derive(Clone, Copy, Default)]
struct Place {
    /// The key group, then the first six bytes of the key.
    prefix: u64,
    chunk: u32,
    offset: u32,
}

impl Place {
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
struct Sorted<'a> {
    delta: &'a StateDelta,
    places: Vec<Place>,
    next: usize,
}

impl<'a> Sorted<'a> {
    fn new(delta: &'a StateDelta) -> Self {
        let mut sorted = Self { delta, places: places_by_group(delta), next: 0 };
        let mut places = std::mem::take(&mut sorted.places);
        // Groups are small, so almost all of this happens in the nearest cache.
        for group in places.chunk_by_mut(|a, b| a.group() == b.group()) {
            group.sort_unstable_by(|a, b| {
                a.prefix.cmp(&b.prefix).then_with(|| match (sorted.at(*a), sorted.at(*b)) {
                    // An entry that was removed and came back has a put and a tombstone: the put counts.
                    (Some(x), Some(y)) => x.cmp_position(&y).then(rank(x.op).cmp(&rank(y.op))),
                    _ => std::cmp::Ordering::Equal,
                })
            });
        }
        places.dedup_by(|b, a| {
            a.prefix == b.prefix
                && matches!((sorted.at(*a), sorted.at(*b)), (Some(x), Some(y)) if x.cmp_position(&y).is_eq())
        });
        sorted.places = places;
        sorted
    }

    #[inline]
    fn at(&self, place: Place) -> Option<EntryRef<'a>> {
        let bytes = self.delta.chunks.get(place.chunk as usize)?.get(place.offset as usize..)?;
        let group = KeyGroup::new(place.group() as u16)?;
        self.delta.layout.entry(group, bytes).map(|(entry, _)| entry)
    }

    fn group(&self) -> Option<u64> {
        self.places.get(self.next).map(|place| place.group())
    }

    /// Asks for the memory of the record that comes [`AHEAD`] of the next.
    #[inline]
    fn prefetch(&self) {
        if let Some(place) = self.places.get(self.next + AHEAD)
            && let Some(chunk) = self.delta.chunks.get(place.chunk as usize)
        {
            prefetch_index(chunk, place.offset as usize);
        }
    }
}

/// All records, those of a key group side by side and the groups in order, by counting: a shard drains its groups
/// together, so what is near in the one order is near in the other.
fn places_by_group(delta: &StateDelta) -> Vec<Place> {
    let mut found = Vec::new();
    let mut next = vec![0; KeyGroup::COUNT as usize];
    for (chunk, bytes) in delta.chunks.iter().enumerate() {
        let mut offset = 0;
        while let Some((entry, length)) = delta.layout.split(&bytes[offset..]) {
            next[usize::from(entry.group.index())] += 1;
            found.push(Place::new(&entry, chunk, offset));
            offset += length;
        }
        debug_assert_eq!(offset, bytes.len(), "records of {} end early", delta.meta.name);
    }
    let mut before = 0;
    for count in &mut next {
        before += std::mem::replace(count, before);
    }
    let mut places = vec![Place::default(); found.len()];
    for place in found {
        let next = &mut next[place.group() as usize];
        places[*next] = place;
        *next += 1;
    }
    places
}

fn rank(op: Op) -> u8 {
    match op {
        Op::Put => 0,
        Op::Append => 1,
        Op::Delete | Op::Clear => 2,
    }
}

/// Writes `delta` as segments and gives each to `done` as it is finished.
///
/// With [`SegmentKind::Base`] tombstones are left out and appends are puts: there is nothing older.
pub(crate) fn write_segments(
    delta: &Delta,
    kind: SegmentKind,
    options: &MemoryOptions,
    done: &mut dyn FnMut(SegmentWriter) -> strandline_state_api::Result<()>,
) -> strandline_state_api::Result<()> {
    let mut states: Vec<_> = delta.states.iter().collect();
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
                let place = state.places[state.next];
                state.next += 1;
                let Some(mut entry) = state.at(place) else { continue };
                if kind == SegmentKind::Base {
                    match entry.op {
                        Op::Put => {}
                        Op::Append => entry.op = Op::Put,
                        Op::Delete | Op::Clear => continue,
                    }
                    match delta.trimming.trim(&metas[index], entry.value, &mut part) {
                        Trimmed::Whole => {}
                        Trimmed::Part => entry.value = &part,
                        Trimmed::Gone => continue,
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
