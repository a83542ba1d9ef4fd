use proptest::prelude::*;
use strandline_state_api::{ErrorKind, Redistribution, SegmentName, SegmentRef, SnapshotPart};

use super::*;
use crate::reserved::encode_assigner;

fn entry(name: &str, redistribution: Redistribution, elements: Vec<Vec<u8>>) -> OperatorStateEntry {
    let (name, codec) = (name.to_owned(), "bytes".to_owned());
    OperatorStateEntry { name, redistribution, codec, schema_version: 1, elements }
}

/// A keyed operator with one segment, two operator lists, a broadcast state and an assigner in each subtask.
fn manifest(parallelism: u32, watermark: impl Fn(u32) -> Option<i64>) -> Manifest {
    let subtasks = (0..parallelism).map(|number| {
        let key_groups = KeyGroupRange::of_subtask(number, parallelism);
        let segment = SegmentRef { name: SegmentName(format!("s{number}")), len: 10 };
        let keyed = KeyedSnapshot {
            parts: vec![SnapshotPart::portable(segment, key_groups)],
            written_bytes: 10,
            states: Vec::new(),
        };
        let mut subtask = SubtaskSnapshot::new(number, key_groups);
        subtask.keyed = keyed;
        subtask.watermark = watermark(number);
        subtask.operator_state = vec![
            entry("split", Redistribution::Split, (0..3).map(|i| vec![number as u8, i]).collect()),
            entry("union", Redistribution::Union, vec![vec![number as u8]]),
            entry("rules", Redistribution::Broadcast, vec![vec![number as u8], vec![100]]),
            entry(ASSIGNERS, Redistribution::Union, vec![encode_assigner(0, i64::from(number) * 100)]),
        ];
        subtask
    });
    let operator =
        OperatorSnapshot { id: OperatorId::new("op").unwrap(), parallelism, subtasks: subtasks.collect() };
    Manifest { operators: vec![operator], ..Manifest::new(CheckpointId(1), 1, "job") }
}

fn restored(manifest: &Manifest, parallelism: u32) -> OperatorRestore {
    let id = OperatorId::new("op").unwrap();
    let plan = Shares::new(manifest, std::iter::once(&id), parallelism, &BTreeMap::new()).unwrap();
    plan.operator(&id).unwrap().clone()
}

proptest! {
    #[test]
    fn nothing_is_lost_and_nothing_given_twice(from in 1..9_u32, to in 1..9_u32) {
        let restore = restored(&manifest(from, |_| None), to);
        prop_assert_eq!(restore.subtasks.len() as u32, to);
        let mut groups = 0;
        let mut split = Vec::new();
        let mut copies = (0..from as u8).cycle();
        for subtask in &restore.subtasks {
            let parts = subtask.keyed.iter().flat_map(|snapshot| &snapshot.parts);
            groups += parts.map(|part| part.key_groups.len()).sum::<u32>();
            let of = |name: &str| {
                let found = subtask.operator_state.iter().filter(move |entry| entry.name == name);
                found.flat_map(|entry| entry.elements.clone()).collect::<Vec<_>>()
            };
            split.extend(of("split"));
            prop_assert_eq!(of("union").len() as u32, from, "everyone gets all");
            prop_assert_eq!(of("rules"), [vec![copies.next().unwrap()], vec![100]], "everyone gets one copy");
        }
        prop_assert_eq!(groups, strandline_state_api::KeyGroup::COUNT);
        let all: Vec<_> = (0..from).flat_map(|s| (0..3).map(move |i| vec![s as u8, i])).collect();
        prop_assert_eq!(split, all);
    }

    #[test]
    fn time_goes_on_with_the_slowest_whose_keys_are_taken_over(from in 1..9_u32, to in 1..9_u32) {
        let restore = restored(&manifest(from, |number| Some(i64::from(number) * 100)), to);
        for (number, subtask) in (0..).zip(&restore.subtasks) {
            let range = KeyGroupRange::of_subtask(number, to);
            let slowest = (0..from).find(|old| !KeyGroupRange::of_subtask(*old, from).intersect(range).is_empty());
            prop_assert_eq!(subtask.watermark, slowest.map(|old| i64::from(old) * 100));
            let assigner = if from == to { i64::from(number) * 100 } else { 0 };
            prop_assert_eq!(&subtask.assigners, &[assigner]);
        }
    }
}

#[test]
fn many_small_split_lists_do_not_all_land_on_the_first_subtask() {
    let mut manifest = manifest(1, |_| None);
    manifest.operators[0].subtasks[0].operator_state =
        (0..7).map(|i| entry(&format!("list-{i}"), Redistribution::Split, vec![vec![i]])).collect();
    let restore = restored(&manifest, 3);
    let elements = |subtask: &SubtaskRestore| subtask.operator_state.iter().map(|e| e.elements.len()).sum();
    let counts: Vec<usize> = restore.subtasks.iter().map(elements).collect();
    assert_eq!(counts, [3, 2, 2]);
}

#[test]
fn a_subtask_without_a_copy_reads_that_of_another() {
    let mut manifest = manifest(3, |_| None);
    manifest.operators[0].subtasks[1].operator_state.clear();
    for subtask in &restored(&manifest, 3).subtasks {
        let rules = subtask.operator_state.iter().find(|entry| entry.name == "rules").unwrap();
        assert_eq!(rules.elements.len(), 2, "{rules:?}");
    }
}

#[test]
fn one_without_a_watermark_holds_back_those_that_take_its_keys() {
    let restore = restored(&manifest(2, |number| (number == 1).then_some(7)), 1);
    assert_eq!(restore.subtasks[0].watermark, None);
}

#[test]
fn an_end_is_an_end_only_when_all_had_ended() {
    let mut manifest = manifest(2, |_| Some(i64::MAX));
    for subtask in &mut manifest.operators[0].subtasks {
        subtask.finished = true;
    }
    assert!(restored(&manifest, 3).subtasks.iter().all(|subtask| subtask.finished));
    manifest.operators[0].subtasks[1].finished = false;
    let finished: Vec<_> = restored(&manifest, 2).subtasks.iter().map(|subtask| subtask.finished).collect();
    assert_eq!(finished, [true, false]);
    assert!(!restored(&manifest, 1).subtasks[0].finished);
}

#[test]
fn a_job_is_finished_only_when_it_has_no_new_operator() {
    let mut manifest = manifest(1, |_| None);
    manifest.operators[0].subtasks[0].finished = true;
    let (op, new) = (OperatorId::new("op").unwrap(), OperatorId::new("new").unwrap());
    assert!(Shares::new(&manifest, [&op].into_iter(), 1, &BTreeMap::new()).unwrap().is_finished);
    assert!(!Shares::new(&manifest, [&op, &new].into_iter(), 1, &BTreeMap::new()).unwrap().is_finished);
}

#[test]
fn manifests_that_contradict_themselves_are_refused_with_names() {
    let mut overlapping = manifest(2, |_| None);
    overlapping.operators[0].subtasks[1].key_groups = KeyGroupRange::ALL;
    let id = OperatorId::new("op").unwrap();
    let error = Shares::new(&overlapping, std::iter::once(&id), 1, &BTreeMap::new()).unwrap_err();
    assert_eq!((error.kind(), error.context("operator")), (ErrorKind::Corrupt, Some("op")));

    let mut torn = manifest(2, |_| None);
    torn.operators[0].subtasks[1].operator_state[2].redistribution = Redistribution::Union;
    let error = Shares::new(&torn, std::iter::once(&id), 1, &BTreeMap::new()).unwrap_err();
    assert_eq!((error.kind(), error.context("operator state")), (ErrorKind::Corrupt, Some("rules")));

    let mut garbled = manifest(1, |_| None);
    garbled.operators[0].subtasks[0].operator_state[3].elements[0].truncate(5);
    let error = Shares::new(&garbled, std::iter::once(&id), 1, &BTreeMap::new()).unwrap_err();
    assert_eq!((error.kind(), error.context("checkpoint")), (ErrorKind::Corrupt, Some("1")));
}
