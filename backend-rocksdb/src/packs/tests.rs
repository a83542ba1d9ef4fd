//! Any history of a database: files come, compactions replace some, uploads fail half-way.

use std::collections::BTreeSet;

use proptest::prelude::*;
use strandline_state_api::CheckpointId;
use strandline_state_api::snapshot::{SegmentName, SegmentRef};

use super::*;
use crate::uploads::Location;

const AIM: u64 = 1 << 20;

/// What happens before one snapshot.
#[derive(Clone, Debug)]
struct Interval {
    /// The lengths of the new files.
    new: Vec<u64>,
    /// The share of the older files that a compaction replaces by one, in percent.
    compacted: u8,
    /// The number of packs that are stored before the store fails.
    stored: usize,
}

fn interval() -> impl Strategy<Value = Interval> {
    let len = prop_oneof![6 => 100u64..2_000, 2 => 2_000u64..AIM / 4, 1 => AIM / 4..AIM * 2];
    let compacted = prop_oneof![8 => Just(0u8), 2 => 1u8..100, 1 => Just(100)];
    let stored = prop_oneof![6 => Just(usize::MAX), 1 => 0usize..3];
    (proptest::collection::vec(len, 0..4), compacted, stored).prop_map(|(new, compacted, stored)| Interval {
        new,
        compacted,
        stored,
    })
}

fn located(pack: &SegmentRef, offset: u64, file: &CutFile) -> Location {
    Location { pack: pack.clone(), offset, len: file.len, hash: 0, stored_for: CheckpointId(0) }
}

#[derive(Default)]
struct History {
    files: Vec<CutFile>,
    known: Known,
    numbers: u64,
    written: u64,
}

impl History {
    fn add(&mut self, len: u64) {
        self.numbers += 1;
        let name = format!("{:06}.sst", self.numbers);
        self.files.push(CutFile { path: PathBuf::from(&name), name, len });
    }

    fn compact(&mut self, percent: u8) {
        let replaced = self.files.len() * usize::from(percent) / 100;
        if replaced > 1 {
            let len = self.files.drain(..replaced).map(|file| file.len).sum::<u64>() * 9 / 10;
            self.add(len.max(1));
        }
    }

    /// Stores what the plan asks for; returns whether all of it was stored.
    fn store(&mut self, packs: usize) -> bool {
        let plan = plan(&self.files, &self.known, AIM);
        let complete = plan.len() <= packs;
        for files in plan.into_iter().take(packs) {
            self.numbers += 1;
            let len = files.iter().map(|file| file.len).sum();
            let pack = SegmentRef { name: SegmentName(self.numbers.to_string()), len };
            self.written += len;
            let mut offset = 0;
            for file in files {
                let location = located(&pack, offset, &file);
                offset += file.len;
                self.known.files.insert(file.name, location);
            }
        }
        complete
    }

    fn check(&mut self) -> Result<(), TestCaseError> {
        let names: BTreeSet<&String> = self.files.iter().map(|file| &file.name).collect();
        self.known.files.retain(|name, _| names.contains(name));
        prop_assert_eq!(self.known.files.len(), self.files.len(), "each file is stored");
        let mut packs: BTreeMap<&SegmentName, (u64, u64)> = BTreeMap::new();
        for Location { pack, len, .. } in self.known.files.values() {
            packs.entry(&pack.name).or_insert((pack.len, 0)).1 += len;
        }
        let alive: u64 = self.files.iter().map(|file| file.len).sum();
        let small = packs.values().filter(|(_, live)| *live < AIM / FAN as u64).count();
        prop_assert!(small <= MOST_SMALL_PACKS, "{} small packs", small);
        prop_assert!((packs.len() - small) as u64 <= alive / (AIM / FAN as u64), "{} packs", packs.len());
        prop_assert!(packs.values().map(|(len, _)| len).sum::<u64>() <= 2 * alive + packs.len() as u64);
        prop_assert!(plan(&self.files, &self.known, AIM).is_empty(), "a plan settles at once");
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_checkpoint_needs_few_packs_after_any_history(
        intervals in proptest::collection::vec(interval(), 1..120),
    ) {
        let mut history = History::default();
        for Interval { new, compacted, stored } in intervals {
            new.into_iter().for_each(|len| history.add(len));
            history.compact(compacted);
            if history.store(stored) {
                history.check()?;
            }
        }
    }
}

#[test]
fn each_byte_is_stored_a_few_times() {
    let mut history = History::default();
    let mut new = 0;
    for _ in 0..2_000 {
        history.add(2_000);
        new += 2_000;
        assert!(history.store(usize::MAX));
    }
    history.check().unwrap();
    assert!(history.written < 6 * new, "{} bytes are stored for {new}", history.written);
}

#[test]
fn what_an_older_program_left_is_put_together() {
    let mut history = History::default();
    for number in 0..500u64 {
        history.add(1_000 + number % 7);
        let file = &history.files[number as usize];
        let pack = SegmentRef { name: SegmentName(format!("old-{number}")), len: file.len };
        history.known.files.insert(file.name.clone(), located(&pack, 0, file));
    }
    assert!(history.store(usize::MAX));
    history.check().unwrap();
}
