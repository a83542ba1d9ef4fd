//! Fingerprints of segments and of whole snapshots, for any run of key groups.

use std::iter::Sum;
use std::ops::Add;

use crate::block::Block;
use crate::entry::{chained, name_hash};
use crate::merge::{Merge, native};
use crate::reader::{SegmentReader, fetch};
use crate::segment_kind::SegmentKind;
use strandline_state_api::snapshot::{PartFormat, SegmentStore, SnapshotPart};
use strandline_state_api::{KeyGroupRange, Result};

/// The number of entries, and the wrapping sum of their [fingerprints](crate::fingerprint).
///
/// A fingerprint depends neither on the order of the entries nor on their location. So when state is
/// distributed anew, the sum over the new subtasks equals the sum over the old ones:
///
/// ```
/// use strandline_snapshot_format::Fingerprint;
///
/// let (old, new) = ([Fingerprint { entries: 3, sum: 7 }], [(1, 2), (2, 5)]);
/// let new = new.map(|(entries, sum)| Fingerprint { entries, sum });
/// assert_eq!(old.into_iter().sum::<Fingerprint>(), new.into_iter().sum());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Fingerprint {
    /// The number of entries.
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
    /// Computes the fingerprint of the entries in `range`. The index holds the fingerprint of each block, so
    /// a block inside of the range costs no request; only a block that reaches over an end of the range is
    /// read, at most two of them.
    ///
    /// [`open`](Self::open) checks the index; a read of a block checks that its entries match the index.
    ///
    /// # Errors
    /// Those of [`read`](Self::read).
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

    /// Computes the fingerprint of those entries of one block that are in `range`.
    async fn decoded(&self, number: usize, range: KeyGroupRange) -> Result<Fingerprint> {
        let info = self.index.blocks()[number];
        let stored = fetch(self.store, &self.segment, info.offset..info.end()).await?;
        let named = |error: strandline_state_api::Error| error.with("segment", &self.segment.name);
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

/// Computes the fingerprint of the state that `parts`, a complete chain, oldest first, hold in
/// `range`. A base into which the parts are folded has the same fingerprint, unless a list has elements in
/// several forms of its state.
///
/// For bases that do not overlap (a full snapshot), this is the sum of the fingerprints in their indexes:
/// this costs a request for each part, and 24 bytes for each block of 64 KiB; see
/// [`SegmentReader::fingerprint`]. For a chain with deltas, the sum is known only after a merge, so the call
/// reads the whole chain.
///
/// # Errors
/// Those of [`Merge::open`] and [`Merge::next`].
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
