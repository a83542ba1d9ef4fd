//! Reads a segment from a store.

use std::ops::Range;
use std::sync::Arc;

use super::cursor::SegmentCursor;
use super::entry::EntryRef;
use super::index::SegmentIndex;
use super::layout::{FOOTER_LEN, Footer, check_header};
use super::state::StateMeta;
use crate::{Error, KeyGroupRange, Result, SegmentRef, SegmentStore};

/// How much is read from the end of a file at first: footer and index of most, and the whole of many.
const TAIL_BYTES: u64 = 64 << 10;
/// The most bytes of one request, unless a single block is larger.
pub(super) const READ_BYTES: u64 = 4 << 20;

/// Reads the entries of any key groups of one segment.
#[derive(Clone)]
pub struct SegmentReader<'a> {
    pub(super) store: &'a dyn SegmentStore,
    pub(super) segment: SegmentRef,
    pub(super) index: Arc<SegmentIndex>,
    /// All bytes of a small file, so that it takes one request.
    pub(super) whole: Option<Arc<[u8]>>,
}

impl std::fmt::Debug for SegmentReader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SegmentReader").field("segment", &self.segment).finish_non_exhaustive()
    }
}

impl<'a> SegmentReader<'a> {
    /// Reads the index: one request for the last 64 KiB, and another if it is larger.
    ///
    /// # Errors
    /// [`Corrupt`](crate::ErrorKind::Corrupt) and [`Incompatible`](crate::ErrorKind::Incompatible) as in the
    /// [module](super), and what the store fails with.
    pub async fn open(store: &'a dyn SegmentStore, segment: &SegmentRef) -> Result<Self> {
        let len = segment.len;
        let named = |error: Error| error.with("segment", &segment.name);
        Footer::check_len(len).map_err(named)?;
        let mut tail = fetch(store, segment, len.saturating_sub(TAIL_BYTES)..len).await?;
        let footer = Footer::parse(&tail[tail.len().saturating_sub(FOOTER_LEN)..], len).map_err(named)?;
        if footer.tail_len() > tail.len() {
            tail = fetch(store, segment, footer.index_offset..len).await?;
        }
        let index = footer.index(&tail).and_then(|index| SegmentIndex::decode(index, footer.index_offset));
        let index = Arc::new(index.map_err(named)?);
        let mut whole = None;
        if tail.len() as u64 == len {
            check_header(&tail).map_err(named)?;
            whole = Some(tail.into());
        }
        Ok(Self { store, segment: segment.clone(), index, whole })
    }

    /// The segment it reads.
    pub fn segment(&self) -> &SegmentRef {
        &self.segment
    }

    /// The index, with what there is to know without reading entries.
    pub fn index(&self) -> &SegmentIndex {
        &self.index
    }

    /// The states of the segment, sorted by name; [`EntryRef::state`] is an index into them.
    pub fn states(&self) -> &[StateMeta] {
        self.index.states()
    }

    /// Calls `visit` with each entry of `range`, in order. Adjacent blocks are read together, up to 4 MiB.
    ///
    /// # Errors
    /// What the store or `visit` fails with, and [`Corrupt`](crate::ErrorKind::Corrupt); then the entries that were
    /// visited are not to be used.
    pub async fn read(
        &self,
        range: KeyGroupRange,
        mut visit: impl FnMut(EntryRef<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut cursor = self.cursor(range);
        while let Some(entry) = cursor.next().await? {
            visit(entry)?;
        }
        Ok(())
    }

    /// The entries of `range`, to be pulled one by one.
    pub fn cursor(&self, range: KeyGroupRange) -> SegmentCursor<'a> {
        SegmentCursor::new(self.clone(), range, READ_BYTES)
    }
}

/// Reads exactly `range` of a segment, also from a store that does not.
pub(super) async fn fetch(
    store: &dyn SegmentStore,
    segment: &SegmentRef,
    range: Range<u64>,
) -> Result<Vec<u8>> {
    let wanted = range.end - range.start;
    let bytes = store.read(segment, range).await?;
    if bytes.len() as u64 != wanted {
        let message = format!("the store returned {} bytes instead of {wanted}", bytes.len());
        return Err(Error::corrupt(message).with("segment", &segment.name));
    }
    Ok(bytes)
}
