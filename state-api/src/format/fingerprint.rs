//! Fingerprints of segments and of whole snapshots, for any run of key groups.

use std::iter::Sum;
use std::ops::Add;

use super::block::Block;
use super::entry::{chained, name_hash};
use super::merge::{Merge, native};
use super::reader::{SegmentReader, fetch};
use super::state::SegmentKind;
use crate::{KeyGroupRange, PartFormat, Result, SegmentStore, SnapshotPart};

/// How many entries there are, and the wrapping sum of their [fingerprints](super::fingerprint).
///
/// It does not depend on the order of the entries, nor on where they are. So of state that was distributed anew, the sum over
/// the new subtasks is that over the old ones:
///
/// ```
/// use strandline_state_api::format::Fingerprint;
///
/// let (old, new) = ([Fingerprint { entries: 3, sum: 7 }], [(1, 2), (2, 5)]);
/// let new = new.map(|(entries, sum)| Fingerprint { entries, sum });
/// assert_eq!(old.into_iter().sum::<Fingerprint>(), new.into_iter().sum());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Fingerprint {
    /// How many entries.
    pub entries: u64,
    /// The sum of their fingerprints, modulo 2^64.
    pub sum: u64,
}

impl Add for Fingerprint {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { entries: self.entries.wrapping_add(other.entries), sum: self.sum.wrapping_add(other.sum) }
    }
}

impl Sum for Fingerprint {
    fn sum<I: Iterator<Item = Self>>(fingerprints: I) -> Self {
        fingerprints.fold(Self::default(), Add::add)
    }
}

impl SegmentReader<'_> {
    /// The fingerprint of the entries in `range`: of blocks that lie in it as the index says, so it costs no request; only a
    /// block that reaches over an end of the range is read, at most two of them.
    ///
    /// The index is checked when the segment is opened. That the entries are those that it speaks of is checked wherever a
    /// block is read.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub async fn fingerprint(&self, range: KeyGroupRange) -> Result<Fingerprint> {
        let mut found = Fingerprint::default();
        for number in self.index.blocks_in(range) {
            let info = self.index.blocks()[number];
            let block = if range.covers(info.key_groups()) {
                Fingerprint { entries: u64::from(info.entries), sum: info.fingerprint }
            } else {
                self.decoded(number, range).await?
            };
            found = found + block;
        }
        Ok(found)
    }

    /// That of the entries of one block that are in `range`.
    async fn decoded(&self, number: usize, range: KeyGroupRange) -> Result<Fingerprint> {
        let info = self.index.blocks()[number];
        let stored = fetch(self.store, &self.segment, info.offset..info.end()).await?;
        let named = |error: crate::Error| error.with("segment", &self.segment.name);
        let block = Block::decode(&self.index, number, &stored).map_err(named)?;
        let mut found = Fingerprint::default();
        for entry in block.entries() {
            let entry = entry.map_err(named)?;
            if range.contains(entry.group) {
                found = found + Fingerprint { entries: 1, sum: self.index.fingerprint_of(&entry) };
            }
        }
        Ok(found)
    }
}

/// The fingerprint of the state that `parts`, a complete chain, oldest first, hold in `range`: that of a base into which they
/// would be folded.
///
/// Of bases that do not overlap (a full snapshot) it is the sum of what their indexes say: a request for each part, and 24
/// bytes for each block of 64 KiB; see [`SegmentReader::fingerprint`]. Of a chain with deltas it is not known before the chain
/// is merged, so all of it is read.
///
/// # Errors
/// As [`Merge::open`] and [`Merge::next`].
pub async fn snapshot_fingerprint(
    parts: &[SnapshotPart],
    store: &dyn SegmentStore,
    range: KeyGroupRange,
) -> Result<Fingerprint> {
    let (mut found, mut counted) = (Fingerprint::default(), Vec::<KeyGroupRange>::new());
    for part in parts {
        let groups = part.key_groups.intersect(range);
        if groups.is_empty() {
            continue;
        }
        if let PartFormat::Native(format) = &part.format {
            return Err(native(part, format));
        }
        let reader = SegmentReader::open(store, &part.segment).await?;
        let overlaps = counted.iter().any(|other| !other.intersect(groups).is_empty());
        if overlaps || reader.index().kind() != SegmentKind::Base {
            return merged(parts, store, range).await;
        }
        counted.push(groups);
        found = found + reader.fingerprint(groups).await?;
    }
    Ok(found)
}

async fn merged(
    parts: &[SnapshotPart],
    store: &dyn SegmentStore,
    range: KeyGroupRange,
) -> Result<Fingerprint> {
    let mut merge = Merge::open(store, parts, SegmentKind::Base, range).await?;
    let names: Vec<u64> = merge.states().iter().map(|meta| name_hash(&meta.name)).collect();
    let mut found = Fingerprint::default();
    while let Some(entry) = merge.next().await? {
        let name = names.get(usize::from(entry.state)).copied().unwrap_or_default();
        found = found + Fingerprint { entries: 1, sum: chained(name, &entry) };
    }
    Ok(found)
}
