use proptest::prelude::*;

use super::*;
use crate::ErrorKind;
use crate::snapshot::{SegmentName, SegmentRef, SnapshotPart};

fn part(name: &str, key_groups: KeyGroupRange) -> SnapshotPart {
    SnapshotPart::portable(SegmentRef { name: SegmentName(name.to_string()), len: 1 }, key_groups)
}

/// Returns the state of `parallelism` subtasks, each with a base and `deltas` deltas.
fn snapshots(parallelism: u32, deltas: usize) -> Vec<(KeyGroupRange, KeyedSnapshot)> {
    let of = |subtask| {
        let range = KeyGroupRange::of_subtask(subtask, parallelism);
        let parts = (0..=deltas).map(|delta| part(&format!("{subtask}-{delta}"), range)).collect();
        (range, KeyedSnapshot { parts, written_bytes: 9, states: Vec::new() })
    };
    (0..parallelism).map(of).collect()
}

/// Returns the names of the parts that cover `group`, in order.
fn parts_of(snapshots: &[KeyedSnapshot], group: KeyGroup) -> Vec<String> {
    let parts = snapshots.iter().flat_map(|snapshot| &snapshot.parts);
    parts.filter(|part| part.key_groups.contains(group)).map(|part| part.segment.name.0.clone()).collect()
}

#[test]
fn an_unchanged_parallelism_returns_the_same_snapshots() {
    let old = snapshots(3, 1);
    for (assigned, (range, snapshot)) in assign_keyed(&old, 3).unwrap().iter().zip(&old) {
        assert_eq!((assigned.range, &assigned.snapshots[0].parts), (*range, &snapshot.parts));
        assert_eq!(assigned.snapshots.len(), 1);
    }
}

#[test]
fn more_subtasks_than_key_groups_leave_some_idle() {
    let new = assign_keyed(&snapshots(2, 0), 40_000).unwrap();
    let busy: Vec<_> = new.iter().filter(|assigned| !assigned.range.is_empty()).collect();
    assert_eq!((new.len(), busy.len()), (40_000, 32_768));
    assert!(busy.iter().all(|assigned| assigned.snapshots.len() == 1 && assigned.range.len() == 1));
    assert!(new.iter().filter(|assigned| assigned.range.is_empty()).all(|idle| idle.snapshots.is_empty()));
}

#[test]
fn a_new_operator_starts_empty_and_a_bad_cover_is_refused() {
    let fresh = assign_keyed(&[], 2).unwrap();
    assert!(fresh.iter().all(|assigned| assigned.snapshots.is_empty()) && fresh.len() == 2);
    assert_eq!(assign_keyed(&[], 0).unwrap_err().kind(), ErrorKind::Invalid);

    let refused = |old: &[_], words: &str| {
        let error = assign_keyed(old, 2).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.message().contains(words), "{error}");
    };
    let mut old = snapshots(4, 0);
    old.remove(1);
    refused(&old, "no subtask owns the key groups [8192, 16384)");
    refused(&old[..2], "no subtask owns the key groups [8192, 16384)");
    refused(&snapshots(4, 0)[..3], "no subtask owns the key groups [24576, 32768)");
    let mut old = snapshots(2, 0);
    old[1].0 = KeyGroupRange::new(16_000, 32_768);
    refused(&old, "two subtasks own the key groups [16000, 16384)");
    // An overlap or a gap of one key group is enough.
    old[1].0 = KeyGroupRange::new(16_383, 32_768);
    refused(&old, "two subtasks own the key groups [16383, 16384)");
    old[1].0 = KeyGroupRange::new(16_385, 32_768);
    refused(&old, "no subtask owns the key groups [16384, 16385)");
}

#[test]
fn lists_are_cut_evenly_and_kept_when_nothing_changes() {
    let old = vec![vec![1, 2, 3, 4], vec![], vec![5, 6, 7]];
    let split = |parallelism| ListSplit::new(parallelism).unwrap().split(old.clone());
    assert_eq!(split(3), old);
    assert_eq!(split(2), [vec![1, 2, 3, 4], vec![5, 6, 7]]);
    assert_eq!(split(4), [vec![1, 2], vec![3, 4], vec![5, 6], vec![7]]);
    assert_eq!(union_list(old.clone()), [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(ListSplit::new(0).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!([0, 1, 2, 5].map(|subtask| broadcast_source(subtask, 3)), [0, 1, 2, 2].map(Some));
    assert_eq!(broadcast_source(0, 0), None);
}

#[test]
fn lists_with_one_element_each_go_to_all_in_turn() {
    let mut split = ListSplit::new(3).unwrap();
    let owner = |element: char, split: &mut ListSplit| {
        let new = split.split(vec![vec![element], vec![]]);
        new.iter().position(|list| !list.is_empty()).unwrap()
    };
    assert_eq!(['a', 'b', 'c', 'd', 'e'].map(|element| owner(element, &mut split)), [0, 1, 2, 0, 1]);
    // Longer runs may wrap around; the elements stay in order.
    assert_eq!(split.split(vec![(0..8).collect::<Vec<_>>()]), [vec![0, 1, 2], vec![3, 4], vec![5, 6, 7]]);
    assert_eq!(owner('f', &mut split), 1, "behind the last longer run");
}

fn entry(name: &str, redistribution: Redistribution, elements: &[&[u8]]) -> OperatorStateEntry {
    let elements = elements.iter().map(|element| element.to_vec()).collect();
    OperatorStateEntry {
        name: name.into(),
        redistribution,
        codec: "bytes".into(),
        schema_version: 1,
        elements,
    }
}

#[test]
fn operator_state_is_split_or_joined_by_name() {
    let old = [
        vec![
            entry("files", Redistribution::Split, &[b"a", b"b", b"c"]),
            entry("rules", Redistribution::Union, &[b"x"]),
        ],
        // A subtask need not have every state, nor the same order of states.
        vec![
            entry("rules", Redistribution::Union, &[b"y"]),
            entry("late", Redistribution::Split, &[b"z"]),
            entry("files", Redistribution::Split, &[]),
        ],
    ];
    let new = assign_operator_state(&old, 3).unwrap();
    let rules = entry("rules", Redistribution::Union, &[b"x", b"y"]);
    let files = |elements| entry("files", Redistribution::Split, elements);
    let late = |elements| entry("late", Redistribution::Split, elements);
    assert_eq!(new[0], [files(&[b"a"]), late(&[b"z"]), rules.clone()]);
    assert_eq!(new[1], [files(&[b"b"]), late(&[]), rules.clone()]);
    assert_eq!(new[2], [files(&[b"c"]), late(&[]), rules]);
    // With as many subtasks as before, each keeps its own elements.
    let same = assign_operator_state(&old, 2).unwrap();
    assert_eq!(same[0][0], files(&[b"a", b"b", b"c"]));
    assert_eq!(same[1][0], files(&[]));

    assert_eq!(assign_operator_state(&[], 2).unwrap(), [vec![], vec![]]);
    assert_eq!(assign_operator_state(&old, 0).unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn subtasks_that_disagree_about_an_operator_state_are_refused() {
    let good = entry("files", Redistribution::Split, &[b"a"]);
    let another_rule = OperatorStateEntry { redistribution: Redistribution::Union, ..good.clone() };
    let another_codec = OperatorStateEntry { codec: "text".into(), ..good.clone() };
    for bad in [another_rule, another_codec] {
        let error = assign_operator_state(&[vec![good.clone()], vec![bad]], 2).unwrap_err();
        assert_eq!((error.kind(), error.context("operator state")), (ErrorKind::Corrupt, Some("files")));
    }
}

proptest! {
    /// Each key group has one new owner, which gets exactly the parts that covered the group before, in the
    /// same order, even if the old snapshots come from a rescale themselves.
    #[test]
    fn no_key_group_is_lost_doubled_or_reordered(
        steps in proptest::collection::vec(prop_oneof![1u32..9, 100u32..140], 1..4),
        deltas in 0usize..3,
        probes in proptest::collection::vec(0..KeyGroup::COUNT as u16, 20),
        rotate in 0usize..8,
    ) {
        let mut old = snapshots(3, deltas);
        for parallelism in steps {
            let shift = rotate % old.len();
            old.rotate_left(shift);
            let new = assign_keyed(&old, parallelism).unwrap();
            prop_assert_eq!(new.len(), parallelism as usize);
            let owned: u32 = new.iter().map(|assigned| assigned.range.len()).sum();
            prop_assert_eq!(owned, KeyGroup::COUNT);
            for probe in probes.iter().copied().chain([0, KeyGroup::COUNT as u16 - 1]) {
                let group = KeyGroup::new(probe).unwrap();
                let owner = |range: KeyGroupRange| range.contains(group);
                let before = &old.iter().find(|(range, _)| owner(*range)).unwrap().1;
                for assigned in &new {
                    let after = parts_of(&assigned.snapshots, group);
                    let expected = if owner(assigned.range) {
                        parts_of(std::slice::from_ref(before), group)
                    } else {
                        Vec::new()
                    };
                    prop_assert_eq!(after, expected);
                }
            }
            old = new
                .into_iter()
                .map(|KeyedAssignment { range, snapshots }| {
                    let parts = snapshots.into_iter().flat_map(|snapshot| snapshot.parts).collect();
                    (range, KeyedSnapshot { parts, ..KeyedSnapshot::default() })
                })
                .collect();
        }
    }

    /// Even over many lists, each subtask gets at most one element more than any other.
    #[test]
    fn no_list_element_is_lost_doubled_or_reordered(
        lists in proptest::collection::vec(
            proptest::collection::vec(proptest::collection::vec(any::<u32>(), 0..9), 0..9),
            0..12,
        ),
        parallelism in 1u32..12,
    ) {
        let mut split = ListSplit::new(parallelism).unwrap();
        let mut sums = vec![0; parallelism as usize];
        for old in lists {
            let new = split.split(old.clone());
            let joined: Vec<_> = old.iter().flatten().copied().collect();
            prop_assert_eq!(new.iter().flatten().copied().collect::<Vec<_>>(), &joined[..]);
            prop_assert_eq!(union_list(old.clone()), joined);
            if new.len() == old.len() {
                prop_assert_eq!(new, old);
                continue;
            }
            prop_assert_eq!(new.len(), parallelism as usize);
            let within_one = |lengths: &[usize]| {
                let bounds = lengths.iter().max().zip(lengths.iter().min());
                bounds.is_some_and(|(a, b)| a - b <= 1)
            };
            prop_assert!(within_one(&new.iter().map(Vec::len).collect::<Vec<_>>()));
            sums.iter_mut().zip(&new).for_each(|(sum, list)| *sum += list.len());
            prop_assert!(within_one(&sums), "{:?}", sums);
        }
    }

    #[test]
    fn broadcast_copies_are_read_round_robin(old in 1u32..40, new in 1u32..40) {
        let mut readers = vec![0; old as usize];
        for subtask in 0..new {
            let source = broadcast_source(subtask, old).unwrap();
            prop_assert!(source < old);
            prop_assert!(subtask >= old || source == subtask, "a subtask that has a copy reads its own");
            readers[source as usize] += 1;
        }
        prop_assert!(readers.iter().max().unwrap() - readers.iter().min().unwrap() <= 1);
    }
}
