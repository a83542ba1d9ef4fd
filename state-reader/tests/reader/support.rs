//! What the tests share.

use std::future::Future;

use strandline_checkpoint_storage::Storage;
use strandline_state_reader::{At, CheckpointReader, Row, Typed, Value};

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

pub(crate) async fn latest(storage: &Storage) -> CheckpointReader {
    CheckpointReader::open(storage, At::Latest).await.unwrap()
}

/// All rows of a state.
pub(crate) async fn rows(checkpoint: &CheckpointReader, state: &str) -> Vec<Row> {
    checkpoint.scan(checkpoint.state(state).unwrap()).read_all().await.unwrap()
}

/// The rows as text, sorted: key, namespace, map key, index, value.
pub(crate) async fn shown(checkpoint: &CheckpointReader, path: &str) -> Vec<String> {
    let state = checkpoint.state(path).unwrap();
    let mut lines: Vec<String> = Vec::new();
    for row in rows(checkpoint, path).await {
        let mut parts = Vec::new();
        let mut push = |value: &Option<Value>, part: Option<&strandline_state_reader::StatePart>| {
            if let (Some(value), Some(part)) = (value, part) {
                parts.push(Typed::new(value, part.data_type()).to_string());
            }
        };
        push(&row.key, Some(state.key()));
        push(&row.namespace, state.namespace());
        push(&row.map_key, state.map_key());
        push(&row.value, state.value());
        lines.push(parts.join(" | "));
    }
    lines.sort();
    lines
}
