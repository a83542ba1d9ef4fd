//! Segments in memory, for tests, examples and tests of embedders.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use xxhash_rust::xxh3::xxh3_128;

use strandline_state_api::snapshot::{SegmentName, SegmentRef, SegmentStore};
use strandline_state_api::{Error, ErrorKind, Result};

/// A [`SegmentStore`] in memory. Clones share their segments; every future is ready when first polled.
#[derive(Clone, Debug, Default)]
pub struct MemorySegments(Arc<Mutex<BTreeMap<SegmentName, Arc<[u8]>>>>);

impl MemorySegments {
    /// Creates an empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn files(&self) -> MutexGuard<'_, BTreeMap<SegmentName, Arc<[u8]>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns all segments, by name.
    pub fn segments(&self) -> Vec<SegmentRef> {
        self.files()
            .iter()
            .map(|(name, bytes)| SegmentRef { name: name.clone(), len: bytes.len() as u64 })
            .collect()
    }

    /// Returns the bytes of a segment.
    pub fn get(&self, name: &SegmentName) -> Option<Arc<[u8]>> {
        self.files().get(name).cloned()
    }

    /// Stores any `bytes` under `name`, to test how a reader meets damage.
    pub fn replace(&self, name: SegmentName, bytes: &[u8]) -> SegmentRef {
        self.files().insert(name.clone(), bytes.into());
        SegmentRef { name, len: bytes.len() as u64 }
    }

    /// Returns a store of its own with those of `names` that this store has.
    pub fn only<'a>(&self, names: impl IntoIterator<Item = &'a SegmentName>) -> Self {
        let files = self.files();
        let found = names.into_iter().filter_map(|name| files.get_key_value(name));
        let kept = found.map(|(name, bytes)| (name.clone(), Arc::clone(bytes))).collect();
        Self(Arc::new(Mutex::new(kept)))
    }

    /// Returns a store of its own with all segments of this store.
    pub fn fork(&self) -> Self {
        Self(Arc::new(Mutex::new(self.files().clone())))
    }

    /// Deletes a segment; returns whether it existed.
    pub fn remove(&self, name: &SegmentName) -> bool {
        self.files().remove(name).is_some()
    }
}

#[async_trait]
impl SegmentStore for MemorySegments {
    async fn put(&self, bytes: Vec<u8>) -> Result<SegmentRef> {
        let name = SegmentName(format!("{:032x}.seg", xxh3_128(&bytes)));
        Ok(self.replace(name, &bytes))
    }

    async fn read(&self, segment: &SegmentRef, range: Range<u64>) -> Result<Vec<u8>> {
        let Some(bytes) = self.get(&segment.name) else {
            return Err(
                Error::new(ErrorKind::NotFound, "there is no such segment").with("segment", &segment.name)
            );
        };
        if bytes.len() as u64 != segment.len {
            let message = format!("the segment has {} bytes instead of {}", bytes.len(), segment.len);
            return Err(Error::corrupt(message).with("segment", &segment.name));
        }
        let within = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
        match within.and_then(|(start, end)| bytes.get(start..end)) {
            Some(part) => Ok(part.to_vec()),
            None => Err(Error::invalid(format!("bytes {range:?} are not in a segment of {}", bytes.len()))
                .with("segment", &segment.name)),
        }
    }
}
