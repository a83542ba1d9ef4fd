//! What the tests of this crate and those of `state-sql` share.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use strandline_backend_memory::MemoryBackendFactory;
use strandline_checkpoint_storage::{Segments, SoloJob, Storage};
use strandline_state_api::snapshot::{SegmentRef, SegmentStore};
use strandline_state_api::{AggregateFunction, KeyHash, Result, ValueDescriptor};
use strandline_state_reader::{At, CheckpointReader, Decoders};

/// Counts the bytes that are read.
pub(crate) struct Counting {
    segments: Segments,
    read: AtomicU64,
}

#[async_trait::async_trait]
impl SegmentStore for Counting {
    async fn put(&self, bytes: Vec<u8>) -> Result<SegmentRef> {
        self.segments.put(bytes).await
    }

    async fn read(&self, segment: &SegmentRef, range: Range<u64>) -> Result<Vec<u8>> {
        self.read.fetch_add(range.end - range.start, Ordering::Relaxed);
        self.segments.read(segment, range).await
    }
}

impl Counting {
    /// How many bytes were read so far.
    pub(crate) fn bytes_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }
}

/// A checkpoint of 20,000 values that do not compress, the state `noise`.
pub(crate) struct Noise {
    pub(crate) checkpoint: CheckpointReader,
    /// What it is read through.
    pub(crate) store: Arc<Counting>,
    /// The bytes of all its segments.
    pub(crate) all: u64,
}

impl Noise {
    pub(crate) async fn stored() -> Self {
        let storage = Storage::in_memory().unwrap();
        let mut job = SoloJob::open::<_, u64>("bank", MemoryBackendFactory::default(), &storage).unwrap();
        let noise = job.register(&ValueDescriptor::<(u64, u64, u64, u64)>::new("noise")).unwrap();
        job.restore().await.unwrap();
        for n in 0..20_000 {
            let value = (hash(n), hash(n + 1_000_000), hash(n + 2_000_000), hash(n + 3_000_000));
            job.at(&n).state(noise).put(value).unwrap();
        }
        job.checkpoint().await.unwrap();
        let manifest = CheckpointReader::open(&storage, At::Latest).await.unwrap().manifest().clone();
        let all = manifest.segments().map(|segment| segment.len).sum();
        let store = Arc::new(Counting { segments: storage.reader(), read: AtomicU64::new(0) });
        let checkpoint =
            CheckpointReader::of_manifest(manifest, store.clone(), Decoders::default()).await.unwrap();
        Self { checkpoint, store, all }
    }
}

/// The hash of a number: the first part of its value in [`Noise`].
pub(crate) fn hash(n: u64) -> u64 {
    KeyHash::of_encoded(&n.to_be_bytes()).0
}

/// An average: sum and count.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mean;

impl AggregateFunction for Mean {
    type In = i64;
    type Accumulator = (i64, u32);
    type Out = i64;

    fn create(&self) -> (i64, u32) {
        (0, 0)
    }

    fn add(&self, (sum, count): &mut (i64, u32), value: i64) {
        *sum += value;
        *count += 1;
    }

    fn result(&self, (sum, count): &(i64, u32)) -> i64 {
        sum / i64::from(*count).max(1)
    }

    fn merge(&self, (sum, count): &mut (i64, u32), other: (i64, u32)) {
        *sum += other.0;
        *count += other.1;
    }
}
