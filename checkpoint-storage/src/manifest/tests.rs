use strandline_state_api::backend::Scope;
use strandline_state_api::host::Redistribution;
use strandline_state_api::snapshot::{SegmentName, SegmentRef};

use super::stored::ElementList;
use super::*;

fn entry(name: &str, redistribution: Redistribution, codec: &str, elements: &[&[u8]]) -> OperatorStateEntry {
    OperatorStateEntry {
        name: name.into(),
        redistribution,
        codec: codec.into(),
        schema_version: 1,
        elements: elements.iter().map(|element| element.to_vec()).collect(),
    }
}

fn assigner(place: u32, greatest: i64) -> Vec<u8> {
    [&place.to_le_bytes()[..], &greatest.to_le_bytes()].concat()
}

/// A manifest of one subtask with these entries.
fn manifest(entries: Vec<OperatorStateEntry>) -> Manifest {
    let mut subtask = SubtaskSnapshot::new(0, KeyGroupRange::EMPTY);
    subtask.operator_state = entries;
    let id = OperatorId::new("op").unwrap();
    let operators =
        vec![OperatorSnapshot { id, parallelism: 1, subtasks: vec![subtask], types: Default::default() }];
    Manifest { operators, ..Manifest::new(CheckpointId(1), 1, "job") }
}

/// Writes the manifest as version 1 did, and reads it.
fn read_version_1(manifest: Manifest) -> strandline_state_api::Result<Manifest> {
    let file = StoredManifest::new(manifest).encode_as(1).unwrap();
    StoredManifest::decode(&file, "m")?.into_manifest()
}

#[test]
fn what_the_executor_kept_in_operator_state_moves_to_its_fields() {
    let (first, third) = (assigner(0, 5), assigner(2, i64::MIN));
    let own = |name, elements: &[&[u8]]| entry(name, Redistribution::Union, "bytes", elements);
    let users = entry("rules", Redistribution::Broadcast, "bytes", &[b"r"]);
    let read = read_version_1(manifest(vec![
        own("positions", &[b"a", b""]),
        users.clone(),
        own("pending", &[b"b"]),
        own("strandline.timestamps", &[&third, &first]),
    ]))
    .unwrap();
    let subtask = &read.operators[0].subtasks[0];
    assert_eq!(subtask.positions, [b"a".to_vec(), vec![]]);
    assert_eq!(subtask.committables, [b"b"]);
    assert_eq!(subtask.assigners, [Some(Timestamp::from_millis(5)), None, None]);
    assert_eq!(subtask.operator_state, [users]);
}

#[test]
fn a_users_list_of_a_name_of_the_executor_stays_what_it_is() {
    let lists = vec![
        entry("positions", Redistribution::Union, "serde/u64", &[b"1"]),
        entry("pending", Redistribution::Split, "bytes", &[b"2"]),
    ];
    let old = manifest(lists);
    assert_eq!(read_version_1(old.clone()).unwrap(), old);
    let own = manifest(vec![entry("positions", Redistribution::Union, "bytes", &[b"1"])]);
    let file = StoredManifest::new(own.clone()).encode().unwrap();
    assert_eq!(StoredManifest::decode(&file, "m").unwrap().into_manifest().unwrap(), own);
}

/// A program that knows no records in flight would drop them, so it must refuse them; and nothing else.
#[test]
fn records_in_flight_make_a_newer_version() {
    let version = |stored: &StoredManifest| {
        let file = stored.encode().unwrap();
        let read = StoredManifest::decode(&file, "m").unwrap();
        assert_eq!((&read.manifest, &read.external), (&stored.manifest, &stored.external));
        file[8]
    };
    let mut stored = StoredManifest::new(manifest(Vec::new()));
    assert_eq!(version(&stored), 2);
    stored.manifest.operators[0].subtasks[0].in_flight = vec![vec![0; 5]];
    assert_eq!(version(&stored), 3);
    stored.manifest.operators[0].subtasks[0].in_flight.clear();
    let file = SegmentRef { name: SegmentName("f".into()), len: 1 };
    stored.external = vec![External { operator: 0, subtask: 0, list: ElementList::InFlight, file }];
    assert_eq!(version(&stored), 3);
}

#[test]
fn an_assigner_that_cannot_be_read_is_corrupt() {
    let short = assigner(0, 5)[..5].to_vec();
    let error = read_version_1(manifest(vec![entry(
        "strandline.timestamps",
        Redistribution::Union,
        "bytes",
        &[&short],
    )]))
    .unwrap_err();
    let kind = strandline_state_api::ErrorKind::Corrupt;
    assert_eq!((error.kind(), error.context("operator")), (kind, Some("op")));
}

#[test]
fn statistics_of_version_1_have_their_scope_in_the_name() {
    let mut new = manifest(Vec::new());
    let statistic = |name: &str, scope| StoredStatistic { name: name.into(), value: 7, scope };
    new.operators[0].subtasks[0].statistics =
        vec![statistic("reads", Scope::Backend), statistic("cache_bytes", Scope::Process)];
    let json = serde_json::to_string(&new).unwrap();
    assert_eq!(serde_json::from_str::<Manifest>(&json).unwrap(), new);
    let at = json.find("\"statistics\":[").unwrap();
    let end = at + json[at..].find(']').unwrap() + 1;
    let old =
        format!("{}\"statistics\":{{\"reads\":7,\"shared_cache_bytes\":7}}{}", &json[..at], &json[end..]);
    assert_eq!(serde_json::from_str::<Manifest>(&old).unwrap(), new);
}

#[test]
fn a_list_in_a_file_is_named_by_its_field_or_its_index() {
    let file = SegmentRef { name: SegmentName("f".into()), len: 1 };
    for (list, json) in [
        (ElementList::OperatorState(3), "\"entry\":3"),
        (ElementList::Positions, "\"entry\":\"positions\""),
        (ElementList::Committables, "\"entry\":\"committables\""),
        (ElementList::InFlight, "\"entry\":\"in_flight\""),
    ] {
        let external = External { operator: 1, subtask: 2, list, file: file.clone() };
        let written = serde_json::to_string(&external).unwrap();
        assert!(written.contains(json), "{written}");
        assert_eq!(serde_json::from_str::<External>(&written).unwrap(), external);
    }
}
