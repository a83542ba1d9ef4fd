//! The portable format: a backend restores the snapshots of another one.

use std::sync::Arc;

use fastrand::Rng;
use strandline_state_api::backend::{BackendFactory, SnapshotKind};
use strandline_state_api::snapshot::KeyedSnapshot;
use strandline_state_api::{CheckpointId, KeyGroupRange};

use crate::Subject;
use crate::effort::{first_seed, programs};
use crate::segments::FaultySegments;
use crate::world::{Contents, World, check_restored};

/// `to` restores snapshots of `from`, full ones and portable increments, whole and in parts, and `from`
/// restores the snapshots of `to`.
///
/// The case takes two backends, so it is not one of [`backend_cases`](crate::backend_cases): call it for your
/// own pairs of backends. Both must have the same kinds of state.
pub fn from_one_backend_to_another<A, B>(from: &Subject<A>, to: &Subject<B>)
where
    A: BackendFactory,
    B: BackendFactory,
{
    let mut first = World::new(from);
    for seed in 800..804 {
        first.shake(seed, 250);
        let taken = first.snapshot(if seed == 802 { SnapshotKind::Full } else { portable(from) });
        let (mut back, mut contents) = (Vec::new(), Contents::default());
        for subtask in 0..3 {
            let range = KeyGroupRange::of_subtask(subtask, 3);
            let (snapshots, store) = ([taken.snapshot.clone()], Arc::clone(&first.store));
            check_restored(to, &store, range, &snapshots, &taken.contents).unwrap();
            let restored = World::restored(to, range, store, &snapshots, &taken.contents, first.last);
            let (mut second, _) = restored.unwrap();
            second.shake_own(seed + 10, 100);
            let taken = second.snapshot(portable(to));
            contents = contents.union(taken.contents);
            back.push(taken.snapshot);
        }
        check_restored(from, &first.store, KeyGroupRange::ALL, &back, &contents).unwrap();
    }
}

/// A job changes its backend again and again: random operations, then a snapshot that the other backend
/// restores, at another parallelism each time.
///
/// The case takes two backends, so it is not one of [`backend_cases`](crate::backend_cases): call it for your
/// own pairs of backends. It makes 20 moves of 250 operations; `STRANDLINE_CASES` multiplies the moves,
/// `STRANDLINE_SEED` is the first seed.
pub fn random_moves<A: BackendFactory, B: BackendFactory>(first: &Subject<A>, second: &Subject<B>) {
    let (store, mut taken) = (Arc::default(), Vec::new());
    let (mut contents, mut last) = (Contents::default(), CheckpointId(0));
    let seed = first_seed();
    for seed in (seed..).take(programs(20) as usize) {
        let parallelism = Rng::with_seed(seed).u32(1..9);
        let state = (taken, contents, last);
        (taken, contents, last) = if seed % 2 == 0 {
            live_once(first, &store, state, parallelism, seed)
        } else {
            live_once(second, &store, state, parallelism, seed)
        };
    }
}

type Between = (Vec<KeyedSnapshot>, Contents, CheckpointId);

/// Restores into `parallelism` subtasks, changes them, and takes a snapshot.
fn live_once<F: BackendFactory>(
    subject: &Subject<F>,
    store: &Arc<FaultySegments>,
    (snapshots, before, last): Between,
    parallelism: u32,
    seed: u64,
) -> Between {
    let (mut taken, mut contents, mut newest) = (Vec::new(), Contents::default(), last);
    for subtask in 0..parallelism {
        let range = KeyGroupRange::of_subtask(subtask, parallelism);
        let restored = World::restored(subject, range, Arc::clone(store), &snapshots, &before, last);
        let (mut world, _) = restored.unwrap_or_else(|e| panic!("seed {seed}, subtask {subtask}: {e:?}"));
        // All subtasks use one seed, so that they agree on the time.
        world.shake_own(seed, 250);
        world.check().unwrap_or_else(|e| panic!("seed {seed}, subtask {subtask}: {e:?}"));
        let of_world = world.snapshot(portable(subject));
        contents = contents.union(of_world.contents);
        taken.push(of_world.snapshot);
        newest = newest.max(world.last);
    }
    (taken, contents, newest)
}

/// Returns the kind of the smallest snapshot that every other backend reads.
fn portable<F: BackendFactory>(subject: &Subject<F>) -> SnapshotKind {
    if subject.capabilities().portable_increments { SnapshotKind::Incremental } else { SnapshotKind::Full }
}
