//! `strandline state`: the state in a checkpoint.

mod columns;
mod printer;

use futures::{StreamExt, pin_mut};
use serde_json::json;
use strandline_state_api::{Error, ErrorKind, Result};
use strandline_state_reader::{
    CheckpointReader, KeyFilter, OperatorStateInfo, Parts, Row, Scan, StatePart, StateSize, StoredState,
    Value,
};

use self::columns::{Column, of_elements, of_state};
use self::printer::Printer;
use crate::Failure;
use crate::checkpoints::{open, runtime};
use crate::cli::{CheckpointArgs, Format, StateArgs, StateCommand};

/// Runs a command on the state in a checkpoint.
pub(crate) fn state(args: &StateArgs) -> Result<(), Failure> {
    let runtime = runtime()?;
    let done = match &args.command {
        StateCommand::Ls { from, format } => runtime.block_on(list(from, *format)),
        StateCommand::Get { from, state, key, format } => runtime.block_on(get(from, state, key, *format)),
        StateCommand::Scan { from, state, limit, keys, format } => {
            runtime.block_on(scan(from, state, limit.unwrap_or(u64::MAX), *keys, *format))
        }
    };
    Ok(done?)
}

async fn read(from: &CheckpointArgs) -> Result<CheckpointReader> {
    CheckpointReader::open(&open(&from.storage.uri)?, from.checkpoint).await
}

async fn get(from: &CheckpointArgs, name: &str, key: &str, format: Format) -> Result<()> {
    let checkpoint = read(from).await?;
    let state = checkpoint.state(name)?;
    let key_type = state.key().data_type();
    let value = Value::parse(key, key_type).map_err(|error| error.with("state", state.path()))?;
    let scan = checkpoint.scan(state).keys(&KeyFilter::equal(value))?;
    if print_rows(scan, &of_state(state, Parts::ALL), format).await? {
        return Ok(());
    }
    let error =
        Error::new(ErrorKind::NotFound, "the state has no entry of the key").with("state", state.path());
    Err(error.with("key", key).with("checkpoint", checkpoint.id()))
}

async fn scan(from: &CheckpointArgs, name: &str, limit: u64, only_keys: bool, format: Format) -> Result<()> {
    let checkpoint = read(from).await?;
    let state = match checkpoint.state(name) {
        Ok(state) => state,
        Err(error) if error.kind() == ErrorKind::NotFound => match operator_state(&checkpoint, name) {
            Some(state) => return print_elements(&checkpoint, &state, limit, format),
            None => return Err(error),
        },
        Err(error) => return Err(error),
    };
    let parts = if only_keys { Parts { value: false, ..Parts::ALL } } else { Parts::ALL };
    let scan = checkpoint.scan(state).parts(parts).limit(limit);
    print_rows(scan, &of_state(state, parts), format).await.map(drop)
}

/// Prints the rows of a scan; returns whether there were any.
async fn print_rows(scan: Scan, columns: &[Column<Row>], format: Format) -> Result<bool> {
    let mut printer = Printer::new(columns, format);
    let (rows, mut any) = (scan.rows(), false);
    pin_mut!(rows);
    while let Some(batch) = rows.next().await {
        let batch = batch?;
        any |= !batch.is_empty();
        printer.print(&batch)?;
    }
    printer.finish()?;
    Ok(any)
}

fn operator_state(checkpoint: &CheckpointReader, name: &str) -> Option<OperatorStateInfo> {
    let is_it = |state: &OperatorStateInfo| path(state) == name || state.name == name;
    let mut found = checkpoint.operator_states().into_iter().filter(is_it);
    found.next().filter(|_| found.next().is_none())
}

fn path(state: &OperatorStateInfo) -> String {
    format!("{}/{}", state.operator, state.name)
}

fn print_elements(
    checkpoint: &CheckpointReader,
    state: &OperatorStateInfo,
    limit: u64,
    format: Format,
) -> Result<()> {
    let mut elements = checkpoint.operator_elements(state)?;
    elements.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let columns = of_elements(state);
    let mut printer = Printer::new(&columns, format);
    printer.print(&elements)?;
    printer.finish()
}

/// A line of the list of states.
struct Listed {
    state: String,
    kind: String,
    key: String,
    namespace: String,
    map_key: String,
    value: String,
    version: u32,
    entries: String,
    bytes: Option<u64>,
}

async fn list(from: &CheckpointArgs, format: Format) -> Result<()> {
    let checkpoint = read(from).await?;
    let mut listed = Vec::new();
    for state in checkpoint.states() {
        listed.push(keyed(state, checkpoint.size(state).await?));
    }
    for state in checkpoint.operator_states() {
        let elements = checkpoint.manifest().operator(&state.operator).map_or(0, |operator| {
            let states = operator.subtasks.iter().flat_map(|subtask| &subtask.operator_state);
            states.filter(|entry| entry.name == state.name).map(|entry| entry.elements.len()).sum()
        });
        listed.push(of_operator(&state, elements));
    }
    if format == Format::Table {
        crate::print(format_args!("checkpoint {}", checkpoint.id()));
    }
    let columns = [
        Column::text("state", |line: &Listed| line.state.clone()),
        Column::text("kind", |line: &Listed| line.kind.clone()),
        Column::text("key", |line: &Listed| line.key.clone()),
        Column::text("namespace", |line: &Listed| line.namespace.clone()),
        Column::text("map_key", |line: &Listed| line.map_key.clone()),
        Column::text("value", |line: &Listed| line.value.clone()),
        Column::json("version", |line: &Listed| json!(line.version)),
        Column::text("entries", |line: &Listed| line.entries.clone()),
        Column::json("file_bytes", |line: &Listed| json!(line.bytes)),
    ];
    let mut printer = Printer::new(&columns, format);
    printer.print(&listed)?;
    printer.finish()
}

fn keyed(state: &StoredState, size: StateSize) -> Listed {
    let entries = match (size.exact, size.at_most) {
        (Some(exact), _) => exact.to_string(),
        (None, Some(at_most)) => format!("<={at_most}"),
        (None, None) => String::new(),
    };
    Listed {
        state: state.path(),
        kind: state.kind().to_string(),
        key: shown(Some(state.key())),
        namespace: shown(state.namespace()),
        map_key: shown(state.map_key()),
        value: shown(state.value()),
        version: state.schema_version(),
        entries,
        bytes: Some(size.bytes),
    }
}

fn of_operator(state: &OperatorStateInfo, elements: usize) -> Listed {
    Listed {
        state: path(state),
        kind: state.redistribution.to_string().trim_start_matches("a ").to_owned(),
        key: String::new(),
        namespace: String::new(),
        map_key: shown(state.map_key.as_ref()),
        value: shown(Some(&state.value)),
        version: state.schema_version,
        entries: elements.to_string(),
        bytes: None,
    }
}

/// A type, with the codec where nothing describes its bytes.
fn shown(part: Option<&StatePart>) -> String {
    match part {
        None => String::new(),
        Some(part) if part.decoder().is_unknown() && part.codec() != "bytes" => {
            format!("bytes ({})", part.codec())
        }
        Some(part) => part.data_type().to_string(),
    }
}
