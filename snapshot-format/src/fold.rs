//! Folds a chain of parts into new segments.

use crate::expiry::{ExpiryFilter, Kept};
use crate::merge::Merge;
use crate::segment_kind::SegmentKind;
use crate::writer::{SegmentWriter, WriterOptions};
use strandline_state_api::snapshot::{SegmentStore, SnapshotPart};
use strandline_state_api::{KeyGroup, KeyGroupRange, Result};

/// The options of [`fold`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoldOptions {
    /// The approximate maximum size of a segment, in bytes; 64 MiB unless set. A segment ends behind the key
    /// group that reaches this size, or inside of one that exceeds it by a quarter.
    pub max_segment_bytes: usize,
    /// The options of each segment.
    pub writer: WriterOptions,
}

impl Default for FoldOptions {
    fn default() -> Self {
        Self { max_segment_bytes: 64 << 20, writer: WriterOptions::default() }
    }
}

/// The result of a fold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Folded {
    /// The new segments in the order of their key groups; none when there are no entries.
    pub parts: Vec<SnapshotPart>,
    /// The number of bytes of the new segments.
    pub written_bytes: u64,
    /// The number of entries of the new segments.
    pub entries: u64,
    /// The number of bytes of these entries before compression.
    pub raw_bytes: u64,
    /// The wrapping sum of the [fingerprints](crate::fingerprint) of these entries.
    pub fingerprint: u64,
}

/// Merges `parts`, oldest first, as far as they lie in `range`, into new segments of kind `target` in the
/// same store.
///
/// With [`SegmentKind::Base`] the parts must be a complete chain, and the result needs no other part. With
/// [`SegmentKind::Delta`] they may be any consecutive parts of a chain, and the result takes their place in
/// it. The rules are those of [`Merge`]. The fold streams: the segment being written and what [`Merge`] needs
/// bound its memory. It is CPU-bound between its requests.
///
/// # Errors
/// Those of [`Merge::open`] and [`Merge::next`], and those of the store; no snapshot refers to the segments
/// that were written before the error.
pub async fn fold(
    parts: &[SnapshotPart],
    store: &dyn SegmentStore,
    target: SegmentKind,
    range: KeyGroupRange,
    options: &FoldOptions,
) -> Result<Folded> {
    fold_into(parts, store, store, target, range, options).await
}

/// Folds into a base like [`fold`], and leaves out expired values.
///
/// # Errors
/// Those of [`fold`].
pub async fn fold_filtered(
    parts: &[SnapshotPart],
    store: &dyn SegmentStore,
    range: KeyGroupRange,
    options: &FoldOptions,
    filter: &ExpiryFilter,
) -> Result<Folded> {
    run(parts, (store, store), SegmentKind::Base, range, options, filter).await
}

/// Folds from one store into another, like [`fold`].
///
/// # Errors
/// Those of [`fold`].
pub async fn fold_into(
    parts: &[SnapshotPart],
    from: &dyn SegmentStore,
    into: &dyn SegmentStore,
    target: SegmentKind,
    range: KeyGroupRange,
    options: &FoldOptions,
) -> Result<Folded> {
    run(parts, (from, into), target, range, options, &ExpiryFilter::default()).await
}

async fn run(
    parts: &[SnapshotPart],
    (from, into): (&dyn SegmentStore, &dyn SegmentStore),
    target: SegmentKind,
    range: KeyGroupRange,
    options: &FoldOptions,
    filter: &ExpiryFilter,
) -> Result<Folded> {
    let mut merge = Merge::open(from, parts, target, range).await?;
    let states = merge.states().to_vec();
    let start = || SegmentWriter::new(states.clone(), target, options.writer);
    let mut writer = start()?;
    let mut folded = Folded::default();
    let mut group: Option<KeyGroup> = None;
    let mut part = Vec::new();
    while let Some(mut entry) = merge.next().await? {
        if !filter.is_empty() {
            match filter.keep(&states[usize::from(entry.state)], entry.value, &mut part) {
                Kept::Whole => {}
                Kept::Part => entry.value = &part,
                Kept::Nothing => continue,
            }
        }
        let written = writer.bytes_so_far();
        let full = written >= options.max_segment_bytes && group != Some(entry.group);
        if !writer.is_empty() && (full || written / 5 * 4 >= options.max_segment_bytes) {
            folded.store(std::mem::replace(&mut writer, start()?), into).await?;
        }
        group = Some(entry.group);
        writer.push(entry)?;
    }
    if !writer.is_empty() {
        folded.store(writer, into).await?;
    }
    Ok(folded)
}

impl Folded {
    async fn store(&mut self, writer: SegmentWriter, into: &dyn SegmentStore) -> Result<()> {
        let done = writer.finish()?;
        let segment = into.put(done.bytes).await?;
        self.written_bytes += segment.len;
        self.entries += done.entries;
        self.raw_bytes += done.raw_bytes;
        self.fingerprint = self.fingerprint.wrapping_add(done.fingerprint);
        self.parts.push(SnapshotPart::portable(segment, done.key_groups));
        Ok(())
    }
}
