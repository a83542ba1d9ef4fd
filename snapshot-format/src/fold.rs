//! Folds a chain of parts into new segments.

use crate::entry::EntryRef;
use crate::expiry::{ExpiryFilter, Kept};
use crate::merge::Merge;
use crate::segment_kind::SegmentKind;
use crate::writer::{SegmentWriter, WriterOptions};
use strandline_state_api::schema::StateMeta;
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
    /// The new segments in the order of their key groups; none when there are no entries. Segments of entries
    /// in newer forms follow, again in the order of their key groups.
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
/// it. The rules are those of [`Merge`]. The fold streams: the segments being written and what [`Merge`]
/// needs bound its memory. It is CPU-bound between its requests.
///
/// Where the parts have a state in several forms, the result has a part for each: nobody but the program can
/// turn one form into another, and a segment has each state in one form. The first parts are of kind
/// `target`; those of newer forms are deltas over them, which only put, or append to a list of an older form.
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
    let (mut layers, places) = Layer::all(&states, merge.layers(), target, options)?;
    let mut part = Vec::new();
    while let Some(mut entry) = merge.next().await? {
        let row = usize::from(entry.state);
        if !filter.is_empty() {
            match filter.keep(&states[row], entry.value, &mut part) {
                Kept::Whole => {}
                Kept::Part => entry.value = &part,
                Kept::Nothing => continue,
            }
        }
        let (layer, state) = places[row];
        layers[layer].push(EntryRef { state, ..entry }, into).await?;
    }
    let mut folded = Folded::default();
    for layer in layers {
        folded.add(layer.finish(into).await?);
    }
    Ok(folded)
}

/// The segments of one layer, which has each state in one form.
struct Layer<'a> {
    kind: SegmentKind,
    states: Vec<StateMeta>,
    options: &'a FoldOptions,
    writer: SegmentWriter,
    group: Option<KeyGroup>,
    folded: Folded,
}

/// The place of a row: its layer, and its state there.
type RowPlace = (usize, u16);

impl<'a> Layer<'a> {
    /// Creates the layers of a merge with these rows, and returns the place of each row.
    fn all(
        rows: &[StateMeta],
        layer_of: &[u16],
        target: SegmentKind,
        options: &'a FoldOptions,
    ) -> Result<(Vec<Self>, Vec<RowPlace>)> {
        let count = layer_of.iter().max().map_or(1, |highest| usize::from(*highest) + 1);
        let (mut tables, mut places) = (vec![Vec::new(); count], Vec::with_capacity(rows.len()));
        for (row, layer) in rows.iter().zip(layer_of) {
            let table: &mut Vec<StateMeta> = &mut tables[usize::from(*layer)];
            places.push((usize::from(*layer), table.len() as u16));
            table.push(row.clone());
        }
        let layers = tables.into_iter().enumerate().map(|(layer, states)| {
            let kind = if layer == 0 { target } else { SegmentKind::Delta };
            let writer = SegmentWriter::new(states.clone(), kind, options.writer)?;
            Ok(Self { kind, states, options, writer, group: None, folded: Folded::default() })
        });
        Ok((layers.collect::<Result<_>>()?, places))
    }

    async fn push(&mut self, entry: EntryRef<'_>, into: &dyn SegmentStore) -> Result<()> {
        let (written, max) = (self.writer.bytes_so_far(), self.options.max_segment_bytes);
        let full = written >= max && self.group != Some(entry.group);
        if !self.writer.is_empty() && (full || written / 5 * 4 >= max) {
            let next = SegmentWriter::new(self.states.clone(), self.kind, self.options.writer)?;
            self.folded.store(std::mem::replace(&mut self.writer, next), into).await?;
        }
        self.group = Some(entry.group);
        self.writer.push(entry)
    }

    async fn finish(mut self, into: &dyn SegmentStore) -> Result<Folded> {
        if !self.writer.is_empty() {
            self.folded.store(self.writer, into).await?;
        }
        Ok(self.folded)
    }
}

impl Folded {
    async fn store(&mut self, writer: SegmentWriter, into: &dyn SegmentStore) -> Result<()> {
        let done = writer.finish()?;
        let segment = into.put(done.bytes).await?;
        self.add(Self {
            written_bytes: segment.len,
            entries: done.entries,
            raw_bytes: done.raw_bytes,
            fingerprint: done.fingerprint,
            parts: vec![SnapshotPart::portable(segment, done.key_groups)],
        });
        Ok(())
    }

    fn add(&mut self, other: Self) {
        self.written_bytes += other.written_bytes;
        self.entries += other.entries;
        self.raw_bytes += other.raw_bytes;
        self.fingerprint = self.fingerprint.wrapping_add(other.fingerprint);
        self.parts.extend(other.parts);
    }
}
