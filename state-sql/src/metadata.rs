//! What a checkpoint consists of, as tables.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use strandline_checkpoint_storage::{CompletedCheckpoint, History, Manifest, Storage};
use strandline_state_api::schema::DataType;
use strandline_state_api::snapshot::PartFormat;
use strandline_state_api::{ErrorKind, KeyGroupRange, OperatorId, Result};
use strandline_state_reader::{CheckpointReader, OperatorElement, StatePart, Typed, Value};

use crate::listed::{ListedTable, Rows};

/// What a table is made of.
#[derive(Clone, Debug)]
pub(crate) struct Viewed {
    /// The checkpoint that is looked at.
    pub(crate) checkpoint: CheckpointReader,
    /// Where it is; `None` for a snapshot that is in no log.
    pub(crate) storage: Option<Storage>,
}

/// A table: its name, its columns with their types, and what makes its rows.
struct Described {
    name: &'static str,
    columns: &'static [(&'static str, &'static str)],
    rows: fn(Viewed) -> BoxFuture<'static, Result<Rows>>,
}

const TABLES: [Described; 8] = [
    Described {
        name: "checkpoints",
        columns: &[
            ("checkpoint", "u64"),
            ("kind", "str"),
            ("job", "str"),
            ("term", "u64"),
            ("parent", "?u64"),
            ("restored_from", "?u64"),
            ("triggered", "i64"),
            ("created", "i64"),
            ("duration_us", "u64"),
            ("commit_us", "u64"),
            ("alignment_us", "u64"),
            ("pause_us", "u64"),
            ("write_us", "u64"),
            ("bytes_written", "u64"),
            ("bytes_in_flight", "u64"),
            ("full_bytes", "u64"),
            ("objects", "u64"),
            ("retries", "u64"),
        ],
        rows: |from| checkpoints(from).boxed(),
    },
    Described {
        name: "operators",
        columns: &[
            ("operator", "str"),
            ("parallelism", "u32"),
            ("keyed_states", "u64"),
            ("operator_states", "u64"),
            ("positions", "u64"),
            ("committables", "u64"),
            ("files", "u64"),
            ("bytes", "u64"),
        ],
        rows: |from| async move { Ok(operators(&from.checkpoint)) }.boxed(),
    },
    Described {
        name: "subtasks",
        columns: &[
            ("operator", "str"),
            ("subtask", "u32"),
            ("first_key_group", "?u32"),
            ("last_key_group", "?u32"),
            ("watermark", "?i64"),
            ("finished", "bool"),
            ("start_delay_us", "u64"),
            ("alignment_us", "u64"),
            ("pause_us", "u64"),
            ("write_us", "u64"),
            ("bytes_written", "u64"),
            ("full_bytes", "u64"),
            ("records_in_flight", "u64"),
            ("bytes_in_flight", "u64"),
        ],
        rows: |from| async move { Ok(subtasks(&from.checkpoint)) }.boxed(),
    },
    Described {
        name: "states",
        columns: &[
            ("table", "str"),
            ("operator", "str"),
            ("state", "str"),
            ("kind", "str"),
            ("key", "?str"),
            ("namespace", "?str"),
            ("map_key", "?str"),
            ("value", "?str"),
            ("value_codec", "?str"),
            ("schema_version", "u32"),
            ("ttl_ms", "?i64"),
            ("entries", "?u64"),
            ("entries_at_most", "?u64"),
            ("bytes", "?u64"),
        ],
        rows: |from| async move { states(&from.checkpoint).await }.boxed(),
    },
    Described {
        name: "files",
        columns: &[
            ("file", "str"),
            ("checkpoint", "u64"),
            ("operator", "str"),
            ("subtask", "u32"),
            ("format", "str"),
            ("first_key_group", "?u32"),
            ("last_key_group", "?u32"),
            ("bytes", "u64"),
        ],
        rows: |from| files(from).boxed(),
    },
    Described {
        name: "key_groups",
        columns: &[
            ("operator", "str"),
            ("subtask", "u32"),
            ("file", "str"),
            ("first_key_group", "u32"),
            ("last_key_group", "u32"),
            ("entries", "?u64"),
            ("bytes", "u64"),
        ],
        rows: |from| async move { key_groups(&from.checkpoint).await }.boxed(),
    },
    Described {
        name: "sources",
        columns: &[("operator", "str"), ("subtask", "u32"), ("index", "u64"), ("position", "str")],
        rows: |from| async move { elements(&from.checkpoint, CheckpointReader::positions) }.boxed(),
    },
    Described {
        name: "committables",
        columns: &[("operator", "str"), ("subtask", "u32"), ("index", "u64"), ("committable", "str")],
        rows: |from| async move { elements(&from.checkpoint, CheckpointReader::committables) }.boxed(),
    },
];

/// Returns the names of all these tables.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    TABLES.iter().map(|table| table.name)
}

/// Returns the table with this name.
pub(crate) fn table(name: &str, from: &Viewed) -> Option<Arc<ListedTable>> {
    let described = TABLES.iter().find(|table| table.name == name)?;
    let typed =
        |(name, of): &(&str, &str)| ((*name).to_owned(), of.parse::<DataType>().unwrap_or(DataType::Text));
    let (from, rows) = (from.clone(), described.rows);
    Some(Arc::new(ListedTable::new(described.columns.iter().map(typed), move || rows(from.clone()))))
}

fn text(value: &(impl ToString + ?Sized)) -> Value {
    Value::Text(value.to_string())
}

fn uint(value: impl Into<u64>) -> Value {
    Value::UInt(value.into())
}

fn maybe(value: Option<Value>) -> Value {
    value.unwrap_or_default()
}

fn bounds(range: KeyGroupRange) -> [Value; 2] {
    match range.is_empty() {
        true => [Value::Null, Value::Null],
        false => [uint(range.start()), uint(range.end() - 1)],
    }
}

/// Reads all retained checkpoints, the oldest first; one that is swept meanwhile is left out. A snapshot that is in no
/// log is alone.
pub(crate) async fn retained(
    from: &Viewed,
) -> Result<Vec<(Manifest, Option<CompletedCheckpoint>, Arc<History>)>> {
    let Some(storage) = &from.storage else {
        return Ok(vec![(from.checkpoint.manifest().clone(), None, Arc::default())]);
    };
    let history = Arc::new(storage.history().await?);
    let mut read_all = Vec::new();
    for completed in &history.completed {
        match storage.read_manifest(completed).await {
            Ok(manifest) => read_all.push((manifest, Some(completed.clone()), Arc::clone(&history))),
            Err(error) if error.kind() == ErrorKind::NotFound && !storage.is_retained(completed).await? => {}
            Err(error) => return Err(error.with("checkpoint", completed.checkpoint)),
        }
    }
    Ok(read_all)
}

async fn checkpoints(from: Viewed) -> Result<Rows> {
    let mut rows = Rows::new();
    for (manifest, completed, history) in retained(&from).await? {
        let subtasks = || manifest.operators.iter().flat_map(|operator| &operator.subtasks);
        let parent = completed.as_ref().and_then(|of| history.parent(of)).map(|of| uint(of.checkpoint.0));
        let trace = &manifest.trace;
        let longest = |of: fn(&strandline_checkpoint_storage::SubtaskTrace) -> u64| {
            uint(subtasks().map(|subtask| of(&subtask.trace)).max().unwrap_or(0))
        };
        rows.push(vec![
            uint(manifest.checkpoint.0),
            text(&manifest.kind.name()),
            text(&manifest.job),
            uint(manifest.term.0),
            maybe(parent),
            maybe(manifest.restored_from.map(|of| uint(of.0))),
            Value::Int(trace.trigger_unix_ms.try_into().unwrap_or(i64::MAX)),
            Value::Int(manifest.created_unix_ms.try_into().unwrap_or(i64::MAX)),
            uint(trace.duration_us),
            uint(trace.commit_us),
            longest(|trace| trace.alignment_us),
            longest(|trace| trace.pause_us),
            longest(|trace| trace.write_us),
            uint(trace.bytes),
            uint(subtasks().map(|subtask| subtask.trace.in_flight_bytes).sum::<u64>()),
            uint(trace.full_bytes),
            uint(trace.objects),
            uint(trace.retries),
        ]);
    }
    Ok(rows)
}

fn operators(checkpoint: &CheckpointReader) -> Rows {
    let operator_states = checkpoint.operator_states();
    let row = |operator: &strandline_checkpoint_storage::OperatorSnapshot| {
        let keyed = checkpoint.states().iter().filter(|state| *state.operator() == operator.id).count();
        let lists = operator_states.iter().filter(|state| state.operator == operator.id).count();
        let parts = || operator.subtasks.iter().flat_map(|subtask| &subtask.keyed.parts);
        let sum = |of: fn(&strandline_checkpoint_storage::SubtaskSnapshot) -> usize| {
            uint(operator.subtasks.iter().map(of).sum::<usize>() as u64)
        };
        vec![
            text(&operator.id),
            uint(operator.parallelism),
            uint(keyed as u64),
            uint(lists as u64),
            sum(|subtask| subtask.positions.len()),
            sum(|subtask| subtask.committables.len()),
            uint(parts().count() as u64),
            uint(parts().map(|part| part.segment.len).sum::<u64>()),
        ]
    };
    checkpoint.manifest().operators.iter().map(row).collect()
}

fn subtasks(checkpoint: &CheckpointReader) -> Rows {
    let mut rows = Rows::new();
    for operator in &checkpoint.manifest().operators {
        for subtask in &operator.subtasks {
            let [first, last] = bounds(subtask.key_groups);
            let trace = &subtask.trace;
            rows.push(vec![
                text(&operator.id),
                uint(subtask.subtask),
                first,
                last,
                maybe(subtask.watermark.map(|time| Value::Int(time.as_millis()))),
                Value::Bool(subtask.finished),
                uint(trace.start_delay_us),
                uint(trace.alignment_us),
                uint(trace.pause_us),
                uint(trace.write_us),
                uint(trace.bytes_written),
                uint(trace.full_bytes),
                uint(trace.in_flight_records),
                uint(trace.in_flight_bytes),
            ]);
        }
    }
    rows
}

async fn states(checkpoint: &CheckpointReader) -> Result<Rows> {
    let shown = |part: Option<&StatePart>| maybe(part.map(|part| text(&part.data_type())));
    let codec = |part: Option<&StatePart>| maybe(part.map(|part| text(&part.codec())));
    let mut rows = Rows::new();
    for state in checkpoint.states() {
        let size = checkpoint.size(state).await?;
        rows.push(vec![
            text(&state.path()),
            text(&state.operator()),
            text(&state.name()),
            text(&state.kind()),
            shown(Some(state.key())),
            shown(state.namespace()),
            shown(state.map_key()),
            shown(state.value()),
            codec(state.value()),
            uint(state.schema_version()),
            maybe(state.ttl_ms().map(Value::Int)),
            maybe(size.exact.map(uint)),
            maybe(size.at_most.map(uint)),
            uint(size.bytes),
        ]);
    }
    for state in checkpoint.operator_states() {
        let elements = checkpoint.operator_elements(&state)?.len() as u64;
        rows.push(vec![
            text(&crate::names::of_operator_state(checkpoint, &state)),
            text(&state.operator),
            text(&state.name),
            text(&state.redistribution.to_string().trim_start_matches("a ")),
            Value::Null,
            Value::Null,
            shown(state.map_key.as_ref()),
            shown(Some(&state.value)),
            codec(Some(&state.value)),
            uint(state.schema_version),
            Value::Null,
            uint(elements),
            uint(elements),
            Value::Null,
        ]);
    }
    Ok(rows)
}

async fn files(from: Viewed) -> Result<Rows> {
    let mut rows = Rows::new();
    for (manifest, ..) in retained(&from).await? {
        for operator in &manifest.operators {
            for subtask in &operator.subtasks {
                for part in &subtask.keyed.parts {
                    let [first, last] = bounds(part.key_groups);
                    let format = match &part.format {
                        PartFormat::Portable => "portable",
                        PartFormat::Native(format) => format.as_str(),
                    };
                    rows.push(vec![
                        text(&part.segment.name.0),
                        uint(manifest.checkpoint.0),
                        text(&operator.id),
                        uint(subtask.subtask),
                        text(&format),
                        first,
                        last,
                        uint(part.segment.len),
                    ]);
                }
            }
        }
    }
    Ok(rows)
}

async fn key_groups(checkpoint: &CheckpointReader) -> Result<Rows> {
    let mut rows = Rows::new();
    for operator in &checkpoint.manifest().operators {
        for block in checkpoint.blocks(&operator.id).await? {
            let [first, last] = bounds(block.key_groups);
            rows.push(vec![
                text(&operator.id),
                uint(block.subtask),
                text(&block.file.0),
                first,
                last,
                maybe(block.entries.map(uint)),
                uint(block.bytes),
            ]);
        }
    }
    Ok(rows)
}

type Elements = fn(&CheckpointReader, &OperatorId) -> Result<(StatePart, Vec<OperatorElement>)>;

/// What sources or sinks keep, in words.
fn elements(checkpoint: &CheckpointReader, of: Elements) -> Result<Rows> {
    let mut rows = Rows::new();
    for operator in &checkpoint.manifest().operators {
        let (part, elements) = of(checkpoint, &operator.id)?;
        rows.extend(elements.iter().map(|element| {
            let shown = Typed::new(&element.value, part.data_type());
            vec![text(&operator.id), uint(element.subtask), uint(element.index), text(&shown)]
        }));
    }
    Ok(rows)
}
