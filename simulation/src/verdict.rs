//! What a simulation is judged by.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;

use strandline_checkpoint_storage::{
    CommitLog, CommitLogOptions, FileKind, FileName, LOG_DIR, RecoverOptions, Term,
};
use strandline_snapshot_format::{Fingerprint, snapshot_fingerprint};
use strandline_state_api::{CheckpointId, Error, KeyGroupRange, Result};

use crate::direct;
use crate::director::{Broken, Director};

/// How many differing records a message shows.
const SHOWN: usize = 5;
/// The files of the log that a sweep leaves beside those of retained checkpoints: two slots that show whether
/// one was deleted before, the claims that restate what they hold, and the mark that the log was cut.
const MOST_SLOTS: usize = 5;

/// Files that a sweep leaves although nothing may need them.
enum Spared {
    /// Everything up to this checkpoint.
    UpTo(CheckpointId),
    /// Everything that was written for this one.
    Of(Term, CheckpointId),
}

impl Spared {
    fn includes(&self, name: &FileName) -> bool {
        match self {
            Self::UpTo(checkpoint) => name.checkpoint <= *checkpoint,
            Self::Of(term, checkpoint) => (name.term, name.checkpoint) == (*term, *checkpoint),
        }
    }
}

/// What a run has left: its outputs, and the state of its last checkpoint.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Left {
    outputs: BTreeMap<String, Vec<String>>,
    state: BTreeMap<String, Fingerprint>,
}

impl Left {
    pub(crate) fn output(&self, name: &str) -> Option<&[String]> {
        self.outputs.get(name).map(Vec::as_slice)
    }
}

impl Director {
    /// Collects what the job has left.
    pub(crate) fn left(&self) -> std::result::Result<Left, Broken> {
        let systems = self.outside.systems();
        let outputs = systems.iter().map(|(name, system)| (name.clone(), system.visible())).collect();
        let state = direct::now(self.state()).map_err(|error| unreadable(&error))?;
        Ok(Left { outputs, state })
    }

    /// The fingerprint of each operator's keyed state in the newest checkpoint.
    async fn state(&self) -> Result<BTreeMap<String, Fingerprint>> {
        let storage = direct::storage(self.outside.disk());
        let recovery = storage.recover(RecoverOptions::default()).await?;
        let Some(newest) = recovery.restored else { return Ok(BTreeMap::new()) };
        let manifest = newest.manifest;
        let (reader, mut state) = (storage.reader(), BTreeMap::new());
        for operator in &manifest.operators {
            let mut all = Fingerprint::default();
            for subtask in &operator.subtasks {
                let parts = &subtask.keyed.parts;
                all = all + snapshot_fingerprint(parts, &reader, KeyGroupRange::ALL).await?;
            }
            state.insert(operator.id.to_string(), all);
        }
        Ok(state)
    }

    /// Judges what the job has left, against an undisturbed run.
    pub(crate) fn judge_left(&self, expected: &Left) -> std::result::Result<(), Broken> {
        let left = self.left()?;
        for (name, expected) in &expected.outputs {
            let found = left.outputs.get(name).map_or(&[][..], Vec::as_slice);
            compare(name, expected, found)?;
        }
        for (name, system) in self.outside.systems() {
            if let Some(early) = system.early() {
                return Err(format!(
                    "output {name}: {early} became visible before its checkpoint was complete"
                ));
            }
            if let Some(staged) = system.staged().first() {
                return Err(format!("output {name}: {staged} was pre-committed and is left"));
            }
        }
        for (operator, expected) in &expected.state {
            let found = left.state.get(operator).copied().unwrap_or_default();
            if found != *expected {
                return Err(format!("state of {operator}: {found:?} instead of {expected:?}"));
            }
        }
        let problem = direct::now(self.stored()).map_err(|error| unreadable(&error))?;
        problem.map_or(Ok(()), Err)
    }

    /// Sweeps, and compares what is stored with what is reachable from the log.
    async fn stored(&self) -> Result<Option<Broken>> {
        let storage = direct::storage(self.outside.disk());
        // A new term: nothing of an older one is under way.
        let baton = self.baton.clone();
        let tokens = move || Ok(baton.random(|random| random.u128(..)));
        let options = CommitLogOptions::new("verdict").retain(NonZeroUsize::MIN);
        CommitLog::claim(&storage, options, tokens).await?;
        storage.sweep().await?;
        // Nothing is open for whom it would be spared: a second one finds what the first made superfluous.
        storage.sweep().await?;
        let history = storage.history().await?;
        let (mut reachable, mut spared) = (BTreeSet::new(), Vec::new());
        for completed in &history.completed {
            // What it needs is unknown.
            if self.is_damaged(&completed.manifest) {
                spared.push(Spared::UpTo(completed.checkpoint));
                continue;
            }
            // A sweep does not read its manifest, so what it wrote and merged stays with it.
            if completed.is_savepoint() && completed.stands_alone {
                spared.push(Spared::Of(completed.term, completed.checkpoint));
            }
            let manifest = storage.read_manifest(completed).await?;
            reachable.insert(format!("{}/{}", FileKind::Manifest.dir(), completed.manifest));
            let segments = manifest.segments();
            reachable.extend(segments.map(|segment| format!("{}/{}", FileKind::Segment.dir(), segment.name)));
        }
        let stored: BTreeSet<String> = self.outside.disk().with(|files| files.keys().cloned().collect());
        let (mut slots, mut lists) = (0, Vec::new());
        for path in &stored {
            let (dir, name) = path.split_once('/').unwrap_or(("", path));
            let kind = [FileKind::Manifest, FileKind::Segment].into_iter().find(|kind| kind.dir() == dir);
            if let Some(kind) = kind {
                let name = FileName::parse(kind, name);
                let is_spared = name.is_some_and(|name| spared.iter().any(|spared| spared.includes(&name)));
                if !is_spared && !reachable.contains(path) {
                    return Ok(Some(format!("{path} is stored, and no checkpoint needs it")));
                }
            }
            lists.extend((dir == FileKind::Savepoints.dir()).then_some(name));
            slots += usize::from(dir == LOG_DIR);
        }
        if let Some(path) = reachable.difference(&stored).next() {
            return Ok(Some(format!("a checkpoint needs {path}, and it is not stored")));
        }
        // Each slot may name a list.
        if lists.len() > slots || slots > MOST_SLOTS + history.completed.len() {
            let lists = lists.join(", ");
            return Ok(Some(format!(
                "{slots} slots, and as lists of savepoints {lists}, are left in the log"
            )));
        }
        Ok(None)
    }
}

fn unreadable(error: &Error) -> Broken {
    format!("what the job has left cannot be read: {error:?}")
}

/// Compares two sorted lists of records.
fn compare(name: &str, expected: &[String], found: &[String]) -> std::result::Result<(), Broken> {
    if expected == found {
        return Ok(());
    }
    let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
    expected.iter().for_each(|record| *counts.entry(record).or_default() -= 1);
    found.iter().for_each(|record| *counts.entry(record).or_default() += 1);
    let differing = |differs: fn(i64) -> bool| {
        let records = counts.iter().filter(|(_, count)| differs(**count)).map(|(record, _)| *record);
        records.collect::<Vec<_>>()
    };
    let (lost, extra) = (differing(|count| count < 0), differing(|count| count > 0));
    let some = |records: &[&str]| records.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    Err(format!(
        "output {name}: {} records are missing ({}), {} are there that should not, or too often ({})",
        lost.len(),
        some(&lost),
        extra.len(),
        some(&extra)
    ))
}
