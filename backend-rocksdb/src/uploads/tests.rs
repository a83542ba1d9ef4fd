//! Commits that are under way at once, end in any order, fail, or put packs together, while sweeps delete
//! whatever the newest complete checkpoint does not need.

use std::collections::BTreeSet;
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::packs::{CutFile, MOST_SMALL_PACKS, plan};

/// The size of a pack; the files of the test are far smaller, so that each pack is a small one.
const AIM: u64 = 1 << 20;

#[derive(Clone, Debug)]
enum Step {
    /// The database writes a file, compacts this share of the others (in percent), and a commit begins.
    Begin { compacted: usize, is_full: bool },
    /// The commit of this index stores so many of the packs that it lacks.
    Store { commit: usize, packs: usize },
    /// It ends, if it has stored all.
    Publish { commit: usize },
    /// It stores what it lacks and ends, and nothing happens meanwhile.
    Finish { commit: usize },
    /// It finds that it has no entries, and ends with nothing stored if it may.
    PublishNothing { commit: usize },
    /// It fails.
    Fail { commit: usize },
    /// The checkpoint of this index among those whose snapshot was stored completes.
    Complete { snapshot: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let compacted = prop_oneof![4 => Just(0usize), 1 => 10usize..100];
    prop_oneof![
        8 => (compacted, prop::bool::weighted(0.05))
            .prop_map(|(compacted, is_full)| Step::Begin { compacted, is_full }),
        8 => (0usize..4, prop_oneof![3 => Just(usize::MAX), 1 => 0usize..3])
            .prop_map(|(commit, packs)| Step::Store { commit, packs }),
        4 => (0usize..4).prop_map(|commit| Step::Publish { commit }),
        8 => (0usize..3).prop_map(|commit| Step::Finish { commit }),
        1 => (0usize..4).prop_map(|commit| Step::PublishNothing { commit }),
        1 => (0usize..4).prop_map(|commit| Step::Fail { commit }),
        3 => (0usize..6).prop_map(|snapshot| Step::Complete { snapshot }),
    ]
}

struct Live<'a> {
    commit: Commit<'a>,
    is_full: bool,
    files: Vec<CutFile>,
    located: Option<Uploaded>,
    /// Whether no other commit was under way meanwhile.
    alone: bool,
}

#[derive(Default)]
struct World<'a> {
    files: Vec<CutFile>,
    numbers: u64,
    /// The number of the newest checkpoint.
    checkpoint: u64,
    live: Vec<Live<'a>>,
    /// The snapshots whose commit succeeded, and which may complete.
    stored: BTreeMap<CheckpointId, Uploaded>,
    /// The packs in the store, by name, with the checkpoint that each was stored for.
    store: BTreeMap<SegmentName, CheckpointId>,
}

fn packs(files: &Uploaded) -> BTreeSet<&SegmentName> {
    files.values().map(|location| &location.pack.name).collect()
}

impl<'a> World<'a> {
    fn begin(&mut self, uploads: &'a Uploads, compacted: usize, is_full: bool) {
        let replaced = self.files.len() * compacted / 100;
        self.files.drain(..replaced);
        self.numbers += 1;
        let name = format!("{:06}.sst", self.numbers);
        self.files.push(CutFile { path: PathBuf::from(&name), name, len: 100 });
        self.checkpoint += 1;
        let alone = self.live.is_empty();
        self.live.iter_mut().for_each(|live| live.alone = false);
        let commit = uploads.begin(CheckpointId(self.checkpoint), is_full);
        self.live.push(Live { commit, is_full, files: self.files.clone(), located: None, alone });
    }

    fn store(&mut self, index: usize, most: usize) {
        let Some(live) = self.live.get_mut(index) else { return };
        if live.is_full {
            live.located = Some(Uploaded::new());
            return;
        }
        let known = live.commit.known();
        let plan = plan(&live.files, &known, AIM);
        let (complete, mut located) = (plan.len() <= most, known.files);
        for files in plan.into_iter().take(most) {
            self.numbers += 1;
            let len = files.iter().map(|file| file.len).sum();
            let pack = SegmentRef { name: SegmentName(self.numbers.to_string()), len };
            let stored_for = live.commit.checkpoint();
            self.store.insert(pack.name.clone(), stored_for);
            let mut offset = 0;
            for CutFile { name, len, .. } in files {
                let location = Location { pack: pack.clone(), offset, len, hash: 0, stored_for };
                offset += len;
                live.commit.add(&name, &location);
                located.insert(name, location);
            }
        }
        let of_cut: HashSet<&String> = live.files.iter().map(|file| &file.name).collect();
        located.retain(|name, _| of_cut.contains(name));
        live.located = complete.then_some(located);
    }

    fn publish_nothing(&mut self, index: usize) {
        let Some(live) = self.live.get_mut(index) else { return };
        if live.commit.publish(&Uploaded::new()) {
            self.stored.insert(live.commit.checkpoint(), Uploaded::new());
            self.live.remove(index);
        }
    }

    /// Returns whether the commit ended.
    fn publish(&mut self, index: usize) -> Result<bool, TestCaseError> {
        let Some(live) = self.live.get_mut(index) else { return Ok(false) };
        let Some(located) = live.located.take() else { return Ok(false) };
        if !live.commit.publish(&located) {
            return Ok(false);
        }
        let live = self.live.remove(index);
        prop_assert!(live.is_full || located.len() == live.files.len(), "each file is stored");
        let newest = self.stored.keys().next_back().is_none_or(|at| *at < live.commit.checkpoint());
        if live.alone && newest {
            let count = packs(&located).len();
            prop_assert!(count <= MOST_SMALL_PACKS, "{} packs", count);
        }
        self.stored.insert(live.commit.checkpoint(), located);
        Ok(true)
    }

    /// Whatever happened before, a commit that nothing interrupts ends at once.
    fn finish(&mut self, index: usize) -> Result<(), TestCaseError> {
        let Some(is_full) = self.live.get(index).map(|live| live.is_full) else { return Ok(()) };
        self.store(index, usize::MAX);
        if !self.publish(index)? {
            prop_assert!(is_full, "a commit does not end");
            self.live.remove(index);
        }
        Ok(())
    }

    fn complete(&mut self, index: usize) -> Result<(), TestCaseError> {
        let Some(at) = self.stored.keys().nth(index).copied() else { return Ok(()) };
        // Those before it are superseded, and a commit under way of such a one stores for nothing.
        self.stored.retain(|stored, _| *stored >= at);
        self.live.retain(|live| live.commit.checkpoint() > at);
        let named = packs(&self.stored[&at]);
        self.store.retain(|name, stored_for| *stored_for > at || named.contains(name));
        for (checkpoint, files) in &self.stored {
            for name in packs(files) {
                prop_assert!(self.store.contains_key(name), "{} lost {} to {}", checkpoint, name, at);
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_sweep_takes_what_a_snapshot_names(steps in proptest::collection::vec(step(), 1..300)) {
        let uploads = Uploads::default();
        let mut world = World::default();
        for step in steps {
            match step {
                Step::Begin { compacted, is_full } => world.begin(&uploads, compacted, is_full),
                Step::Store { commit, packs } => world.store(commit, packs),
                Step::Publish { commit } => {
                    world.publish(commit)?;
                }
                Step::PublishNothing { commit } => world.publish_nothing(commit),
                Step::Fail { commit } if commit < world.live.len() => drop(world.live.remove(commit)),
                Step::Fail { .. } => {}
                Step::Finish { commit } => world.finish(commit)?,
                Step::Complete { snapshot } => world.complete(snapshot)?,
            }
        }
        while !world.live.is_empty() {
            world.finish(0)?;
        }
        world.begin(&uploads, 0, false);
        world.store(0, usize::MAX);
        prop_assert!(world.publish(0)?);
        let newest = world.stored.len() - 1;
        world.complete(newest)?;
    }
}
