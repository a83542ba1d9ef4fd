//! The portable format: what one backend wrote, another restores.

use std::sync::Arc;

use strandline_state_api::{BackendFactory, KeyGroupRange, SnapshotKind};

use crate::Subject;
use crate::world::{Contents, World, check_restored};

/// Snapshots of `from`, full and (where they are portable) incremental, restore into `to`, whole and in parts; its snapshots
/// restore into `from` again.
///
/// Not among [`backend_cases`](crate::backend_cases), as it takes two backends: call it for the pairs that you have.
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

/// The smallest snapshot of a backend that every other one reads.
fn portable<F: BackendFactory>(subject: &Subject<F>) -> SnapshotKind {
    if subject.capabilities().portable_increments { SnapshotKind::Incremental } else { SnapshotKind::Full }
}
