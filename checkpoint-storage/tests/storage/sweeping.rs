//! Over random histories of checkpoints, aborts, savepoints, takeovers and damage, a sweep takes nothing that
//! anyone can need, and leaves nothing that nobody needs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use proptest::prelude::*;
use strandline_checkpoint_protocol::CommitRight;
use strandline_checkpoint_storage::{
    CheckpointKind, CommitLog, CompletedCheckpoint, Depth, FileKind, History, LocalDir, Manifest,
    RecoverFrom, RecoverOptions, Storage, SweepReport, Term, slot_path,
};
use strandline_state_api::host::{OperatorStateEntry, Redistribution};
use strandline_state_api::snapshot::{KeyedSnapshot, SegmentRef, SegmentStore, SnapshotPart};
use strandline_state_api::{CheckpointId, ErrorKind, KeyGroupRange};

use crate::common::{cases, claim, claim_keeping, manifest_of, manifest_with, open_all};

const SUBTASKS: usize = 2;

/// A checkpoint under way: what each subtask has handed in so far.
struct InFlight {
    id: u64,
    savepoint: bool,
    parts: [Option<Vec<SegmentRef>>; SUBTASKS],
}

/// A job as its storage sees it.
struct Job {
    storage: Storage,
    retain: usize,
    log: CommitLog,
    stale: Vec<CommitLog>,
    next: u64,
    /// The highest number that was completed since the start.
    newest: u64,
    restored_from: Option<CheckpointId>,
    /// What the snapshots of each subtask build on.
    chains: [Vec<SegmentRef>; SUBTASKS],
    in_flight: VecDeque<InFlight>,
    /// Sweeps that were planned, and are slow.
    planned: Vec<SweepReport>,
    damaged: BTreeSet<CheckpointId>,
    written: u64,
}

impl Job {
    async fn start(retain: usize) -> Self {
        let storage = Storage::in_memory().unwrap();
        let log = claim_keeping(&storage, retain).await.log;
        Self {
            storage,
            retain,
            log,
            stale: Vec::new(),
            next: 1,
            newest: 0,
            restored_from: None,
            chains: Default::default(),
            in_flight: VecDeque::new(),
            planned: Vec::new(),
            damaged: BTreeSet::new(),
            written: 0,
        }
    }

    async fn step(&mut self, action: u8, choice: u8) {
        match action {
            0..=3 => self.trigger(choice < 100),
            4..=11 => self.snapshot(usize::from(choice) % SUBTASKS, choice).await,
            12..=15 => self.complete(choice).await,
            16 => drop(self.in_flight.remove(usize::from(choice) % self.in_flight.len().max(1))),
            17 => drop(self.storage.sweep().await.unwrap()),
            18 => self.planned.push(self.storage.plan_sweep().await.unwrap()),
            19 => self.execute_planned().await,
            20 => self.restart(RecoverFrom::Latest).await,
            23 => self.restart_from_any(choice).await,
            24 => self.remove(choice).await,
            21 => self.stale_writes(choice).await,
            _ => self.damage().await,
        }
        self.check().await;
    }

    fn trigger(&mut self, savepoint: bool) {
        self.in_flight.push_back(InFlight { id: self.next, savepoint, parts: [None, None] });
        self.next += 1;
    }

    async fn write(&mut self, term: Term, id: u64) -> SegmentRef {
        self.written += 1;
        let content = format!("{} of {id}", self.written).into_bytes();
        self.storage.segments(term, CheckpointId(id)).put(content).await.unwrap()
    }

    /// A subtask hands in its part of the oldest checkpoint that it has not, as a backend does: the chain and
    /// what is new, or a new base. Savepoints take longer.
    async fn snapshot(&mut self, subtask: usize, choice: u8) {
        let is_next = |c: &InFlight| c.parts[subtask].is_none() && (!c.savepoint || choice.is_multiple_of(3));
        let Some(at) = self.in_flight.iter().position(is_next) else { return };
        let (id, savepoint) = (self.in_flight[at].id, self.in_flight[at].savepoint);
        let new = self.write(self.log.term(), id).await;
        let parts = if savepoint {
            vec![new]
        } else {
            if choice.is_multiple_of(5) {
                self.chains[subtask].clear();
            }
            self.chains[subtask].push(new);
            self.chains[subtask].clone()
        };
        self.in_flight[at].parts[subtask] = Some(parts);
    }

    async fn complete(&mut self, choice: u8) {
        let done = |c: &InFlight| c.parts.iter().all(Option::is_some);
        let Some(at) = self.in_flight.iter().position(done) else { return };
        let completed = self.in_flight.remove(at).unwrap();
        // Older ones are subsumed, but for savepoints.
        self.in_flight.retain(|c| c.id > completed.id || c.savepoint);
        // Of those that stay all are savepoints that will be late, but for the newest.
        self.newest = self.newest.max(completed.id);
        let open = self.in_flight.iter().find(|c| c.id < self.newest).map(|c| CheckpointId(c.id));
        let mut manifest = manifest_of(self.log.term(), completed.id, []);
        let subtask = manifest.operators[0].subtasks[0].clone();
        manifest.operators[0].subtasks.clear();
        for parts in completed.parts {
            let part = |segment| SnapshotPart::portable(segment, KeyGroupRange::ALL);
            let parts = parts.unwrap().into_iter().map(part).collect();
            let keyed = KeyedSnapshot { parts, ..KeyedSnapshot::default() };
            manifest.operators[0]
                .subtasks
                .push(strandline_checkpoint_storage::SubtaskSnapshot { keyed, ..subtask.clone() });
        }
        if choice.is_multiple_of(4) {
            manifest.operators[0].subtasks[1].operator_state.push(OperatorStateEntry {
                name: "large".into(),
                redistribution: Redistribution::Split,
                codec: "bytes".into(),
                schema_version: 1,
                elements: vec![vec![choice; 70_000]],
            });
        }
        manifest.kind =
            if completed.savepoint { CheckpointKind::Savepoint } else { CheckpointKind::Periodic };
        manifest.restored_from = self.restored_from;
        let right = CommitRight::of_sole_participant(manifest.checkpoint, manifest.kind);
        let right = open.into_iter().fold(right, CommitRight::beside_savepoint);
        self.log.commit(&right, &manifest).await.into_result().unwrap();
    }

    async fn execute_planned(&mut self) {
        for report in self.planned.drain(..) {
            for file in report.deleted {
                if file == slot_path(0) {
                    self.storage.claims().claim("log.cut", Bytes::new()).await.unwrap();
                }
                self.storage.blobs().delete(&file).await.unwrap();
                self.storage.claims().delete(&file).await.unwrap();
            }
        }
    }

    /// Somebody starts the job from a checkpoint of their choice.
    async fn restart_from_any(&mut self, choice: u8) {
        let completed = self.storage.completed().await.unwrap();
        let good: Vec<_> = completed.iter().filter(|c| !self.damaged.contains(&c.checkpoint)).collect();
        if !good.is_empty() {
            let from = good[usize::from(choice) % good.len()].checkpoint;
            self.restart(RecoverFrom::Checkpoint(from)).await;
        }
    }

    /// Somebody removes a savepoint, but not the last checkpoint that a start can fall back to.
    async fn remove(&self, choice: u8) {
        let history = self.storage.history().await.unwrap();
        let savepoints: Vec<_> = history.completed.iter().filter(|c| c.is_savepoint()).collect();
        if savepoints.is_empty() {
            return;
        }
        let savepoint = savepoints[usize::from(choice) % savepoints.len()].checkpoint;
        let is_left = |c: &CompletedCheckpoint| c.checkpoint != savepoint && self.is_good(&history, c);
        if !history.completed.iter().any(is_left) {
            return;
        }
        let removed = self.storage.remove_savepoint(savepoint).await;
        match history.latest().is_some_and(|latest| latest.checkpoint == savepoint) {
            true => assert_eq!(removed.unwrap_err().kind(), ErrorKind::Invalid),
            false => assert_eq!(removed.unwrap().checkpoint, savepoint),
        }
    }

    async fn restart(&mut self, from: RecoverFrom) {
        let claimed = claim_keeping(&self.storage, self.retain).await;
        self.next = claimed.next_checkpoint().0;
        self.stale.push(std::mem::replace(&mut self.log, claimed.log));
        self.in_flight.clear();
        self.newest = 0;
        let options = RecoverOptions { from, ..RecoverOptions::default() };
        let restored = self.storage.recover(options).await.unwrap().restored;
        self.restored_from = restored.as_ref().map(|r| r.completed.checkpoint);
        self.chains = Default::default();
        if let Some(Manifest { operators, .. }) = restored.map(|r| r.manifest) {
            for (chain, subtask) in self.chains.iter_mut().zip(&operators[0].subtasks) {
                *chain = subtask.keyed.parts.iter().map(|part| part.segment.clone()).collect();
            }
        }
    }

    /// A coordinator that does not know that it is over writes, and tries to complete what it wrote.
    async fn stale_writes(&mut self, choice: u8) {
        let Some(at) = self.stale.len().checked_sub(1).map(|last| usize::from(choice) % (last + 1)) else {
            return;
        };
        let (term, id) = (self.stale[at].term(), self.next + u64::from(choice % 3));
        let segment = self.write(term, id).await;
        let error = self.stale[at].commit_alone(&manifest_of(term, id, [segment])).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
        self.stale.swap_remove(at);
    }

    /// Whether a start can fall back to it.
    fn is_good(&self, history: &History, completed: &CompletedCheckpoint) -> bool {
        history.is_on_branch(completed) && !self.damaged.contains(&completed.checkpoint)
    }

    /// The manifest of the newest checkpoint is damaged, if there is another to fall back to.
    async fn damage(&mut self) {
        let history = self.storage.history().await.unwrap();
        let good = history.completed.iter().filter(|c| self.is_good(&history, c)).count();
        let Some(newest) = history.latest().filter(|newest| good > 1 && !newest.is_savepoint()) else {
            return;
        };
        let path = newest.manifest_name().unwrap().path();
        self.storage.blobs().put(&path, Bytes::from_static(b"damaged")).await.unwrap();
        self.damaged.insert(newest.checkpoint);
        self.restart(RecoverFrom::Latest).await;
    }

    /// Everything that exists or may come to exist is there.
    async fn check(&self) {
        for completed in self.storage.completed().await.unwrap() {
            let report = self.storage.verify_with(&completed, Depth::Lengths, None).await.unwrap();
            assert!(report.is_good() || self.damaged.contains(&completed.checkpoint), "{report}");
        }
        let handed_in = self.in_flight.iter().flat_map(|c| c.parts.iter().flatten()).flatten();
        for segment in handed_in.chain(self.chains.iter().flatten()) {
            let len = self.storage.blobs().len(&format!("segments/{}", segment.name)).await.unwrap();
            assert_eq!(len, Some(segment.len), "{} is gone", segment.name);
        }
    }

    /// When all is quiet, exactly what is needed is there.
    async fn finish(mut self) {
        self.in_flight.clear();
        for _ in 0..=self.retain {
            self.trigger(false);
            for subtask in 0..SUBTASKS {
                self.snapshot(subtask, 1).await;
            }
            self.complete(1).await;
        }
        self.execute_planned().await;
        self.storage.sweep().await.unwrap();
        self.check().await;
        let mut needed = BTreeSet::new();
        for completed in self.storage.completed().await.unwrap() {
            needed.insert(completed.manifest_name().unwrap().path());
            let manifest = self.storage.read_manifest(&completed).await.unwrap();
            needed.extend(manifest.segments().map(|segment| format!("segments/{}", segment.name)));
        }
        let mut there = BTreeSet::new();
        for kind in [FileKind::Manifest, FileKind::Segment] {
            let files = self.storage.blobs().list(kind.dir()).await.unwrap();
            there.extend(files.into_iter().map(|file| format!("{}/{}", kind.dir(), file.name)));
        }
        assert_eq!(there, needed);
        assert!(self.storage.claims().list("log").await.unwrap().len() <= 2 * self.retain + 4);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 2_000, ..ProptestConfig::with_cases(cases(200) as u32) })]

    #[test]
    fn a_sweep_takes_what_nobody_needs_and_nothing_else(
        retain in 1usize..4,
        steps in prop::collection::vec((0u8..25, any::<u8>()), 1..120),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut job = Job::start(retain).await;
            for (action, choice) in steps {
                job.step(action, choice).await;
            }
            job.finish().await;
        });
    }
}

#[tokio::test]
async fn foreign_files_stay_and_leftovers_go() {
    let dir = tempfile::TempDir::new().unwrap();
    let storage = Storage::in_dir(dir.path()).unwrap();
    let mut log = claim(&storage).await.log;
    log.commit_alone(&manifest_with(&storage, 1, 1, &[b"one"]).await).await.unwrap();
    let put = |path: &str| std::fs::write(dir.path().join(path), b"junk").unwrap();
    let segment = |term: u64, id: u64| format!("{term:020}-{id:020}-{:032x}.seg", 7);
    std::fs::create_dir_all(dir.path().join("operator")).unwrap();
    let foreign = [
        "segments/notes.txt",
        "segments/.hidden.tmp",
        "segments/.notes.txt.12.3.tmp",
        "operator/x.state",
        "manifest/README",
        "log/backup-of-1",
    ];
    foreign.iter().for_each(|path| put(path));
    // Of dead processes: in a term or a checkpoint that is over, for a slot that is decided.
    let dead = [
        format!("segments/.{}.12.3.tmp", segment(0, 99)),
        format!("segments/.{}.12.3.tmp", segment(1, 1)),
        format!("log/.{:020}.12.3.tmp", 1),
    ];
    // Of processes that may be alive.
    let alive = [
        format!("segments/.{}.12.3.tmp", segment(1, 2)),
        format!("segments/.{}.12.3.tmp", segment(2, 1)),
        format!("segments/{}", segment(2, 1)),
        format!("log/.{:020}.12.3.tmp", 2),
    ];
    dead.iter().chain(&alive).for_each(|path| put(path));
    let report = storage.sweep().await.unwrap();
    let sorted = |mut paths: Vec<String>| {
        paths.sort();
        paths
    };
    assert_eq!(sorted(report.deleted), sorted(dead.to_vec()));
    assert_eq!(sorted(report.foreign), sorted(foreign.iter().map(ToString::to_string).collect()));
    for path in foreign.iter().map(ToString::to_string).chain(alive) {
        assert!(dir.path().join(&path).exists(), "{path}");
    }
    dead.iter().for_each(|path| assert!(!dir.path().join(path).exists(), "{path}"));
}

#[tokio::test]
async fn a_sweep_beside_a_writer_costs_it_another_attempt_at_most() {
    let dir = tempfile::TempDir::new().unwrap();
    let store = LocalDir::new(dir.path()).unwrap();
    let storage = Storage::in_dir(dir.path()).unwrap();
    // Everything in term 1 is over, so the sweep takes every temporary file of the writer that it meets.
    let mut log = claim(&storage).await.log;
    log.commit_alone(&manifest_with(&storage, 1, 1, &[]).await).await.unwrap();
    claim(&storage).await;
    let writer = tokio::spawn({
        let segments = Storage::in_dir(store.path()).unwrap().segments(1, CheckpointId(1));
        async move {
            let mut written = BTreeMap::new();
            for n in 0..cases(200) {
                match segments.put(n.to_le_bytes().repeat(100)).await {
                    Ok(segment) => drop(written.insert(n, segment)),
                    Err(e) => assert_eq!(e.kind(), ErrorKind::Unavailable),
                }
            }
            written.len()
        }
    });
    while !writer.is_finished() {
        storage.sweep().await.unwrap();
    }
    assert!(writer.await.unwrap() > 0);
    storage.sweep().await.unwrap();
    assert!(storage.blobs().list("segments").await.unwrap().is_empty());
}

#[tokio::test]
async fn nothing_is_created_by_looking() {
    let dir = tempfile::TempDir::new().unwrap();
    let place = dir.path().join("not/there");
    let storage = Storage::in_dir(&place).unwrap();
    assert!(storage.completed().await.unwrap().is_empty());
    assert!(storage.recover(RecoverOptions::default()).await.unwrap().restored.is_none());
    assert!(storage.sweep().await.unwrap().deleted.is_empty());
    assert!(!dir.path().join("not").exists());
}

#[tokio::test]
async fn what_a_damaged_manifest_may_need_stays_until_it_is_mended() {
    for (_dir, storage) in open_all() {
        let mut log = claim_keeping(&storage, 2).await.log;
        for id in 1..=2 {
            log.commit_alone(&manifest_with(&storage, 1, id, &[&id.to_le_bytes()]).await).await.unwrap();
        }
        let path = storage.completed().await.unwrap()[0].manifest_name().unwrap().path();
        let len = storage.blobs().len(&path).await.unwrap().unwrap();
        let manifest = storage.blobs().read(&path, 0..len).await.unwrap();
        storage.blobs().put(&path, manifest.slice(1..)).await.unwrap();
        let report = storage.sweep().await.unwrap();
        assert_eq!(report.unreadable_manifests.len(), 1);
        assert_eq!(report.deleted, [slot_path(0)]);
        storage.blobs().put(&path, manifest).await.unwrap();
        assert!(storage.verify(CheckpointId(1)).await.unwrap().is_good());
    }
}
