//! The records of one state in the order of the format.
//!
//! The buffers of a drain come by shard, so their key groups ascend roughly. The iterator sorts the records
//! of one buffer after the other, while they are in the cache, and holds back those of key groups that a
//! later buffer may hold, too.

use std::cmp::Ordering;

use prefetch_index::prefetch_index;
use strandline_snapshot_format::{EntryRef, Op};
use strandline_state_api::KeyGroup;

use crate::records::StateDelta;

/// How many records ahead of the next one the iterator prefetches.
const AHEAD: usize = 8;

/// The location of a record, with enough of its key to compare most records without reading them.
#[derive(Clone, Copy, Default)]
struct Location {
    /// The first eight bytes of the key.
    prefix: u64,
    /// The buffer in the upper 24 bits, the offset in it in the lower 40.
    at: u64,
}

const OFFSET_BITS: u32 = 40;

impl Location {
    fn new(key: &[u8], chunk: usize, offset: usize) -> Self {
        let mut first = [0; 8];
        let taken = key.len().min(8);
        first[..taken].copy_from_slice(&key[..taken]);
        let at = (chunk as u64) << OFFSET_BITS | offset as u64;
        Self { prefix: u64::from_be_bytes(first), at }
    }

    fn chunk(self) -> usize {
        (self.at >> OFFSET_BITS) as usize
    }

    fn offset(self) -> usize {
        (self.at & ((1 << OFFSET_BITS) - 1)) as usize
    }
}

/// The records of one state in the order of the format, each position once.
pub(crate) struct Sorted<'a> {
    delta: &'a StateDelta,
    /// The next buffer.
    chunk: usize,
    /// Located records that are not sorted, and the key group of each.
    found: Vec<Location>,
    groups: Vec<u16>,
    /// Sorted records, and the next of them.
    locations: Vec<Location>,
    next: usize,
    /// For each key group from `lowest` on, the end of its sorted records.
    ends: Vec<u32>,
    lowest: u16,
    /// The index in `ends` of the key group of the next record.
    group: usize,
}

impl<'a> Sorted<'a> {
    pub(crate) fn new(delta: &'a StateDelta) -> Self {
        let mut sorted = Self {
            delta,
            chunk: 0,
            found: Vec::new(),
            groups: Vec::new(),
            locations: Vec::new(),
            next: 0,
            ends: Vec::new(),
            lowest: 0,
            group: 0,
        };
        sorted.refill();
        sorted
    }

    /// Returns the key group of the next record.
    #[inline]
    pub(crate) fn group(&self) -> Option<KeyGroup> {
        if self.next < self.locations.len() { KeyGroup::new(self.lowest + self.group as u16) } else { None }
    }

    /// Returns the next record and its bytes.
    #[inline]
    pub(crate) fn peek(&self) -> Option<(EntryRef<'a>, &'a [u8])> {
        record(self.delta, self.group()?, *self.locations.get(self.next)?)
    }

    /// Passes over the next record.
    #[inline]
    pub(crate) fn skip(&mut self) {
        self.next += 1;
        if let Some(ahead) = self.locations.get(self.next + AHEAD)
            && let Some(chunk) = self.delta.records.chunks().get(ahead.chunk())
        {
            prefetch_index(&chunk.bytes, ahead.offset());
        }
        if self.next < self.locations.len() { self.find_group() } else { self.refill() }
    }

    /// Finds the key group of the next record.
    #[inline]
    fn find_group(&mut self) {
        while self.ends.get(self.group).is_some_and(|end| *end as usize <= self.next) {
            self.group += 1;
        }
    }

    /// Sorts the next records, at the end of those that are sorted.
    #[cold]
    fn refill(&mut self) {
        self.locations.clear();
        self.next = 0;
        while self.locations.is_empty() {
            let lowest = self.groups.iter().min().copied();
            let bound = self.delta.records.from(self.chunk).map(KeyGroup::index);
            match (lowest, bound) {
                (None, None) => return,
                (Some(lowest), bound) if bound.is_none_or(|bound| bound > lowest) => {
                    self.sort(lowest, bound.unwrap_or(u16::MAX));
                }
                _ => self.locate(),
            }
        }
        self.group = 0;
        self.find_group();
    }

    /// Finds the records of the next buffer.
    fn locate(&mut self) {
        let Some(chunk) = self.delta.records.chunks().get(self.chunk) else { return };
        let mut offset = 0;
        while let Some((entry, length)) = self.delta.layout.split(&chunk.bytes[offset..]) {
            self.found.push(Location::new(entry.key, self.chunk, offset));
            self.groups.push(entry.group.index());
            offset += length;
        }
        debug_assert_eq!(offset, chunk.bytes.len(), "records of {} end early", self.delta.meta.name);
        self.chunk += 1;
    }

    /// Sorts the located records of key groups from `lowest` to before `bound`: by counting the groups, then
    /// each group by comparison.
    fn sort(&mut self, lowest: u16, bound: u16) {
        let ready = self.groups.iter().filter(|group| **group < bound);
        let Some(highest) = ready.max().copied() else { return };
        let index = |group: u16| usize::from(group - lowest);
        self.ends.clear();
        self.ends.resize(index(highest) + 1, 0);
        self.lowest = lowest;
        let mut count = 0;
        for group in self.groups.iter().filter(|group| **group < bound) {
            self.ends[index(*group)] += 1;
            count += 1;
        }
        let mut before = 0;
        for end in &mut self.ends {
            before += std::mem::replace(end, before);
        }
        self.locations.resize(count, Location::default());
        let mut held_back = 0;
        for i in 0..self.found.len() {
            let (location, group) = (self.found[i], self.groups[i]);
            if group < bound {
                let end = &mut self.ends[index(group)];
                self.locations[*end as usize] = location;
                *end += 1;
            } else {
                (self.found[held_back], self.groups[held_back]) = (location, group);
                held_back += 1;
            }
        }
        self.found.truncate(held_back);
        self.groups.truncate(held_back);
        self.sort_groups();
    }

    /// Sorts the records of each key group, and drops all but the first at a position.
    fn sort_groups(&mut self) {
        let Self { delta, locations, ends, lowest, .. } = self;
        let (mut start, mut kept) = (0, 0);
        for (index, end) in ends.iter_mut().enumerate() {
            let from = kept;
            let group = KeyGroup::new(*lowest + index as u16);
            let at =
                |location| group.and_then(|group| record(delta, group, location)).map(|(entry, _)| entry);
            let of_group = start..*end as usize;
            start = of_group.end;
            locations[of_group.clone()].sort_unstable_by_key(|location| location.prefix);
            for equal in locations[of_group.clone()].chunk_by_mut(|a, b| a.prefix == b.prefix) {
                if equal.len() > 1 {
                    equal.sort_unstable_by(|a, b| match (at(*a), at(*b)) {
                        // An entry that was removed and came back has a put and a tombstone: the put counts.
                        (Some(x), Some(y)) => x.cmp_position(&y).then(rank(x.op).cmp(&rank(y.op))),
                        _ => Ordering::Equal,
                    });
                }
            }
            for i in of_group {
                let location = locations[i];
                let again = kept > from && locations[kept - 1].prefix == location.prefix && {
                    let pair = (at(locations[kept - 1]), at(location));
                    matches!(pair, (Some(x), Some(y)) if x.cmp_position(&y).is_eq())
                };
                if !again {
                    locations[kept] = location;
                    kept += 1;
                }
            }
            *end = kept as u32;
        }
        locations.truncate(kept);
    }
}

#[inline(always)]
fn record<'a>(
    delta: &'a StateDelta,
    group: KeyGroup,
    location: Location,
) -> Option<(EntryRef<'a>, &'a [u8])> {
    let bytes = delta.records.chunks().get(location.chunk())?.bytes.get(location.offset()..)?;
    let (entry, length) = delta.layout.entry(group, bytes)?;
    Some((entry, &bytes[..length]))
}

fn rank(op: Op) -> u8 {
    match op {
        Op::Put => 0,
        Op::Append => 1,
        Op::Delete | Op::Clear => 2,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use strandline_state_api::schema::{StateKind, StateMeta};
    use strandline_state_api::{KeyHash, StateKey};

    use super::*;
    use crate::record::Layout;
    use crate::records::Records;

    /// A record as its key group, key, operation and value.
    type Plain = (u16, Vec<u8>, Op, Vec<u8>);

    fn encoded(key: &str) -> (u16, Vec<u8>) {
        let mut bytes = Vec::new();
        key.to_owned().encode(&mut bytes);
        (KeyGroup::of(KeyHash::of_encoded(&bytes)).index(), bytes)
    }

    proptest! {
        /// Shards with records of ascending ranges of key groups, some of which a split has left in a lower
        /// one, come out in order, each position once, and a put wins over the tombstone before it.
        #[test]
        fn records_of_any_drain_come_in_order(
            // A key, whether it is put or deleted, and by how many shards its record came too early.
            records in prop::collection::vec((0..60u32, any::<bool>(), 0..3usize), 0..200),
            ends in prop::collection::vec(0..=u16::MAX >> 1, 0..6),
            seed in any::<u64>(),
        ) {
            let mut ends = ends;
            ends.push(u16::MAX);
            ends.sort_unstable();
            let mut shards: Vec<Vec<Plain>> = vec![Vec::new(); ends.len()];
            let mut expected = BTreeMap::new();
            for (i, (key, put, early)) in records.into_iter().enumerate() {
                // Some keys share their first bytes, some are shorter than those.
                let (group, key) = encoded(&format!("{:1$}", key, (key % 12) as usize));
                let (op, value) = if put { (Op::Put, vec![key.len() as u8]) } else { (Op::Delete, Vec::new()) };
                let at = ends.partition_point(|end| *end < group).saturating_sub(early);
                let place = seed.rotate_left(i as u32) as usize % (shards[at].len() + 1);
                shards[at].insert(place, (group, key.clone(), op, value.clone()));
                let known = expected.entry((group, key)).or_insert((op, value.clone()));
                if put {
                    *known = (op, value);
                }
            }

            let layout = Layout::of::<String, ()>();
            let mut records = Records::default();
            let mut from = 0;
            for (shard, end) in shards.iter().zip(ends) {
                for (group, key, op, value) in shard {
                    let entry = EntryRef::new(KeyGroup::new(*group).unwrap(), 0, *op, key);
                    let buffer = records.buffer(KeyGroup::new(from).unwrap());
                    layout.write(&entry, &[value], buffer);
                }
                from = end.saturating_add(1).min(KeyGroup::COUNT as u16 - 1);
            }

            let meta = StateMeta::new("values", StateKind::Value);
            let delta = StateDelta { meta, layout, records };
            let (mut sorted, mut found) = (Sorted::new(&delta), Vec::new());
            while let Some((entry, _)) = sorted.peek() {
                assert_eq!(sorted.group(), Some(entry.group));
                found.push(((entry.group.index(), entry.key.to_vec()), (entry.op, entry.value.to_vec())));
                sorted.skip();
            }
            assert_eq!(sorted.group(), None);
            assert_eq!(found, expected.into_iter().collect::<Vec<_>>());
        }
    }
}
