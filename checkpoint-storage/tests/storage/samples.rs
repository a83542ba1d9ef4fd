//! What the golden storages hold: shared by the program that writes them and the tests that read them.

use std::path::{Path, PathBuf};

use strandline_checkpoint_storage::{
    CheckpointKind, CheckpointTrace, CommitLog, CommitLogOptions, InFlight, InFlightContent, InFlightRecords,
    Manifest, OperatorSnapshot, OperatorTypes, Storage, StoredStatistic, SubtaskSnapshot, SubtaskTrace,
};
use strandline_state_api::backend::Scope;
use strandline_state_api::host::{OperatorStateEntry, Redistribution};
use strandline_state_api::schema::{Description, Encoding, StateTypes};
use strandline_state_api::snapshot::{PartFormat, SnapshotPart};
use strandline_state_api::{CheckpointId, KeyGroup, KeyGroupRange, OperatorId, Result, Timestamp};

use crate::common::manifest_with;

/// The storages that the current versions of the formats write. Those of earlier versions stay as they are
/// and are only read; a new version of a format adds its own.
pub(crate) const SAMPLES: [&str; 5] = ["v3", "v3-native", "v3-source", "v3-types", "v3-in-flight"];

/// Where one of them is.
pub(crate) fn directory(sample: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(sample)
}

/// Writes one of them into an empty storage.
pub(crate) async fn write(sample: &str, storage: &Storage) -> Result<()> {
    let mut token = 0;
    let tokens = move || {
        token += 1;
        Ok(token)
    };
    let mut log = CommitLog::claim(storage, CommitLogOptions::new("golden"), tokens).await?.log;
    match sample {
        "v3-native" => {
            log.commit_alone(&native_manifest(storage).await).await?;
            return Ok(());
        }
        "v3-types" => {
            log.commit_alone(&types_manifest()?).await?;
            return Ok(());
        }
        "v3-source" => {
            log.commit_alone(&source_manifest()?).await?;
            return Ok(());
        }
        "v3-in-flight" => {
            log.commit_alone(&in_flight_manifest()?).await?;
            return Ok(());
        }
        _ => {}
    }
    // A savepoint, then checkpoints; one is kept, so the savepoint is carried.
    for id in 1..=3 {
        let mut manifest = manifest(storage, id).await;
        if id == 1 {
            manifest.kind = CheckpointKind::Savepoint;
        }
        log.commit_alone(&manifest).await?;
    }
    storage.sweep().await?;
    Ok(())
}

/// One of everything.
pub(crate) async fn manifest(storage: &Storage, id: u64) -> Manifest {
    let mut manifest = manifest_with(storage, 1, id, &[b"not a real segment", b"nor is this"]).await;
    manifest.created_unix_ms = 1_700_000_000_000;
    manifest.restored_from = None;
    manifest.trace = CheckpointTrace {
        duration_us: 1,
        commit_us: 2,
        bytes: 3,
        full_bytes: 4,
        objects: 5,
        retries: 6,
        trigger_unix_ms: 7,
    };
    let subtask = &mut manifest.operators[0].subtasks[0];
    subtask.watermark = Some(Timestamp::from_millis(-5));
    subtask.key_groups = KeyGroupRange::new(0, 16_384);
    subtask.trace = SubtaskTrace {
        start_delay_us: 1,
        alignment_us: 2,
        pause_us: 3,
        write_us: 4,
        bytes_written: 5,
        full_bytes: 6,
        objects: 7,
        ..SubtaskTrace::default()
    };
    let state = |name: &str, redistribution, elements| OperatorStateEntry {
        name: name.into(),
        redistribution,
        codec: "bytes".into(),
        schema_version: 1,
        elements,
    };
    subtask.operator_state = vec![
        state("positions", Redistribution::Split, vec![b"file-1:17".to_vec(), vec![]]),
        state("files", Redistribution::Union, vec![vec![7; 40_000], vec![8; 40_000]]),
    ];
    manifest
}

/// Parts in a native format beside a portable one, a subtask that finished, numbers from the backend.
pub(crate) async fn native_manifest(storage: &Storage) -> Manifest {
    let mut manifest = manifest_with(storage, 1, 1, &[b"a table", b"its index", b"portable"]).await;
    manifest.created_unix_ms = 1_700_000_000_000;
    manifest.restored_from = Some(CheckpointId(7));
    let operator = &mut manifest.operators[0];
    operator.parallelism = 2;
    let first = &mut operator.subtasks[0];
    first.key_groups = KeyGroupRange::new(0, 16_384);
    let statistic = |name: &str, value, scope| StoredStatistic { name: name.to_owned(), value, scope };
    first.statistics =
        vec![statistic("cache hits", 5, Scope::Backend), statistic("table bytes", u64::MAX, Scope::Backend)];
    let (native, portable) = first.keyed.parts.split_at_mut(2);
    for part in native {
        part.format = PartFormat::Native("rocksdb-1".into());
        part.key_groups = KeyGroupRange::new(0, 16_384);
    }
    let segment = portable[0].segment.clone();
    first.keyed.parts.truncate(2);
    first.keyed.written_bytes = 12;
    let mut second = SubtaskSnapshot::new(1, KeyGroupRange::new(16_384, 32_768));
    second.keyed.parts = vec![SnapshotPart::portable(segment, KeyGroupRange::new(20_000, 32_768))];
    second.finished = true;
    operator.subtasks.push(second);
    manifest
}

/// A source and a sink: positions, of which those of one subtask are large, committables, timestamp
/// assigners, and a list of the user's that has the name that positions had in version 1.
pub(crate) fn source_manifest() -> Result<Manifest> {
    let mut manifest = Manifest::new(CheckpointId(1), 1, "test");
    manifest.created_unix_ms = 1_700_000_000_000;
    let mut first = SubtaskSnapshot::new(0, KeyGroupRange::EMPTY);
    first.positions = vec![b"file-1:17".to_vec(), vec![]];
    first.assigners = vec![Some(Timestamp::from_millis(-7)), None];
    first.operator_state = vec![users_positions()];
    let mut second = SubtaskSnapshot::new(1, KeyGroupRange::EMPTY);
    second.positions = vec![vec![7; 40_000], vec![8; 40_000]];
    let statistic = |name: &str, scope| StoredStatistic { name: name.to_owned(), value: 3, scope };
    second.statistics = vec![statistic("bytes", Scope::Backend), statistic("cache_bytes", Scope::Process)];
    let mut sink = SubtaskSnapshot::new(0, KeyGroupRange::EMPTY);
    sink.committables = vec![b"part-0-3".to_vec()];
    for (id, subtasks) in [("lines", vec![first, second]), ("files", vec![sink])] {
        let parallelism = subtasks.len() as u32;
        manifest.operators.push(OperatorSnapshot {
            id: OperatorId::new(id)?,
            parallelism,
            subtasks,
            types: Default::default(),
        });
    }
    Ok(manifest)
}

/// Descriptions of every part of an operator's state, in every encoding.
pub(crate) fn types_manifest() -> Result<Manifest> {
    let describe = |encoding, data_type: &str| -> Result<Option<Description>> {
        Ok(Some(Description::new(encoding, data_type.parse()?)))
    };
    let accounts = |schema_version, value_codec: &str, value| StateTypes {
        state: "accounts".into(),
        value_codec: value_codec.into(),
        schema_version,
        value,
        ttl_ms: Some(60_000),
        ..StateTypes::default()
    };
    let old = accounts(1, "postcard#00", describe(Encoding::Postcard, "{cents:u32}")?);
    let new = accounts(2, "postcard#01", describe(Encoding::Postcard, "{cents:u64,of:<A:(),\"b c\":?str>}")?);
    let columns = StateTypes {
        state: "columns".into(),
        value_codec: "sum by shop".into(),
        schema_version: 1,
        key: describe(Encoding::RowKey, "{shop:str,day:?time}")?,
        namespace: describe(Encoding::BigEndian, "i64")?,
        map_key: describe(Encoding::Ordered, "{a:u8,b:bytes}")?,
        value: describe(Encoding::Accumulators, "{sum:?i128,mean:{sum:?f64,count:u64}}")?,
        ttl_ms: None,
    };
    let rules = StateTypes {
        state: "rules".into(),
        value_codec: "celsius".into(),
        schema_version: 1,
        value: describe(Encoding::LittleEndian, "{degrees:i16}")?,
        ..StateTypes::default()
    };
    let types = OperatorTypes {
        keyed: vec![old, new, columns],
        operator_state: vec![rules],
        positions: describe(Encoding::Postcard, "{file:str,at:u64}")?,
        committables: describe(Encoding::MessagePack, "_")?,
    };
    let mut manifest = Manifest::new(CheckpointId(1), 1, "test");
    manifest.created_unix_ms = 1_700_000_000_000;
    let (id, subtasks) = (OperatorId::new("op")?, vec![SubtaskSnapshot::new(0, KeyGroupRange::ALL)]);
    manifest.operators.push(OperatorSnapshot { id, parallelism: 1, subtasks, types });
    Ok(manifest)
}

/// What barriers have overtaken: records with keys and without, watermarks, channels without any; the elements of one
/// subtask are large.
pub(crate) fn in_flight_manifest() -> Result<Manifest> {
    let mut keyed = InFlightRecords::new("str -> i64");
    for (group, time, key) in [(20_000, Some(5), "a"), (32_767, None, "b")] {
        let key = |out: &mut Vec<u8>| {
            out.extend_from_slice(key.as_bytes());
            Ok(())
        };
        let value = |out: &mut Vec<u8>| {
            out.extend_from_slice(&7_i64.to_le_bytes());
            Ok(())
        };
        keyed.push(KeyGroup::new(group), time.map(Timestamp::from_millis), key, value)?;
    }
    let mut plain = InFlightRecords::new("bytes");
    plain.push(
        None,
        Some(Timestamp::EPOCH),
        |_| Ok(()),
        |out| {
            out.resize(80_000, 7);
            Ok(())
        },
    )?;
    let of = |channel, content| InFlight::new(channel, content).encode();
    let mut first = SubtaskSnapshot::new(0, KeyGroupRange::new(0, 16_384));
    first.in_flight = vec![of(0, InFlightContent::Opened), of(0, InFlightContent::Records(plain))];
    let mut second = SubtaskSnapshot::new(1, KeyGroupRange::new(16_384, 32_768));
    second.watermark = Some(Timestamp::from_millis(3));
    second.in_flight = vec![
        of(0, InFlightContent::Watermark(Timestamp::from_millis(3))),
        of(0, InFlightContent::Records(keyed)),
        of(0, InFlightContent::Watermark(Timestamp::from_millis(4))),
        of(1, InFlightContent::Idle),
    ];
    let mut manifest = Manifest::new(CheckpointId(1), 1, "test");
    manifest.created_unix_ms = 1_700_000_000_000;
    let (id, subtasks) = (OperatorId::new("op")?, vec![first, second]);
    manifest.operators.push(OperatorSnapshot { id, parallelism: 2, subtasks, types: Default::default() });
    Ok(manifest)
}

/// A union list of bytes, which looks like the executor's own of version 1.
pub(crate) fn users_positions() -> OperatorStateEntry {
    OperatorStateEntry {
        name: "positions".into(),
        redistribution: Redistribution::Union,
        codec: "bytes".into(),
        schema_version: 1,
        elements: vec![b"the user's".to_vec()],
    }
}
