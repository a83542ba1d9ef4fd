//! How many objects a checkpoint needs: none without state, and few whatever the intervals and whatever
//! became of the checkpoints before.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use strandline_state_api::backend::{BackendFactory, BackendScope, KeyedBackendExt, SnapshotKind};
use strandline_state_api::snapshot::KeyedSnapshot;
use strandline_state_api::{
    CheckpointId, ErrorKind, KeyGroupRange, Keyed, KeyedBackend, OperatorId, StateHandle, ValueDescriptor,
    ValueState,
};

use super::simple::{Simple, rig};
use crate::effort::{first_seed, programs};
use crate::{StoreFault, Subject};

/// The maximum number of objects of one checkpoint, for a state of a few hundred kilobytes.
const FEW: usize = 24;

/// The values of a state by key.
type Values = BTreeMap<u64, u64>;

/// A job that retains one checkpoint.
struct Job<F: BackendFactory> {
    simple: Simple<F, u64>,
    state: ValueState<u64>,
    values: Values,
    /// The newest complete checkpoint, and what it must hold.
    complete: (KeyedSnapshot, Values),
    completed: CheckpointId,
    term: u64,
    bounded: bool,
}

impl<F: BackendFactory> Job<F> {
    fn new(subject: &Subject<F>) -> Self {
        let mut simple = rig::<F, u64>(subject);
        let state = simple.backend.register(&ValueDescriptor::new("values")).unwrap();
        let (values, complete) = <_>::default();
        let bounded = subject.capabilities().few_objects;
        Self { simple, state, values, complete, completed: CheckpointId(0), term: 1, bounded }
    }

    /// Puts or clears `count` values with keys below `keys`.
    fn change(&mut self, rng: &mut Rng, count: usize, keys: u64) {
        for _ in 0..count {
            let (key, value) = (rng.u64(..keys), rng.u64(..));
            if rng.u8(..5) == 0 {
                self.simple.backend.at(&key).state(self.state).clear().unwrap();
                self.values.remove(&key);
            } else {
                self.simple.backend.at(&key).state(self.state).put(value).unwrap();
                self.values.insert(key, value);
            }
        }
    }

    /// Stores a snapshot, which is good for a checkpoint unless the store fails.
    fn store(&mut self) -> Option<KeyedSnapshot> {
        self.simple.store().write_for(self.term, self.simple.checkpoint().next());
        let snapshot = match self.simple.snapshot(SnapshotKind::Incremental) {
            Ok(snapshot) => snapshot,
            Err(error) if error.kind() == ErrorKind::Unavailable => return None,
            Err(error) => panic!("the snapshot fails for another reason than the store: {error}"),
        };
        let objects = snapshot.parts.len();
        let id = self.simple.checkpoint();
        assert!(objects <= FEW || !self.bounded, "checkpoint {id} needs {objects} objects");
        Some(snapshot)
    }

    /// Takes a checkpoint, and deletes what it supersedes.
    fn checkpoint(&mut self) {
        let snapshot = self.store().expect("the store works");
        self.completed = self.simple.checkpoint();
        let marked: BTreeSet<_> = snapshot.parts.iter().map(|part| part.segment.name.clone()).collect();
        self.simple.store().sweep(self.term, self.completed, &marked);
        assert_eq!(
            self.simple.store().segments().segments().len(),
            marked.len(),
            "what no checkpoint needs can be deleted"
        );
        self.complete = (snapshot, self.values.clone());
    }

    /// Dies, and resumes from the newest complete checkpoint.
    fn crash(&mut self) {
        let (snapshot, values) = self.complete.clone();
        let register = |backend: &mut F::Backend<u64>| backend.register(&ValueDescriptor::new("values"));
        let (simple, state) = self.simple.restore(&[snapshot], register).unwrap();
        (self.simple, self.state, self.values) = (simple, state, values);
        self.term += 1;
        self.completed = CheckpointId(0);
        let mut found = 0;
        for (key, value) in &self.values {
            let mut scope = self.simple.backend.at(key);
            assert_eq!(scope.state(self.state).get().unwrap(), Some(value), "key {key}");
        }
        let count = |_: Keyed<'_, u64>, (): &()| {
            found += 1;
            Ok(())
        };
        self.simple.backend.for_each_key(self.state.state_id(), KeyGroupRange::ALL, count).unwrap();
        assert_eq!(found, self.values.len(), "the number of values");
    }
}

/// After any number of increments, each of one changed value, a checkpoint needs few objects, and restores.
pub fn increments_of_one_change<F: BackendFactory>(subject: &Subject<F>) {
    let mut rng = Rng::with_seed(3);
    let mut job = Job::new(subject);
    job.change(&mut rng, 500, 2_000);
    for round in 0..100 {
        job.checkpoint();
        job.change(&mut rng, 1, 2_000);
        if round % 40 == 39 {
            job.crash();
        }
    }
}

/// The same for changes of any size, and where checkpoints are aborted, fail, or are followed by a crash.
pub fn increments_of_any_size<F: BackendFactory>(subject: &Subject<F>) {
    for seed in first_seed()..first_seed() + programs(2) {
        let mut rng = Rng::with_seed(seed);
        let mut job = Job::new(subject);
        for _ in 0..80 {
            let count = [0, 1, 1, 10, 50, 300][rng.usize(..6)];
            job.change(&mut rng, count, 3_000);
            match rng.u8(..12) {
                0 => drop(job.store()), // Aborted: stored, and named by no checkpoint.
                1 | 2 => {
                    let fault = [StoreFault::PutRefused, StoreFault::PutAnswerLost][rng.usize(..2)];
                    job.simple.store().fail(rng.usize(..3), usize::MAX, fault);
                    drop(job.store());
                    job.simple.store().heal();
                }
                3 if rng.bool() => job.crash(),
                _ => job.checkpoint(),
            }
        }
        job.checkpoint();
        job.crash();
    }
}

/// A backend without entries stores nothing, whether it has no state, only empty ones, or was emptied; it
/// restores, at another parallelism too, and goes on.
pub fn nothing_is_stored_for_nothing<F: BackendFactory>(subject: &Subject<F>) {
    for kind in [SnapshotKind::Incremental, SnapshotKind::Full, SnapshotKind::Savepoint] {
        let mut simple = rig::<F, u64>(subject);
        let nothing = simple.snapshot(kind).unwrap();
        assert_eq!(nothing, KeyedSnapshot::default(), "no state is registered, {kind:?}");
        let register =
            |backend: &mut F::Backend<u64>| backend.register(&ValueDescriptor::<u64>::new("values"));
        let state = register(&mut simple.backend).unwrap();
        let empty = simple.snapshot(kind).unwrap();
        assert_eq!(empty, KeyedSnapshot::default(), "all states are empty, {kind:?}");
        assert_eq!(simple.store().segments().segments(), [], "{kind:?}");
        for subtask in 0..3 {
            let scope = BackendScope::new(OperatorId::new("conformance").unwrap(), subtask, 3);
            let given = [empty.clone(), nothing.clone()];
            let (mut restored, _) = simple.restore_in(scope, &given, register).unwrap();
            assert_eq!(restored.backend.entries(), 0);
            assert_eq!(restored.snapshot(kind).unwrap(), KeyedSnapshot::default(), "restored, {kind:?}");
        }
        for round in 0..3 {
            for key in 0..50 {
                simple.backend.at(&key).state(state).put(round).unwrap();
            }
            let filled = simple.snapshot(kind).unwrap();
            assert!(!filled.parts.is_empty());
            for key in 0..50 {
                simple.backend.at(&key).state(state).clear().unwrap();
            }
            let emptied = simple.snapshot(kind).unwrap();
            assert_eq!(emptied.parts, [], "emptied in round {round}, {kind:?}");
            if kind != SnapshotKind::Savepoint {
                // No later snapshot may need a file of a checkpoint before the empty one.
                simple.store().keep_only([]);
            }
            simple.backend.at(&1).state(state).put(7).unwrap();
            let again = simple.snapshot(kind).unwrap();
            let (mut restored, state_of) = simple.restore(&[again], register).unwrap();
            assert_eq!(restored.backend.at(&1).state(state_of).get().unwrap(), Some(&7));
            assert_eq!(restored.backend.at(&2).state(state_of).get().unwrap(), None);
        }
    }
}
