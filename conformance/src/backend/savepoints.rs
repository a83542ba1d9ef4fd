//! A savepoint stands apart: it needs no file of others, and increments go on as if it had not been taken.

use std::collections::BTreeMap;

use strandline_state_api::backend::{BackendFactory, KeyedBackendExt, SnapshotKind};
use strandline_state_api::snapshot::KeyedSnapshot;
use strandline_state_api::{ErrorKind, ValueDescriptor, ValueState};

use super::simple::{Simple, rig};
use crate::{StoreFault, Subject};

/// The number of bytes that an increment may write for 100 changed entries of 20 bytes, where the state has
/// 5,000.
const SMALL_CHANGE: u64 = 16_000;

/// What becomes of a savepoint.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Completed,
    /// The savepoint is stored, and no checkpoint names it.
    Aborted,
    /// The store fails after so many puts.
    Failed(usize),
    /// The savepoint was complete, and is deleted.
    Deleted,
}

/// A backend with one state, and what that must hold.
struct Job<F: BackendFactory> {
    simple: Simple<F, u64>,
    state: ValueState<u64>,
    values: BTreeMap<u64, u64>,
}

impl<F: BackendFactory> Job<F> {
    fn new(subject: &Subject<F>, keys: u64) -> Self {
        let mut simple = rig::<F, u64>(subject);
        let state = simple.backend.register(&ValueDescriptor::new("values")).unwrap();
        let mut job = Self { simple, state, values: BTreeMap::new() };
        job.put(0..keys);
        job
    }

    fn put(&mut self, keys: impl IntoIterator<Item = u64>) {
        for key in keys {
            let value = key.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(self.simple.checkpoint().0);
            self.simple.backend.at(&key).state(self.state).put(value).unwrap();
            self.values.insert(key, value);
        }
    }

    fn snapshot(&mut self, kind: SnapshotKind) -> strandline_state_api::Result<KeyedSnapshot> {
        self.simple.store().write_for(1, self.simple.checkpoint().next());
        self.simple.snapshot(kind)
    }

    /// Restores a snapshot from its own files alone.
    fn check(&self, snapshot: &KeyedSnapshot, values: &BTreeMap<u64, u64>, why: &str) {
        let register = |backend: &mut F::Backend<u64>| backend.register(&ValueDescriptor::new("values"));
        let (mut restored, state) = self.simple.restore(std::slice::from_ref(snapshot), register).unwrap();
        let mut found = BTreeMap::new();
        for key in 0..6_000 {
            if let Some(value) = restored.backend.at(&key).state(state).get().unwrap() {
                found.insert(key, *value);
            }
        }
        assert!(found == *values, "{why}: another state is restored");
    }
}

/// Whatever becomes of a savepoint, the increment after it stores what changed, those changes too that the
/// savepoint was the first to hold, and needs no file of it.
pub fn an_increment_after_a_savepoint_stores_what_changed<F: BackendFactory>(subject: &Subject<F>) {
    for fate in [Fate::Completed, Fate::Aborted, Fate::Failed(0), Fate::Failed(1), Fate::Deleted] {
        let mut job = Job::new(subject, 5_000);
        let base = job.snapshot(SnapshotKind::Incremental).unwrap();
        assert!(base.full_bytes() > 3 * SMALL_CHANGE, "{} bytes", base.full_bytes());
        for round in 0..2u64 {
            job.put((0..50).map(|i| i * 7 + round));
            if let Fate::Failed(after) = fate {
                job.simple.store().fail(after, usize::MAX, StoreFault::PutRefused);
            }
            let savepoint = job.snapshot(SnapshotKind::Savepoint);
            job.simple.store().heal();
            match (fate, savepoint) {
                (Fate::Failed(0), Ok(_)) => panic!("a savepoint is stored although the store refuses it"),
                (Fate::Failed(_), Err(error)) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}"),
                (Fate::Deleted, Ok(savepoint)) => {
                    for part in savepoint.parts {
                        job.simple.store().segments().remove(&part.segment.name);
                    }
                }
                (_, savepoint) => drop(savepoint.unwrap()),
            }
            job.put((0..50).map(|i| 5_000 + i * 7 + round));
            let increment = job.snapshot(SnapshotKind::Incremental).unwrap();
            job.check(&increment, &job.values, &format!("{fate:?}, round {round}"));
            if subject.capabilities().incremental {
                let written = increment.written_bytes;
                assert!(written <= SMALL_CHANGE, "{fate:?}: {written} bytes after a savepoint");
            }
        }
    }
}

/// A savepoint restores from its own files alone, and increments need none of them; each needs nothing but
/// what the sweep of a storage leaves.
pub fn a_savepoint_stands_apart<F: BackendFactory>(subject: &Subject<F>) {
    for changed in [0, 1, 5_000] {
        let mut job = Job::new(subject, 5_000);
        let first = job.snapshot(SnapshotKind::Incremental).unwrap();
        let completed = job.simple.checkpoint();
        job.put(0..changed);
        let savepoint = job.snapshot(SnapshotKind::Savepoint).unwrap();
        let saved = job.values.clone();
        assert!(savepoint.parts.iter().all(|part| part.format.is_portable()));
        for part in &savepoint.parts {
            assert!(!first.parts.contains(part), "a savepoint needs {}", part.segment.name);
        }
        let parts =
            |snapshot: &KeyedSnapshot| snapshot.parts.clone().into_iter().map(|part| part.segment.name);
        // The savepoint is complete, and does not count as the newest checkpoint.
        let marked = parts(&first).chain(parts(&savepoint)).collect();
        job.simple.store().sweep(1, completed, &marked);
        job.put(4_000..4_001);
        let increment = job.snapshot(SnapshotKind::Incremental).unwrap();
        for part in &increment.parts {
            assert!(
                !savepoint.parts.contains(part),
                "an increment needs {} of a savepoint",
                part.segment.name
            );
        }
        let marked = parts(&increment).chain(parts(&savepoint)).collect();
        job.simple.store().sweep(1, job.simple.checkpoint(), &marked);
        job.check(&savepoint, &saved, "a savepoint");
        job.check(&increment, &job.values, "an increment after a savepoint");
        job.simple.store().keep_only([&savepoint]);
        job.check(&savepoint, &saved, "a savepoint whose job is gone");
    }
}
