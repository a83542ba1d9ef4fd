//! Folds a chain of parts into new segments.

use super::merge::Merge;
use super::state::SegmentKind;
use super::writer::{SegmentWriter, WriterOptions};
use crate::{KeyGroup, KeyGroupRange, Result, SegmentStore, SnapshotPart, Trimmed, Trimming};

/// How [`fold`] writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoldOptions {
    /// About how many bytes a segment has at most; 64 MiB unless set. It ends behind the key group that reaches this,
    /// or inside of one that exceeds it by a quarter.
    pub max_segment_bytes: usize,
    /// How each segment is written.
    pub writer: WriterOptions,
}

impl Default for FoldOptions {
    fn default() -> Self {
        Self { max_segment_bytes: 64 << 20, writer: WriterOptions::default() }
    }
}

/// What a fold has written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Folded {
    /// The new segments in the order of their key groups; none when there are no entries.
    pub parts: Vec<SnapshotPart>,
    /// Their bytes.
    pub written_bytes: u64,
    /// Their entries.
    pub entries: u64,
    /// The bytes of their entries before compression.
    pub raw_bytes: u64,
    /// The wrapping sum of the [fingerprints](super::fingerprint) of their entries.
    pub fingerprint: u64,
}

/// Merges `parts`, oldest first, as far as they lie in `range`, into new segments of kind `target` in the same store.
///
/// With [`SegmentKind::Base`] the parts must be a complete chain: the result stands for itself. With
/// [`SegmentKind::Delta`] they may be any consecutive parts of a chain, and the result takes their place in it. The
/// rules are those of [`Merge`]. The work is streamed: memory is bounded by the segment being written and what
/// [`Merge`] needs. It is CPU-bound between its requests.
///
/// # Errors
/// As [`Merge::open`] and [`Merge::next`], and what the store fails with; segments that were written by then are named
/// by nothing.
pub async fn fold(
    parts: &[SnapshotPart],
    store: &dyn SegmentStore,
    target: SegmentKind,
    range: KeyGroupRange,
    options: &FoldOptions,
) -> Result<Folded> {
    fold_into(parts, store, store, target, range, options).await
}

/// [`fold`] into a base without what has expired.
///
/// # Errors
/// As [`fold`].
pub async fn fold_trimmed(
    parts: &[SnapshotPart],
    store: &dyn SegmentStore,
    range: KeyGroupRange,
    options: &FoldOptions,
    trimming: &Trimming,
) -> Result<Folded> {
    run(parts, (store, store), SegmentKind::Base, range, options, trimming).await
}

/// [`fold`] from one store into another.
///
/// # Errors
/// As [`fold`].
pub async fn fold_into(
    parts: &[SnapshotPart],
    from: &dyn SegmentStore,
    into: &dyn SegmentStore,
    target: SegmentKind,
    range: KeyGroupRange,
    options: &FoldOptions,
) -> Result<Folded> {
    run(parts, (from, into), target, range, options, &Trimming::default()).await
}

async fn run(
    parts: &[SnapshotPart],
    (from, into): (&dyn SegmentStore, &dyn SegmentStore),
    target: SegmentKind,
    range: KeyGroupRange,
    options: &FoldOptions,
    trimming: &Trimming,
) -> Result<Folded> {
    let mut merge = Merge::open(from, parts, target, range).await?;
    let states = merge.states().to_vec();
    let start = || SegmentWriter::new(states.clone(), target, options.writer);
    let mut writer = start()?;
    let mut folded = Folded::default();
    let mut group: Option<KeyGroup> = None;
    let mut part = Vec::new();
    while let Some(mut entry) = merge.next().await? {
        if !trimming.is_empty() {
            match trimming.trim(&states[usize::from(entry.state)], entry.value, &mut part) {
                Trimmed::Whole => {}
                Trimmed::Part => entry.value = &part,
                Trimmed::Gone => continue,
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
