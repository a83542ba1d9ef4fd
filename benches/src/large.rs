//! A state of many entries, built, stored, restored and rescaled from one subtask to two and back to one.

use std::time::{Duration, Instant};

use strandline_checkpoint_storage::Storage;
use strandline_connectors::keys::mix;
use strandline_state_api::backend::{
    BackendFactory, BackendScope, KeyedBackendExt, Progress, RestoreSnapshot, SnapshotKind, SnapshotSource,
    SnapshotWriter,
};
use strandline_state_api::snapshot::KeyedSnapshot;
use strandline_state_api::{
    CheckpointId, Error, ErrorKind, KeyGroup, OperatorId, Result, StateKey, ValueDescriptor, ValueState,
};

use crate::scratch;
use crate::w3::runtime;

/// One step of the run.
#[derive(Clone, Debug)]
pub struct Step {
    /// Its name.
    pub what: String,
    /// How long it took.
    pub took: Duration,
    /// Bytes that were stored, where any were.
    pub written: Option<u64>,
    /// Bytes of all files of the snapshot, where there is one.
    pub full: Option<u64>,
    /// Resident memory of the process afterwards, in bytes; 0 where the system does not report it.
    pub resident: u64,
}

/// Does all steps with `count` counters, and passes each to `report` when it is done. Every restore is
/// checked whole.
///
/// # Errors
/// What the backend or the store fails with, and an error when a value is not the one that was written.
pub fn run<F: BackendFactory>(factory: &F, count: u64, mut report: impl FnMut(&Step)) -> Result<()> {
    let mut job = Job::new(factory, count)?;
    let mut step = |what: &str, job: &mut Job<'_, F>, work: &mut Work<'_, F>| {
        let start = Instant::now();
        let snapshots = work(job)?;
        let took = start.elapsed();
        let sum =
            |bytes: fn(&KeyedSnapshot) -> u64| snapshots.as_ref().map(|all| all.iter().map(bytes).sum());
        let (written, full) = (sum(|s| s.written_bytes), sum(KeyedSnapshot::full_bytes));
        report(&Step { what: what.into(), took, written, full, resident: resident() });
        Ok::<_, Error>(())
    };
    step("build", &mut job, &mut |job| job.fill())?;
    step("snapshot", &mut job, &mut |job| job.snapshot(SnapshotKind::Incremental))?;
    step("change every hundredth", &mut job, &mut |job| job.change(100))?;
    step("snapshot of that", &mut job, &mut |job| job.snapshot(SnapshotKind::Incremental))?;
    for parallelism in [1, 2, 1] {
        step(&format!("restore at {parallelism}"), &mut job, &mut |job| job.restore(parallelism))?;
        step("check every entry", &mut job, &mut |job| job.check())?;
        step("snapshot", &mut job, &mut |job| job.snapshot(SnapshotKind::Incremental))?;
    }
    step("full snapshot", &mut job, &mut |job| job.snapshot(SnapshotKind::Full))?;
    step("restore of that at 2", &mut job, &mut |job| job.restore(2))?;
    step("check every entry", &mut job, &mut |job| job.check())
}

type Work<'a, F> = dyn FnMut(&mut Job<'_, F>) -> Result<Option<Vec<KeyedSnapshot>>> + 'a;

struct Subtask<B: SnapshotSource> {
    backend: B,
    state: ValueState<u64>,
    writer: B::Writer,
}

struct Job<'a, F: BackendFactory> {
    factory: &'a F,
    count: u64,
    changed: u64,
    checkpoint: CheckpointId,
    subtasks: Vec<Subtask<F::Backend<u64>>>,
    latest: Vec<KeyedSnapshot>,
    storage: Storage,
    runtime: tokio::runtime::Runtime,
    _directory: tempfile::TempDir,
}

impl<'a, F: BackendFactory> Job<'a, F> {
    fn new(factory: &'a F, count: u64) -> Result<Self> {
        let directory = scratch::directory()?;
        let storage = Storage::in_dir(directory.path().join("checkpoints"))?;
        let (subtasks, latest, checkpoint) = (Vec::new(), Vec::new(), CheckpointId(0));
        let runtime = runtime()?;
        let changed = u64::MAX;
        let mut job = Self {
            factory,
            count,
            changed,
            checkpoint,
            subtasks,
            latest,
            storage,
            runtime,
            _directory: directory,
        };
        job.restore(1)?;
        Ok(job)
    }

    fn value(&self, i: u64) -> u64 {
        if i.is_multiple_of(self.changed) { !i } else { i }
    }

    fn fill(&mut self) -> Result<Option<Vec<KeyedSnapshot>>> {
        // Only the first counter is a multiple of their number.
        self.changed = self.count;
        for i in 0..self.count {
            self.put(i, self.value(i))?;
        }
        Ok(None)
    }

    fn put(&mut self, i: u64, value: u64) -> Result<()> {
        let key = mix(i);
        let owner = KeyGroup::of(key.key_hash()).subtask(self.subtasks.len() as u32);
        let Subtask { backend, state, .. } = &mut self.subtasks[owner as usize];
        backend.at(&key).state(*state).put(value)
    }

    fn change(&mut self, stride: u64) -> Result<Option<Vec<KeyedSnapshot>>> {
        for i in (0..self.count).step_by(stride as usize) {
            self.put(i, !i)?;
        }
        self.changed = stride;
        Ok(None)
    }

    fn snapshot(&mut self, kind: SnapshotKind) -> Result<Option<Vec<KeyedSnapshot>>> {
        self.checkpoint = self.checkpoint.next();
        let store = self.storage.segments(1, self.checkpoint);
        self.latest.clear();
        for Subtask { backend, writer, .. } in &mut self.subtasks {
            backend.prepare(self.checkpoint, kind)?;
            let prepared = loop {
                match backend.advance(1 << 14)? {
                    Progress::Ready(_, prepared) => break prepared,
                    Progress::More => {}
                    Progress::Idle => return Err(Error::new(ErrorKind::Internal, "a snapshot is lost")),
                }
            };
            self.latest.push(self.runtime.block_on(writer.commit(prepared, &store))?);
        }
        Ok(Some(self.latest.clone()))
    }

    fn restore(&mut self, parallelism: u32) -> Result<Option<Vec<KeyedSnapshot>>> {
        self.subtasks.clear();
        let store = self.storage.reader();
        for subtask in 0..parallelism {
            let scope = BackendScope::new(OperatorId::new("counters")?, subtask, parallelism);
            let mut backend = self.factory.create(scope)?;
            let state = backend.register(&ValueDescriptor::<u64>::new("counters"))?;
            self.runtime.block_on(backend.restore(&self.latest, &store))?;
            let writer = backend.take_writer()?;
            self.subtasks.push(Subtask { backend, state, writer });
        }
        Ok(None)
    }

    /// Compares the number of entries and the sum over them with what was written: none is missing, none
    /// exists twice.
    fn check(&mut self) -> Result<Option<Vec<KeyedSnapshot>>> {
        let (mut entries, mut sum) = (0, 0u64);
        for Subtask { backend, state, .. } in &mut self.subtasks {
            backend.for_each_value(*state, |key, (), value| {
                entries += 1;
                sum = sum.wrapping_add(mix(*key ^ value));
                Ok(())
            })?;
        }
        let wanted = (0..self.count).fold(0u64, |sum, i| sum.wrapping_add(mix(mix(i) ^ self.value(i))));
        if (entries, sum) == (self.count, wanted) {
            return Ok(None);
        }
        Err(Error::corrupt(format!("{entries} entries of {} were restored, or other values", self.count)))
    }
}

/// Resident memory of this process.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kilobytes| kilobytes.parse::<u64>().ok()).unwrap_or(0) << 10
}
