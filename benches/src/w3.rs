//! W3: snapshot and restore of one backend with many counters, on a local disk, every file synced.

use std::time::{Duration, Instant};

use strandline_checkpoint_storage::Storage;
use strandline_connectors::keys::mix;
use strandline_snapshot_format::SegmentReader;
use strandline_state_api::backend::{
    BackendFactory, BackendScope, KeyedBackendExt, RestoreSnapshot, SnapshotSource, SnapshotWriter,
};
use strandline_state_api::snapshot::{KeyedSnapshot, SegmentStore, SnapshotPart};
use strandline_state_api::{
    Codec, Error, ErrorKind, KeyScope, Keyed, KeyedBackend, OperatorId, Result, SerdeCodec, StateKey,
    ValueDescriptor, ValueState,
};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::scratch;
use crate::snapshots::{Cuts, Drained, Opened, Snapshot};

mod rescale;

pub use rescale::RescaleCost;

/// The counters: key `mix(i)`, and a value that starts at `i`.
pub struct Counters<F: BackendFactory> {
    factory: F,
    backend: F::Backend<u64>,
    state: ValueState<u64>,
    writer: <F::Backend<u64> as SnapshotSource>::Writer,
    cuts: Cuts,
    count: u64,
    /// The strides of all updates since the start: each added `count` to every so many-th value.
    updates: Vec<u64>,
    latest: KeyedSnapshot,
    storage: Storage,
    runtime: Runtime,
    _dir: TempDir,
}

impl<F: BackendFactory> std::fmt::Debug for Counters<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Counters").field("count", &self.count).field("updates", &self.updates).finish()
    }
}

/// The cost of one snapshot.
#[derive(Clone, Debug)]
pub struct SnapshotCost {
    /// The cut, for which the processing thread stops.
    pub pause: Duration,
    /// The steps on the processing thread after it.
    pub drained: Drained,
    /// The second phase, elsewhere: sorting, compressing, writing, syncing.
    pub commit: Duration,
    /// Bytes added to the store.
    pub written: u64,
    /// Bytes of the entries in the added files before compression; for files in a backend's own format, the
    /// bytes of the files.
    pub raw: u64,
    /// Bytes of all files of the snapshot.
    pub full: u64,
}

impl SnapshotCost {
    /// Returns the time of everything but the pause.
    pub fn rest(&self) -> Duration {
        self.drained.total + self.commit
    }
}

/// The cost of a restore. Every value was checked.
#[derive(Clone, Copy, Debug)]
pub struct RestoreCost {
    /// The restore itself.
    pub restore: Duration,
    /// Reading every key of the range once, afterwards.
    pub check: Duration,
    /// How many entries there are.
    pub entries: u64,
}

impl<F: BackendFactory> Counters<F> {
    /// Makes a backend and its store, without a counter.
    ///
    /// # Errors
    /// What the factory or the file system fails with.
    pub fn new(factory: F, count: u64) -> Result<Self> {
        let dir = scratch::directory()?;
        let storage = Storage::in_dir(dir.path().join("w3"))?;
        let runtime = runtime()?;
        let (mut backend, state) = open(&factory, 0, 1)?;
        let writer = backend.take_writer()?;
        Ok(Self {
            factory,
            backend,
            state,
            writer,
            cuts: Cuts::default(),
            count,
            updates: Vec::new(),
            latest: KeyedSnapshot::default(),
            storage,
            runtime,
            _dir: dir,
        })
    }

    /// Writes all counters; returns how long that took.
    ///
    /// # Errors
    /// What the backend fails with.
    pub fn fill(&mut self) -> Result<Duration> {
        let start = Instant::now();
        for i in 0..self.count {
            self.backend.at(&mix(i)).state(self.state).put(i)?;
        }
        Ok(start.elapsed())
    }

    /// Changes every `stride`-th counter; returns how long that took.
    ///
    /// # Errors
    /// What the backend fails with.
    pub fn update(&mut self, stride: u64) -> Result<Duration> {
        let start = Instant::now();
        let count = self.count;
        for i in (0..count).step_by(stride.max(1) as usize) {
            self.backend.at(&mix(i)).state(self.state).update_or_default(|n| *n += count)?;
        }
        self.updates.push(stride.max(1));
        Ok(start.elapsed())
    }

    fn value(&self, i: u64) -> u64 {
        let changes = self.updates.iter().filter(|stride| i.is_multiple_of(**stride)).count();
        i + self.count * changes as u64
    }

    /// Returns the bytes of key and value, encoded, of every `stride`-th counter, which an update of them
    /// changes.
    ///
    /// # Errors
    /// What the codec fails with.
    pub fn changed_bytes(&self, stride: u64) -> Result<u64> {
        let (mut encoded, mut bytes) = (Vec::new(), 0);
        for i in (0..self.count).step_by(stride.max(1) as usize) {
            encoded.clear();
            mix(i).encode(&mut encoded);
            SerdeCodec.encode(&self.value(i), &mut encoded)?;
            bytes += encoded.len() as u64;
        }
        Ok(bytes)
    }

    /// Takes a snapshot, both phases.
    ///
    /// # Errors
    /// What the backend or the store fails with.
    pub fn snapshot(&mut self) -> Result<SnapshotCost> {
        let Snapshot { checkpoint, pause, drained, prepared } = self.cuts.snapshot(&mut self.backend)?;
        let store = self.storage.segments(1, checkpoint);
        let start = Instant::now();
        let snapshot = self.runtime.block_on(self.writer.commit(prepared, &store))?;
        let commit = start.elapsed();
        let added = snapshot.parts.iter().filter(|part| !self.latest.parts.contains(part));
        let raw = self.runtime.block_on(raw_bytes(added, &store))?;
        let (written, full) = (snapshot.written_bytes, snapshot.full_bytes());
        self.latest = snapshot;
        Ok(SnapshotCost { pause, drained, commit, written, raw, full })
    }

    /// Restores the newest snapshot into a new backend of one of `parallelism` subtasks, and checks every
    /// value in it and their number. Nothing may have changed since the snapshot.
    ///
    /// # Errors
    /// What the backend or the store fails with, and an error when a value is not the one that was written.
    pub fn restore(&self, subtask: u32, parallelism: u32) -> Result<RestoreCost> {
        let latest = std::slice::from_ref(&self.latest);
        let (mut restored, restore) = self.restored(&self.factory, subtask, parallelism, latest)?;
        let (check, entries) = self.check(&mut restored)?;
        Ok(RestoreCost { restore, check, entries })
    }

    /// Restores what `snapshots` hold of one subtask into a backend that `factory` makes; returns how long
    /// that took, too.
    fn restored(
        &self,
        factory: &F,
        subtask: u32,
        parallelism: u32,
        snapshots: &[KeyedSnapshot],
    ) -> Result<(Opened<F, Descriptor>, Duration)> {
        let (mut backend, state) = open(factory, subtask, parallelism)?;
        let store = self.storage.reader();
        let start = Instant::now();
        self.runtime.block_on(backend.restore(snapshots, &store))?;
        Ok(((backend, state), start.elapsed()))
    }

    /// Reads and checks every value of a backend; returns how long that took, and how many there are.
    fn check(&self, (backend, state): &mut Opened<F, Descriptor>) -> Result<(Duration, u64)> {
        let range = backend.scope().key_groups;
        let (start, mut entries) = (Instant::now(), 0);
        for i in 0..self.count {
            let key = mix(i);
            let keyed = Keyed::new(&key);
            if !range.contains(keyed.group()) {
                continue;
            }
            entries += 1;
            let found = KeyScope::new(backend, keyed).state(*state).get()?.copied();
            if found != Some(self.value(i)) {
                return Err(wrong(&format!("counter {i} is {found:?} instead of {}", self.value(i))));
            }
        }
        let (took, mut there) = (start.elapsed(), 0);
        // Counted one by one: a backend may know its number of entries only roughly.
        backend.for_each_value(*state, |_, (), _| {
            there += 1;
            Ok(())
        })?;
        if there != entries {
            return Err(wrong(&format!("there are {there} entries instead of {entries}")));
        }
        Ok((took, entries))
    }

    /// As [`restore`](Self::restore), in two halves of the key groups.
    ///
    /// # Errors
    /// As there, and an error when the halves do not make up the whole.
    pub fn restore_halves(&self) -> Result<[RestoreCost; 2]> {
        let [first, second] = [0, 1].map(|half| self.restore(half, 2));
        let halves = [first?, second?];
        let entries: u64 = halves.iter().map(|half| half.entries).sum();
        if entries == self.count {
            Ok(halves)
        } else {
            Err(wrong(&format!("the halves hold {entries} entries instead of {}", self.count)))
        }
    }

    /// Deletes the segments that the newest snapshot does not need, so that long benches do not fill the
    /// disk.
    ///
    /// # Errors
    /// What the store fails with.
    pub fn tidy(&self) -> Result<()> {
        let needed = |name: &str| self.latest.parts.iter().any(|part| part.segment.name.0 == name);
        self.runtime.block_on(async {
            for file in self.storage.blobs().list("segments").await? {
                if !needed(&file.name) {
                    self.storage.blobs().delete(&format!("segments/{}", file.name)).await?;
                }
            }
            Ok(())
        })
    }
}

type Descriptor = ValueDescriptor<u64>;

fn open<F: BackendFactory>(factory: &F, subtask: u32, parallelism: u32) -> Result<Opened<F, Descriptor>> {
    let scope = BackendScope::new(OperatorId::new("counters")?, subtask, parallelism);
    let mut backend = factory.create(scope)?;
    let state = backend.register(&ValueDescriptor::new("counters"))?;
    Ok((backend, state))
}

async fn raw_bytes(parts: impl Iterator<Item = &SnapshotPart>, store: &dyn SegmentStore) -> Result<u64> {
    let mut bytes = 0;
    for part in parts {
        bytes += if part.format.is_portable() {
            SegmentReader::open(store, &part.segment).await?.index().raw_bytes()
        } else {
            part.segment.len
        };
    }
    Ok(bytes)
}

/// Makes a runtime for one thread.
pub(crate) fn runtime() -> Result<Runtime> {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    built.map_err(|e| Error::new(ErrorKind::Unavailable, "no runtime can be started").caused_by(e))
}

fn wrong(what: &str) -> Error {
    Error::corrupt(format!("the restored state is not the one that was written: {what}"))
}
