//! Many incremental checkpoints under a changing load, with aborts, failures, restarts and rescales: after
//! each restart the state equals the model, and after a sweep the store holds exactly the files that a
//! checkpoint names.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use strandline_backend_rocksdb::RocksBackendFactory;
use strandline_conformance::{FaultySegments, StoreFault};
use strandline_state_api::backend::{KeyedBackendExt, SnapshotKind};
use strandline_state_api::snapshot::{KeyedSnapshot, SegmentName};
use strandline_state_api::{CheckpointId, KeyGroup, KeyGroupRange, StateKey};
use tempfile::TempDir;

use crate::common::{Counters, cases, options};

const KEYS: u64 = 20_000;

struct Job {
    factory: RocksBackendFactory,
    store: Arc<FaultySegments>,
    subtasks: Vec<(KeyGroupRange, Counters)>,
    now: BTreeMap<u64, u64>,
    /// The newest complete checkpoint.
    complete: Option<(Vec<KeyedSnapshot>, BTreeMap<u64, u64>)>,
    last: CheckpointId,
    term: u64,
    completed: CheckpointId,
}

impl Job {
    fn start(&mut self, parallelism: u32) {
        self.subtasks.clear();
        self.term += 1;
        self.completed = CheckpointId(0);
        let (snapshots, now) = self.complete.clone().unwrap_or_default();
        for subtask in 0..parallelism {
            let range = KeyGroupRange::of_subtask(subtask, parallelism);
            let restored =
                Counters::restored(&self.factory, range, Arc::clone(&self.store), &snapshots, self.last)
                    .unwrap();
            self.subtasks.push((range, restored.0));
        }
        self.now = now;
        self.check();
    }

    fn check(&mut self) {
        for (range, counters) in &mut self.subtasks {
            let mut found = BTreeMap::new();
            let visited = counters.backend.for_each_value(counters.state, |key, (), value| {
                assert!(found.insert(*key, *value).is_none());
                Ok(())
            });
            visited.unwrap();
            let wanted = self.now.iter().filter(|(key, _)| range.contains(KeyGroup::of(key.key_hash())));
            assert!(found.iter().eq(wanted), "key groups {range} after checkpoint {}", self.last);
        }
    }

    fn work(&mut self, random: &mut fastrand::Rng, changes: usize) {
        for _ in 0..changes {
            let key = random.u64(..KEYS);
            let group = KeyGroup::of(key.key_hash());
            let (_, counters) = self.subtasks.iter_mut().find(|(range, _)| range.contains(group)).unwrap();
            if random.u8(..8) == 0 {
                let cleared = counters.backend.at(&key).state(counters.state).clear();
                assert_eq!(cleared.unwrap(), self.now.remove(&key).is_some());
            } else {
                let value = random.u64(..);
                counters.put(key, value).unwrap();
                self.now.insert(key, value);
            }
        }
    }

    /// Takes a checkpoint, which `fate` aborts (0), fails (1) or completes.
    fn checkpoint(&mut self, random: &mut fastrand::Rng, fate: u8) {
        let wanted = self.now.clone();
        let mut snapshots = Vec::new();
        let mut failed = false;
        self.last = self.last.next();
        self.store.write_for(self.term, self.last);
        for number in 0..self.subtasks.len() {
            let counters = &mut self.subtasks[number].1;
            counters.last = CheckpointId(self.last.0 - 1);
            let prepared = counters.prepare(SnapshotKind::Incremental).unwrap();
            if fate == 1 {
                self.store.fail(random.usize(..3), 9, StoreFault::PutAnswerLost);
            }
            match (fate, counters.commit(prepared)) {
                (_, Ok(snapshot)) => snapshots.push(snapshot),
                (1, Err(_)) => failed = true,
                (_, Err(error)) => panic!("{error}"),
            }
            self.store.heal();
        }
        if fate > 1 && !failed {
            self.complete = Some((snapshots, wanted));
            self.completed = self.last;
        }
    }

    fn sweep(&self) {
        let Some((snapshots, _)) = &self.complete else { return };
        let parts = snapshots.iter().flat_map(|snapshot| &snapshot.parts);
        let marked: BTreeSet<SegmentName> = parts.map(|part| part.segment.name.clone()).collect();
        self.store.sweep(self.term, self.completed, &marked);
        if self.completed == self.last {
            let held: BTreeSet<SegmentName> =
                self.store.segments().segments().into_iter().map(|segment| segment.name).collect();
            assert_eq!(held, marked, "after checkpoint {}", self.last);
        }
    }
}

#[test]
fn checkpoints_under_a_changing_load() {
    let rounds = cases(200);
    let place = TempDir::new().unwrap();
    let mut options = options(place.path());
    options.memory = 6 << 20;
    let factory = RocksBackendFactory::new(options).unwrap();
    let mut random = fastrand::Rng::with_seed(77);
    let mut job = Job {
        factory,
        store: Arc::default(),
        subtasks: Vec::new(),
        now: BTreeMap::new(),
        complete: None,
        last: CheckpointId(0),
        term: 0,
        completed: CheckpointId(0),
    };
    job.start(1);
    for round in 0..rounds {
        if round % 50 == 0 {
            println!(
                "checkpoint {round} of {}: {} keys, {} subtasks",
                rounds,
                job.now.len(),
                job.subtasks.len()
            );
        }
        let changes = [10, 200, 2_000, 0][random.usize(..4)];
        job.work(&mut random, changes);
        // A tenth is aborted, a tenth fails, the others are complete.
        let fate = random.u8(..10);
        job.checkpoint(&mut random, fate);
        job.work(&mut random, changes / 4);
        job.sweep();
        if random.u8(..12) == 0 {
            job.start(random.u32(1..4));
        }
    }
    job.check();
}
