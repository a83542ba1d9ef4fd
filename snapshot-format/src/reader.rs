//! Reads a segment from a store.

use std::ops::Range;
use std::sync::Arc;

use crate::cursor::SegmentCursor;
use crate::entry::EntryRef;
use crate::index::SegmentIndex;
use crate::layout::{FOOTER_LEN, Footer, check_header};
use strandline_state_api::schema::StateMeta;
use strandline_state_api::snapshot::{SegmentRef, SegmentStore};
use strandline_state_api::{Error, KeyGroupRange, Result};

/// The number of bytes that the first request reads from the end of a file: footer and index of most files,
/// and all of many.
const TAIL_BYTES: u64 = 64 << 10;
/// The maximum number of bytes of one request, unless a single block is larger.
pub(crate) const READ_BYTES: u64 = 4 << 20;

/// Reads the entries of any key groups of one segment.
#[derive(Clone)]
pub struct SegmentReader<'a> {
    pub(crate) store: &'a dyn SegmentStore,
    pub(crate) segment: SegmentRef,
    pub(crate) index: Arc<SegmentIndex>,
    /// All bytes of a small file, so that the reader needs only one request.
    pub(crate) whole: Option<Arc<[u8]>>,
}

impl std::fmt::Debug for SegmentReader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SegmentReader").field("segment", &self.segment).finish_non_exhaustive()
    }
}

/// What [`SegmentReader::open`] reads of a segment, without the store: so a program that reads a segment many
/// times keeps it.
#[derive(Clone, Debug)]
pub struct SegmentHead {
    segment: SegmentRef,
    index: Arc<SegmentIndex>,
    whole: Option<Arc<[u8]>>,
}

impl SegmentHead {
    /// Reads the index: one request for the last 64 KiB, and another if the index is larger.
    ///
    /// # Errors
    /// Those of [`SegmentReader::open`].
    pub async fn read(store: &dyn SegmentStore, segment: &SegmentRef) -> Result<Self> {
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
        Ok(Self { segment: segment.clone(), index, whole })
    }

    /// Returns the index, which holds everything that is known without reading entries.
    pub fn index(&self) -> &SegmentIndex {
        &self.index
    }

    /// Returns a reader of the segment in `store`, which must be the store that the head was read from.
    pub fn reader<'a>(&self, store: &'a dyn SegmentStore) -> SegmentReader<'a> {
        let Self { segment, index, whole } = self.clone();
        SegmentReader { store, segment, index, whole }
    }
}

impl<'a> SegmentReader<'a> {
    /// Reads the index: one request for the last 64 KiB, and another if the index is larger.
    ///
    /// # Errors
    /// [`Corrupt`](strandline_state_api::ErrorKind::Corrupt) and
    /// [`Incompatible`](strandline_state_api::ErrorKind::Incompatible) as the [crate](crate#trust) defines
    /// them, and the errors of the store.
    pub async fn open(store: &'a dyn SegmentStore, segment: &SegmentRef) -> Result<Self> {
        Ok(SegmentHead::read(store, segment).await?.reader(store))
    }

    /// Returns the segment.
    pub fn segment(&self) -> &SegmentRef {
        &self.segment
    }

    /// Returns the index, which holds everything that is known without reading entries.
    pub fn index(&self) -> &SegmentIndex {
        &self.index
    }

    /// Returns the states of the segment, sorted by name; [`EntryRef::state`] is an index into them.
    pub fn states(&self) -> &[StateMeta] {
        self.index.states()
    }

    /// Calls `visit` with each entry of `range`, in order. Adjacent blocks are read together, up to 4 MiB.
    ///
    /// # Errors
    /// Those of the store and of `visit`, and [`Corrupt`](strandline_state_api::ErrorKind::Corrupt); then
    /// discard the entries that were visited.
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

    /// Returns a cursor over the entries of `range`, to pull them one by one.
    pub fn cursor(&self, range: KeyGroupRange) -> SegmentCursor<'a> {
        SegmentCursor::new(self.clone(), range, READ_BYTES)
    }
}

/// Reads exactly `range` of a segment; fails if the store returns another length.
pub(crate) async fn fetch(
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
