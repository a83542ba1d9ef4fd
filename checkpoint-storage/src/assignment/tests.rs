use proptest::prelude::*;
use strandline_state_api::host::Redistribution;
use strandline_state_api::snapshot::{SegmentName, SegmentRef, SnapshotPart};
use strandline_state_api::{ErrorKind, KeyGroup};

use super::*;
use crate::InFlightRecords;

fn entry(name: &str, redistribution: Redistribution, elements: Vec<Vec<u8>>) -> OperatorStateEntry {
    let (name, codec) = (name.to_owned(), "bytes".to_owned());
    OperatorStateEntry { name, redistribution, codec, schema_version: 1, elements }
}

fn time(millis: i64) -> Option<Timestamp> {
    Some(Timestamp::from_millis(millis))
}

/// A keyed operator; each subtask has one segment, two operator lists, a broadcast state, a position, two
/// committables and an assigner.
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
        subtask.watermark = watermark(number).and_then(time);
        subtask.operator_state = vec![
            entry("split", Redistribution::Split, (0..3).map(|i| vec![number as u8, i]).collect()),
            entry("union", Redistribution::Union, vec![vec![number as u8]]),
            entry("rules", Redistribution::Broadcast, vec![vec![number as u8], vec![100]]),
        ];
        subtask.positions = vec![vec![number as u8]];
        subtask.committables = vec![vec![number as u8, 0], vec![number as u8, 1]];
        subtask.assigners = vec![time(i64::from(number) * 100)];
        subtask
    });
    let operator = OperatorSnapshot {
        id: OperatorId::new("op").unwrap(),
        parallelism,
        subtasks: subtasks.collect(),
        types: Default::default(),
    };
    Manifest { operators: vec![operator], ..Manifest::new(CheckpointId(1), 1, "job") }
}

fn assigned(manifest: &Manifest, parallelism: u32) -> OperatorAssignment {
    manifest.assign(parallelism).unwrap().operators[&OperatorId::new("op").unwrap()].clone()
}

proptest! {
    #[test]
    fn every_element_and_key_group_is_assigned_once(from in 1..9_u32, to in 1..9_u32) {
        let operator = assigned(&manifest(from, |_| None), to);
        prop_assert_eq!(operator.subtasks.len() as u32, to);
        let mut groups = 0;
        let mut split = Vec::new();
        let mut copies = (0..from as u8).cycle();
        for subtask in &operator.subtasks {
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
        prop_assert_eq!(groups, KeyGroup::COUNT);
        let all: Vec<_> = (0..from).flat_map(|s| (0..3).map(move |i| vec![s as u8, i])).collect();
        prop_assert_eq!(split, all);
        let subtasks = || (0..from as u8).map(|number| vec![number]);
        prop_assert_eq!(&operator.positions, &subtasks().collect::<Vec<_>>());
        let committables: Vec<_> = (0..from as u8).flat_map(|s| [vec![s, 0], vec![s, 1]]).collect();
        prop_assert_eq!(&operator.committables, &committables);
    }

    #[test]
    fn time_continues_with_the_slowest_subtask_whose_keys_are_taken_over(from in 1..9_u32, to in 1..9_u32) {
        let operator = assigned(&manifest(from, |number| Some(i64::from(number) * 100)), to);
        for (number, subtask) in (0..).zip(&operator.subtasks) {
            let range = KeyGroupRange::of_subtask(number, to);
            let slowest = (0..from).find(|old| !KeyGroupRange::of_subtask(*old, from).intersect(range).is_empty());
            prop_assert_eq!(subtask.watermark, slowest.and_then(|old| time(i64::from(old) * 100)));
            let assigner = time(if from == to { i64::from(number) * 100 } else { 0 });
            prop_assert_eq!(&subtask.assigners, &[assigner]);
        }
    }
}

#[test]
fn many_small_split_lists_do_not_all_land_on_the_first_subtask() {
    let mut manifest = manifest(1, |_| None);
    manifest.operators[0].subtasks[0].operator_state =
        (0..7).map(|i| entry(&format!("list-{i}"), Redistribution::Split, vec![vec![i]])).collect();
    let operator = assigned(&manifest, 3);
    let elements =
        |subtask: &SubtaskAssignment| subtask.operator_state.iter().map(|e| e.elements.len()).sum();
    let counts: Vec<usize> = operator.subtasks.iter().map(elements).collect();
    assert_eq!(counts, [3, 2, 2]);
}

#[test]
fn a_subtask_without_a_copy_reads_that_of_another() {
    let mut manifest = manifest(3, |_| None);
    manifest.operators[0].subtasks[1].operator_state.clear();
    for subtask in &assigned(&manifest, 3).subtasks {
        let rules = subtask.operator_state.iter().find(|entry| entry.name == "rules").unwrap();
        assert_eq!(rules.elements.len(), 2, "{rules:?}");
    }
}

#[test]
fn one_without_a_watermark_holds_back_those_that_take_its_keys() {
    let operator = assigned(&manifest(2, |number| (number == 1).then_some(7)), 1);
    assert_eq!(operator.subtasks[0].watermark, None);
}

#[test]
fn an_end_is_an_end_only_when_all_had_ended() {
    let mut manifest = manifest(2, |_| Some(i64::MAX));
    for subtask in &mut manifest.operators[0].subtasks {
        subtask.finished = true;
    }
    assert!(assigned(&manifest, 3).subtasks.iter().all(|subtask| subtask.finished));
    manifest.operators[0].subtasks[1].finished = false;
    let finished: Vec<_> = assigned(&manifest, 2).subtasks.iter().map(|subtask| subtask.finished).collect();
    assert_eq!(finished, [true, false]);
    assert!(!assigned(&manifest, 1).subtasks[0].finished);
}

#[test]
fn a_job_is_finished_when_every_subtask_of_every_operator_is() {
    let mut manifest = manifest(2, |_| None);
    assert!(!manifest.assign(1).unwrap().is_finished);
    manifest.operators[0].subtasks[0].finished = true;
    assert!(!manifest.assign(1).unwrap().is_finished);
    manifest.operators[0].subtasks[1].finished = true;
    assert!(manifest.assign(3).unwrap().is_finished);
}

#[test]
fn an_assigner_that_saw_nothing_holds_back_the_others_after_a_rescale() {
    let mut manifest = manifest(2, |_| None);
    manifest.operators[0].subtasks[0].assigners = vec![None, time(5)];
    let assigners = |parallelism| {
        let subtasks = assigned(&manifest, parallelism).subtasks;
        subtasks.into_iter().map(|subtask| subtask.assigners).collect::<Vec<_>>()
    };
    assert_eq!(assigners(2), [[None, time(5)], [time(100), None]]);
    assert_eq!(assigners(1), [[None, None]]);
}

#[test]
fn stored_operators_list_each_state_once_and_whether_anything_is_stored() {
    use strandline_state_api::schema::StateKind;
    let mut manifest = manifest(2, |_| None);
    for subtask in &mut manifest.operators[0].subtasks {
        subtask.keyed.states = vec![StateMeta::new("counts", StateKind::Value)];
    }
    let mut source = SubtaskSnapshot::new(0, KeyGroupRange::EMPTY);
    for (name, has_state) in [("map", false), ("source", true)] {
        let id = OperatorId::new(name).unwrap();
        let subtasks = vec![source.clone()];
        manifest.operators.push(OperatorSnapshot { id, parallelism: 1, subtasks, types: Default::default() });
        source.positions.push(vec![7]);
        assert_eq!(manifest.stored_operators().last().unwrap().has_state, has_state, "{name}");
    }
    let stored = manifest.stored_operators();
    assert_eq!(stored[0].states.iter().map(|meta| &*meta.name).collect::<Vec<_>>(), ["counts"]);
    assert!(stored[0].has_state);
}

#[test]
fn manifests_that_contradict_themselves_are_refused_with_names() {
    let mut overlapping = manifest(2, |_| None);
    overlapping.operators[0].subtasks[1].key_groups = KeyGroupRange::ALL;
    let error = overlapping.assign(1).unwrap_err();
    assert_eq!((error.kind(), error.context("operator")), (ErrorKind::Corrupt, Some("op")));

    let mut torn = manifest(2, |_| None);
    torn.operators[0].subtasks[1].operator_state[2].redistribution = Redistribution::Union;
    let error = torn.assign(1).unwrap_err();
    assert_eq!((error.kind(), error.context("operator state")), (ErrorKind::Corrupt, Some("rules")));
}

/// Without keys, what an old subtask had in flight goes to one new subtask; and a watermark at the end of time
/// means nothing once there is more to read.
#[test]
fn records_in_flight_without_keys_stay_together() {
    let batch = |byte: u8| {
        let mut records = InFlightRecords::new("bytes");
        let value = |out: &mut Vec<u8>| {
            out.push(byte);
            Ok(())
        };
        records.push(None, None, |_| Ok(()), value).unwrap();
        InFlight::new(0, InFlightContent::Records(records))
    };
    let mut manifest = manifest(3, |_| None);
    for subtask in &mut manifest.operators[0].subtasks {
        subtask.key_groups = KeyGroupRange::EMPTY;
        subtask.keyed = KeyedSnapshot::default();
        let end = InFlight::new(0, InFlightContent::Watermark(Timestamp::MAX));
        subtask.in_flight = vec![end.encode(), batch(subtask.subtask as u8).encode()];
    }
    let taken = |assigned: &SubtaskAssignment| -> Vec<InFlight> {
        let records = assigned.in_flight.iter().cloned();
        let records = records.map(|in_flight| InFlight { channel: 0, ..in_flight });
        records.filter(|in_flight| matches!(in_flight.content, InFlightContent::Records(_))).collect()
    };
    let operator = assigned(&manifest, 2);
    assert_eq!(taken(&operator.subtasks[0]), [batch(0), batch(2)]);
    assert_eq!(taken(&operator.subtasks[1]), [batch(1)]);
    let mut assignment = manifest.assign(2).unwrap();
    let id = OperatorId::new("op").unwrap();
    assignment.reopen(&id);
    let reopened = &assignment.subtask(&id, 0).unwrap().in_flight;
    assert_eq!(reopened[0].content, InFlightContent::Opened);
}
