//! Segments: the files that keyed state is in.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use strandline_state_api::snapshot::{SegmentName, SegmentRef, SegmentStore};
use strandline_state_api::{CheckpointId, Error, ErrorKind, Result};

use crate::storage::parse_name;
use crate::{FileKind, Storage, Term};

/// So many segments are remembered as of the right length.
const REMEMBERED: usize = 4096;

/// Where segments are written and read: see [`Storage::segments`] and [`Storage::reader`].
///
/// Before the first read of a segment its length is compared with the reference. Its hash is compared by
/// [`Storage::verify_segment`] and by recovery, as a read of a part cannot.
#[derive(Debug)]
pub struct Segments {
    storage: Storage,
    target: Option<(Term, CheckpointId)>,
    checked: Mutex<HashSet<SegmentRef>>,
}

impl Segments {
    pub(crate) fn new(storage: Storage, target: Option<(Term, CheckpointId)>) -> Self {
        Self { storage, target, checked: Mutex::new(HashSet::new()) }
    }

    fn is_checked(&self, segment: &SegmentRef) -> bool {
        self.checked.lock().unwrap_or_else(PoisonError::into_inner).contains(segment)
    }

    fn remember(&self, segment: &SegmentRef) {
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        if checked.len() >= REMEMBERED {
            checked.clear();
        }
        checked.insert(segment.clone());
    }
}

#[async_trait]
impl SegmentStore for Segments {
    async fn put(&self, bytes: Vec<u8>) -> Result<SegmentRef> {
        let Some((term, checkpoint)) = self.target else {
            return Err(Error::new(ErrorKind::Unsupported, "segments are written with Storage::segments"));
        };
        let len = bytes.len() as u64;
        let name = self.storage.put(FileKind::Segment, term, checkpoint, bytes.into()).await?;
        Ok(SegmentRef { name: SegmentName(name.to_string()), len })
    }

    async fn read(&self, segment: &SegmentRef, range: Range<u64>) -> Result<Vec<u8>> {
        let name = parse_name(FileKind::Segment, &segment.name.0)?;
        if range.start > range.end || range.end > segment.len {
            let message = format!("bytes {} to {} of {} were asked for", range.start, range.end, segment.len);
            return Err(Error::corrupt(message).with("segment", &segment.name));
        }
        if !self.is_checked(segment) {
            self.storage.check_len(&name, segment.len).await?;
            self.remember(segment);
        }
        Ok(self.storage.blobs().read(&name.path(), range).await?.into())
    }
}
