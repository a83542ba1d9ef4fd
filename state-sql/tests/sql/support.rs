//! What the tests share.

use std::future::Future;

use serde_json::{Map, Value as Json};
use strandline_checkpoint_storage::Storage;
use strandline_state_reader::At;
use strandline_state_sql::datafusion::arrow::array::RecordBatch;
use strandline_state_sql::datafusion::arrow::compute::cast;
use strandline_state_sql::datafusion::arrow::datatypes::DataType;
use strandline_state_sql::datafusion::arrow::json::WriterBuilder;
use strandline_state_sql::datafusion::arrow::json::writer::LineDelimited;
use strandline_state_sql::datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use strandline_state_sql::{StateCatalog, StateSession};

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// Scales the number of random cases by the variable STRANDLINE_CASES.
pub(crate) fn cases(base: u32) -> u32 {
    let times = std::env::var("STRANDLINE_CASES").ok().and_then(|times| times.parse::<u32>().ok());
    base * times.unwrap_or(1)
}

/// A session over the newest checkpoint.
pub(crate) async fn session(storage: &Storage) -> StateSession {
    StateSession::new(StateCatalog::open(storage, At::Latest).await.unwrap())
}

/// The rows of a query as text, in their order.
pub(crate) async fn rows(session: &StateSession, sql: &str) -> Vec<Vec<String>> {
    match session.query(sql).await {
        Ok(batches) => batches.iter().flat_map(cells).collect(),
        Err(error) => panic!("{sql}: {error}"),
    }
}

/// The rows of a query, each with commas between its cells, in no order.
pub(crate) async fn sorted(session: &StateSession, sql: &str) -> Vec<String> {
    let mut lines: Vec<String> = rows(session, sql).await.iter().map(|row| row.join(",")).collect();
    lines.sort_unstable();
    lines
}

/// What a query is refused with.
pub(crate) async fn refused(session: &StateSession, sql: &str) -> String {
    match session.query(sql).await {
        Ok(rows) => panic!("{sql}: {rows:?}"),
        Err(error) => error.to_string(),
    }
}

pub(crate) fn cells(batch: &RecordBatch) -> Vec<Vec<String>> {
    let options = FormatOptions::new().with_null("NULL");
    let columns: Vec<_> =
        batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
    let row = |row| columns.iter().map(|column| column.value(row).to_string()).collect();
    (0..batch.num_rows()).map(row).collect()
}

/// The rows of a query as objects of JSON, in which decimals are text: readers of JSON keep 53 bits.
pub(crate) async fn objects(session: &StateSession, sql: &str) -> Vec<Map<String, Json>> {
    let mut lines = Vec::new();
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(&mut lines);
    for batch in session.query(sql).await.unwrap() {
        writer.write(&exact(&batch)).unwrap();
    }
    writer.finish().unwrap();
    let text = String::from_utf8(lines).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn exact(batch: &RecordBatch) -> RecordBatch {
    let schema = batch.schema();
    let columns = schema.fields().iter().zip(batch.columns()).map(|(field, column)| {
        let column = match field.data_type() {
            DataType::Decimal256(..) => cast(column, &DataType::Utf8).unwrap(),
            _ => column.clone(),
        };
        (field.name().clone(), column, true)
    });
    RecordBatch::try_from_iter_with_nullable(columns.collect::<Vec<_>>()).unwrap()
}
