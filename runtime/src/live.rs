//! The state of a running job at one instant, in no log.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, Weak};

use async_trait::async_trait;
use strandline_checkpoint_protocol::Term;
use strandline_checkpoint_storage::{FileKind, FileName, Manifest};
use strandline_state_api::snapshot::{SegmentName, SegmentRef, SegmentStore};
use strandline_state_api::{CheckpointId, Error, ErrorKind, Result};

use crate::sync::lock;

/// The state of all operators of a running job at one instant: what
/// [`JobControl::live_state`](crate::JobControl::live_state) answers with.
///
/// It is read as a checkpoint is: by its [manifest](Self::manifest) and its [segments](Self::segments). It is none:
/// nothing restores from it, and it is in no log. What it holds in memory goes with the last handle to its segments.
#[derive(Clone, Debug)]
pub struct LiveState {
    manifest: Arc<Manifest>,
    store: Arc<LiveStore>,
}

impl LiveState {
    pub(crate) fn new(manifest: Manifest, store: Arc<LiveStore>) -> Self {
        // The first and only time.
        let _ = store.named.set(manifest.segments().map(|segment| segment.name.clone()).collect());
        Self { manifest: Arc::new(manifest), store }
    }

    /// Returns the manifest: operators, positions of sources, operator state, and where keyed state is.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Returns the store of the segments that the manifest names. As long as the job runs, no file that it names is
    /// deleted while somebody has this handle.
    pub fn segments(&self) -> Arc<dyn SegmentStore> {
        Arc::clone(&self.store) as _
    }

    /// Returns the bytes of memory that its segments take.
    pub fn held_bytes(&self) -> u64 {
        lock(&self.store.held).bytes
    }
}

/// Where the operators store what belongs to one live barrier: in memory, in front of the files of the job's storage,
/// which it may build on.
pub(crate) struct LiveStore {
    term: Term,
    checkpoint: CheckpointId,
    /// The most bytes that it holds.
    limit: u64,
    held: Mutex<Held>,
    /// `None` where it builds on nothing.
    behind: Option<Arc<dyn SegmentStore>>,
    /// What the manifest names, once there is one.
    named: OnceLock<Vec<SegmentName>>,
}

#[derive(Default)]
struct Held {
    segments: HashMap<SegmentName, Arc<Vec<u8>>>,
    bytes: u64,
}

impl LiveStore {
    pub(crate) fn new(
        term: Term,
        checkpoint: CheckpointId,
        limit: u64,
        behind: Option<Arc<dyn SegmentStore>>,
    ) -> Self {
        Self { term, checkpoint, limit, held: Mutex::default(), behind, named: OnceLock::new() }
    }

    /// Stores a segment.
    pub(crate) fn hold(&self, bytes: Vec<u8>) -> Result<SegmentRef> {
        let name = FileName::of(FileKind::Segment, self.term, self.checkpoint, &bytes);
        let segment = SegmentRef { name: SegmentName(name.to_string()), len: bytes.len() as u64 };
        let mut held = lock(&self.held);
        held.bytes += segment.len;
        if held.bytes > self.limit {
            let message =
                "the live state takes more memory than it may: raise `live_bytes`, or read a checkpoint";
            return Err(Error::new(ErrorKind::Unavailable, message).with("limit", self.limit));
        }
        held.segments.insert(segment.name.clone(), Arc::new(bytes));
        Ok(segment)
    }
}

#[async_trait]
impl SegmentStore for LiveStore {
    async fn put(&self, bytes: Vec<u8>) -> Result<SegmentRef> {
        self.hold(bytes)
    }

    async fn read(&self, segment: &SegmentRef, range: Range<u64>) -> Result<Vec<u8>> {
        let held = lock(&self.held).segments.get(&segment.name).cloned();
        let Some(bytes) = held else {
            let Some(behind) = &self.behind else {
                return Err(Error::new(ErrorKind::NotFound, "no such segment").with("segment", &segment.name));
            };
            let read = behind.read(segment, range).await;
            return read.map_err(|error| match error.kind() {
                ErrorKind::NotFound => swept(error),
                _ => error,
            });
        };
        let index = |at| usize::try_from(at).unwrap_or(usize::MAX);
        let part =
            bytes.get(index(range.start)..index(range.end)).filter(|_| bytes.len() as u64 == segment.len);
        part.map(<[u8]>::to_vec).ok_or_else(|| {
            let message = format!("bytes {} to {} of {} were asked for", range.start, range.end, segment.len);
            Error::corrupt(message).with("segment", &segment.name)
        })
    }
}

impl fmt::Debug for LiveStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LiveStore({}, {} bytes)", self.checkpoint, lock(&self.held).bytes)
    }
}

fn swept(error: Error) -> Error {
    let message = "a file that the live state builds on was deleted while it was read: ask again";
    Error::new(ErrorKind::NotFound, message).caused_by(error)
}

/// The live states of a job that somebody may still read.
#[derive(Debug, Default)]
pub(crate) struct Pins(Mutex<Vec<Weak<LiveStore>>>);

impl Pins {
    pub(crate) fn add(&self, state: &LiveState) {
        lock(&self.0).push(Arc::downgrade(&state.store));
    }

    /// The segments that they need.
    pub(crate) fn segments(&self) -> Vec<SegmentName> {
        let mut pins = lock(&self.0);
        pins.retain(|pin| pin.strong_count() > 0);
        let stores: Vec<_> = pins.iter().filter_map(Weak::upgrade).collect();
        let named = stores.iter().filter_map(|store| store.named.get());
        named.flatten().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use strandline_checkpoint_storage::Storage;

    use super::*;

    fn store(limit: u64) -> LiveStore {
        let behind = Storage::in_memory().unwrap().reader();
        LiveStore::new(Term(3), CheckpointId(9), limit, Some(Arc::new(behind)))
    }

    #[tokio::test]
    async fn segments_are_read_back_and_others_are_of_the_storage_behind() {
        let store = store(100);
        let segment = store.put(b"some bytes".to_vec()).await.unwrap();
        assert_eq!(store.read(&segment, 5..10).await.unwrap(), b"bytes");
        let error = store.read(&segment, 5..11).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        let name = FileName::of(FileKind::Segment, Term(3), CheckpointId(8), b"gone");
        let gone = SegmentRef { name: SegmentName(name.to_string()), len: 4 };
        let error = store.read(&gone, 0..4).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains("ask again"), "{error}");
    }

    #[tokio::test]
    async fn more_than_the_limit_is_refused() {
        let store = store(10);
        store.put(vec![0; 6]).await.unwrap();
        let error = store.put(vec![0; 6]).await.unwrap_err();
        assert_eq!((error.kind(), error.context("limit")), (ErrorKind::Unavailable, Some("10")));
    }

    #[tokio::test]
    async fn pins_last_as_long_as_somebody_may_read() {
        let (pins, store) = (Pins::default(), Arc::new(store(100)));
        let segment = store.put(b"bytes".to_vec()).await.unwrap();
        let state = LiveState::new(Manifest::new(CheckpointId(9), Term(3), "job"), store);
        pins.add(&state);
        assert!(pins.segments().is_empty(), "the manifest names none");
        let segments = state.segments();
        drop(state);
        assert_eq!(lock(&pins.0).iter().filter(|pin| pin.strong_count() > 0).count(), 1);
        assert!(segments.read(&segment, 0..5).await.is_ok());
        drop(segments);
        assert!(pins.segments().is_empty() && lock(&pins.0).is_empty());
    }
}
