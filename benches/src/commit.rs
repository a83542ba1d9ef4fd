//! What it costs to make a checkpoint exist, on a local disk, beside the least that a disk demands for it.
//!
//! The least is to write and sync a file, give it its name atomically, and sync its directory: no cheaper way
//! is safe against a loss of power.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use strandline_checkpoint_storage::{
    ClaimOutcome, CommitLog, CommitLogOptions, LOG_DIR, Manifest, OperatorSnapshot, Storage, SubtaskSnapshot,
    slot_path,
};
use strandline_state_api::snapshot::{KeyedSnapshot, SegmentStore, SnapshotPart};
use strandline_state_api::{CheckpointId, Error, ErrorKind, KeyGroupRange, OperatorId, Result};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::compare::Subject;
use crate::scratch;
use crate::w3::runtime;

/// How many commits are in a slice.
const SLICE: usize = 8;
/// About the bytes of an entry of the commit log, and of a small manifest.
const ENTRY_BYTES: usize = 512;
const MANIFEST_BYTES: usize = 2048;
const SUBTASKS: u32 = 2;

/// What a commit makes durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CommitOp {
    /// One slot of a log, claimed.
    Claim,
    /// A checkpoint: its manifest and its entry in the commit log. Its segments are there before.
    Checkpoint,
}

impl CommitOp {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Claim, Self::Checkpoint];

    /// For the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Claim => "claim a slot of the log",
            Self::Checkpoint => "commit a checkpoint (manifest and entry)",
        }
    }
}

/// The storage of a job.
#[derive(Debug)]
pub struct Commits {
    runtime: Runtime,
    /// Slots are claimed in a storage of their own, so that they do not get in the way of the log.
    slots: Storage,
    next_slot: u64,
    log: CommitLog,
    manifest: Manifest,
    _dir: TempDir,
}

impl Commits {
    /// A new job.
    ///
    /// # Errors
    /// What the store fails with.
    pub fn new() -> Result<Self> {
        let dir = scratch::directory()?;
        let (job, slots) =
            (Storage::in_dir(dir.path().join("job"))?, Storage::in_dir(dir.path().join("slots"))?);
        let runtime = runtime()?;
        let options = CommitLogOptions::new("bench");
        let claimed = runtime.block_on(CommitLog::claim(&job, options, CommitLog::random_tokens()))?;
        let (term, first) = (claimed.log.term(), claimed.next_checkpoint());
        let segment = runtime.block_on(job.segments(term, first).put(vec![7; 1000]))?;
        let mut manifest = Manifest::new(first, term, "bench");
        let subtasks = (0..SUBTASKS).map(|subtask| {
            let key_groups = KeyGroupRange::of_subtask(subtask, SUBTASKS);
            let part = SnapshotPart::portable(segment.clone(), key_groups);
            let mut snapshot = SubtaskSnapshot::new(subtask, key_groups);
            snapshot.keyed =
                KeyedSnapshot { parts: vec![part; 3], written_bytes: segment.len, states: Vec::new() };
            snapshot
        });
        let id = OperatorId::new("count")?;
        manifest.operators.push(OperatorSnapshot {
            id,
            parallelism: SUBTASKS,
            subtasks: subtasks.collect(),
            types: Default::default(),
        });
        Ok(Self { runtime, slots, next_slot: 0, log: claimed.log, manifest, _dir: dir })
    }
}

impl Subject<CommitOp> for Commits {
    fn slice(&self, _: CommitOp) -> usize {
        SLICE
    }

    fn ready(&mut self, _: CommitOp) -> Result<()> {
        Ok(())
    }

    fn work(&mut self, op: CommitOp) -> Result<u64> {
        for _ in 0..SLICE {
            match op {
                CommitOp::Claim => {
                    let (path, bytes) = (slot_path(self.next_slot), vec![b' '; ENTRY_BYTES]);
                    let claimed = self.runtime.block_on(self.slots.claims().claim(&path, bytes.into()))?;
                    if claimed != ClaimOutcome::Created {
                        return Err(
                            Error::new(ErrorKind::Internal, "a new slot was taken").with("slot", path)
                        );
                    }
                    self.next_slot += 1;
                }
                CommitOp::Checkpoint => {
                    self.runtime.block_on(self.log.commit_alone(&self.manifest))?;
                    self.manifest.checkpoint = CheckpointId(self.manifest.checkpoint.0 + 1);
                }
            }
        }
        Ok(SLICE as u64)
    }
}

/// The same number of files, written with nothing but the file system.
#[derive(Debug)]
pub struct PlainFiles {
    next: u64,
    dir: TempDir,
}

impl PlainFiles {
    /// A new directory.
    ///
    /// # Errors
    /// What the file system fails with.
    pub fn new() -> Result<Self> {
        let dir = scratch::directory()?;
        fs::create_dir(dir.path().join(LOG_DIR)).map_err(failed)?;
        fs::create_dir(dir.path().join("manifest")).map_err(failed)?;
        Ok(Self { next: 0, dir })
    }

    fn path(&self, folder: &str) -> PathBuf {
        self.dir.path().join(folder).join(format!("{:020}", self.next))
    }
}

fn failed(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, "a file cannot be written").caused_by(error)
}

fn write_synced(path: &Path, len: usize) -> std::io::Result<PathBuf> {
    let temporary = path.with_extension("tmp");
    let mut file = File::create_new(&temporary)?;
    file.write_all(&vec![b' '; len])?;
    file.sync_all()?;
    Ok(temporary)
}

fn sync_parent(path: &Path) -> std::io::Result<()> {
    path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

fn create(path: &Path) -> std::io::Result<()> {
    let temporary = write_synced(path, ENTRY_BYTES)?;
    fs::hard_link(&temporary, path)?;
    fs::remove_file(&temporary)?;
    sync_parent(path)
}

fn replace(path: &Path) -> std::io::Result<()> {
    fs::rename(write_synced(path, MANIFEST_BYTES)?, path)?;
    sync_parent(path)
}

impl Subject<CommitOp> for PlainFiles {
    fn slice(&self, _: CommitOp) -> usize {
        SLICE
    }

    fn ready(&mut self, _: CommitOp) -> Result<()> {
        Ok(())
    }

    fn work(&mut self, op: CommitOp) -> Result<u64> {
        for _ in 0..SLICE {
            if op == CommitOp::Checkpoint {
                replace(&self.path("manifest")).map_err(failed)?;
            }
            create(&self.path(LOG_DIR)).map_err(failed)?;
            self.next += 1;
        }
        Ok(SLICE as u64)
    }
}
