//! What the manifest and the indices of files show of the sizes of states, and of where their entries are.

use std::collections::BTreeMap;

use strandline_snapshot_format::SegmentKind;
use strandline_state_api::snapshot::{PartFormat, SegmentName};
use strandline_state_api::{KeyGroupRange, OperatorId, Result};

use crate::{CheckpointReader, StoredState};

/// The size of a state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateSize {
    /// The number of entries, where the [indices show it](CheckpointReader::exact_entries).
    pub exact: Option<u64>,
    /// The number of entries that the files with the state have, those of other states and replaced ones
    /// included; `None` for files of a backend's own.
    pub at_most: Option<u64>,
    /// The bytes of the files of the operator, which hold its other states, too.
    pub bytes: u64,
    /// How many files these are.
    pub files: u64,
}

/// A run of key groups in a file of keyed state: what the index shows of one of its blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The subtask whose snapshot has the file.
    pub subtask: u32,
    /// The file.
    pub file: SegmentName,
    /// From the first to the last key group that the block has entries of.
    pub key_groups: KeyGroupRange,
    /// How many entries it has, of all states of the operator, replaced ones included; `None` for a file of a
    /// backend's own, which is one block.
    pub entries: Option<u64>,
    /// Its stored bytes.
    pub bytes: u64,
}

impl CheckpointReader {
    /// Returns the blocks of the files of an operator, as their indices show them: where its entries are, and whether
    /// some key groups have more than others.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn blocks(&self, operator: &OperatorId) -> Result<Vec<Block>> {
        let mut blocks = Vec::new();
        for (subtask, snapshot) in self.snapshots(operator) {
            for part in &snapshot.parts {
                let file = &part.segment.name;
                if !part.format.is_portable() {
                    let (key_groups, bytes) = (part.key_groups, part.segment.len);
                    blocks.push(Block { subtask, file: file.clone(), key_groups, entries: None, bytes });
                    continue;
                }
                let head = self.head(&part.segment).await?;
                let index = head.index();
                blocks.extend(index.blocks()[index.blocks_in(part.key_groups)].iter().map(|block| Block {
                    subtask,
                    file: file.clone(),
                    key_groups: block.key_groups(),
                    entries: Some(block.entries.into()),
                    bytes: block.stored_len.into(),
                }));
            }
        }
        Ok(blocks)
    }

    /// Returns the number of entries of a state, where the indices of its files show it: when its files have full
    /// contents, no other state, and no key group in common. An entry of a list state is a
    /// whole list.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn exact_entries(&self, state: &StoredState) -> Result<Option<u64>> {
        let mut sum = 0;
        for (_, snapshot) in self.snapshots(state.operator()) {
            for (number, part) in snapshot.parts.iter().enumerate() {
                let before = &snapshot.parts[..number];
                let is_above = before.iter().any(|of| !of.key_groups.intersect(part.key_groups).is_empty());
                if is_above || !part.format.is_portable() {
                    return Ok(None);
                }
                let head = self.head(&part.segment).await?;
                let index = head.index();
                let is_alone = matches!(index.states(), [only] if only.name == state.name());
                let is_whole = part.key_groups.covers(index.key_groups());
                if !is_alone || !is_whole || index.kind() != SegmentKind::Base {
                    return Ok(None);
                }
                sum += index.entries();
            }
        }
        Ok(Some(sum))
    }

    /// Returns the size of a state, as the manifest and the indices of its files show it.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn size(&self, state: &StoredState) -> Result<StateSize> {
        let mut size = StateSize { exact: self.exact_entries(state).await?, ..StateSize::default() };
        let mut at_most = Some(0);
        for (_, snapshot) in self.snapshots(state.operator()) {
            for part in &snapshot.parts {
                size.bytes += part.segment.len;
                size.files += 1;
                if !part.format.is_portable() {
                    at_most = None;
                    continue;
                }
                let head = self.head(&part.segment).await?;
                let index = head.index();
                if index.state(state.name()).is_some() {
                    let blocks = &index.blocks()[index.blocks_in(part.key_groups)];
                    let entries: u64 = blocks.iter().map(|block| u64::from(block.entries)).sum();
                    at_most = at_most.map(|at_most| at_most + entries);
                }
            }
        }
        size.at_most = size.exact.or(at_most);
        Ok(size)
    }

    /// Returns the key groups that the files of an operator have entries of, by their indices: none outside of
    /// them has an entry.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn key_groups(&self, operator: &OperatorId) -> Result<KeyGroupRange> {
        let mut found: Option<KeyGroupRange> = None;
        for (_, snapshot) in self.snapshots(operator) {
            for part in &snapshot.parts {
                let of_part = match part.format {
                    PartFormat::Portable => self.head(&part.segment).await?.index().key_groups(),
                    PartFormat::Native(_) => part.key_groups,
                };
                let of_part = of_part.intersect(part.key_groups);
                found = match found {
                    _ if of_part.is_empty() => found,
                    None => Some(of_part),
                    Some(known) => Some(KeyGroupRange::new(
                        known.start().min(of_part.start()),
                        known.end().max(of_part.end()),
                    )),
                };
            }
        }
        Ok(found.unwrap_or(KeyGroupRange::EMPTY))
    }

    /// Splits a range of key groups by the bytes of the blocks.
    pub(crate) async fn partitions(
        &self,
        state: &StoredState,
        range: KeyGroupRange,
        count: usize,
    ) -> Result<Vec<KeyGroupRange>> {
        let mut bytes: BTreeMap<u32, u64> = BTreeMap::new();
        for (_, snapshot) in self.snapshots(state.operator()) {
            for part in &snapshot.parts {
                let groups = part.key_groups.intersect(range);
                if groups.is_empty() {
                    continue;
                }
                if !part.format.is_portable() {
                    spread(groups, part.segment.len, &mut bytes);
                    continue;
                }
                let head = self.head(&part.segment).await?;
                for block in &head.index().blocks()[head.index().blocks_in(groups)] {
                    *bytes.entry(u32::from(block.first.index()).max(groups.start())).or_default() +=
                        u64::from(block.stored_len);
                }
            }
        }
        let total: u64 = bytes.values().sum();
        let aim = total.div_ceil(count.max(1) as u64).max(1);
        let (mut ranges, mut start, mut sum) = (Vec::new(), range.start(), 0);
        for (first, len) in bytes {
            if sum >= aim && first > start && ranges.len() + 1 < count {
                ranges.push(KeyGroupRange::new(start, first));
                (start, sum) = (first, 0);
            }
            sum += len;
        }
        ranges.push(KeyGroupRange::new(start, range.end()));
        Ok(ranges)
    }
}

/// Adds the bytes of a file whose key groups nobody knows.
fn spread(groups: KeyGroupRange, len: u64, bytes: &mut BTreeMap<u32, u64>) {
    const SLICES: u32 = 64;
    let width = groups.len().div_ceil(SLICES).max(1);
    for start in (groups.start()..groups.end()).step_by(width as usize) {
        *bytes.entry(start).or_default() += len / u64::from(groups.len().div_ceil(width)) + 1;
    }
}
