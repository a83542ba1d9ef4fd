//! The three statements of the article over checkpoints of a job with keyed and operator state: on both backends, on
//! files and on S3. The rows equal an independent reading.

#![cfg(all(feature = "memory", feature = "reader", feature = "sql"))]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "these are tests")]

use strandline::memory::MemoryBackendFactory;
use strandline::reader::{At, CheckpointReader, Value};
use strandline::sql::datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use strandline::sql::{StateCatalog, StateSession};
use strandline::state::backend::BackendFactory;
use strandline::state::{OperatorListDescriptor, ValueDescriptor};
use strandline::storage::{SoloJob, Storage};

/// As they stand in the article.
const ARTICLE: &str = "
CREATE TABLE KeyedStateTable (KEY INT, VALUE INT) WITH ('connector' = 'keyed-state-source', 'key' = 'KEY', 'value' = 'VALUE');
CREATE TABLE OperatorStateTable (OPERATOR INT, STATE INT) WITH ('connector' = 'operator-state-source', 'key' = 'OPERATOR', 'value' = 'STATE');
CREATE TABLE CheckpointTable (TIMESTAMP BIGINT, CHECKPOINT STRING) WITH ('connector' = 'checkpoint-source', 'timestamp' = 'TIMESTAMP', 'checkpoint' = 'CHECKPOINT');
";

/// Two checkpoints of a job that counts, and keeps a list.
async fn counts<F: BackendFactory>(factory: F, storage: &Storage) {
    let mut job = SoloJob::open::<_, u32>("counts", factory, storage).unwrap();
    let counts = job.register(&ValueDescriptor::<u64>::new("counts")).unwrap();
    let offsets = job.register(&OperatorListDescriptor::<i64>::split("offsets")).unwrap();
    job.restore().await.unwrap();
    for n in 0..1000 {
        job.at(&n).state(counts).put(u64::from(n) * 3).unwrap();
    }
    job.list_mut(offsets).unwrap().extend([-4, 70]);
    job.checkpoint().await.unwrap();
    job.at(&5).state(counts).put(7).unwrap();
    job.checkpoint().await.unwrap();
}

/// All rows of a query, sorted.
async fn rows(session: &StateSession, query: &str) -> Vec<String> {
    let options = FormatOptions::new();
    let mut rows = Vec::new();
    for batch in session.query(query).await.unwrap() {
        let columns = batch.columns().iter();
        let columns: Vec<_> =
            columns.map(|column| ArrayFormatter::try_new(column.as_ref(), &options).unwrap()).collect();
        for row in 0..batch.num_rows() {
            let cells: Vec<_> = columns.iter().map(|column| column.value(row).to_string()).collect();
            rows.push(cells.join(","));
        }
    }
    rows.sort_unstable();
    rows
}

fn the_article_equals_a_reading<F: BackendFactory>(factory: F, storage: &Storage) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        counts(factory, storage).await;
        let session = StateSession::new(StateCatalog::open(storage, At::Latest).await.unwrap());
        session.query(ARTICLE).await.unwrap();
        let checkpoint = CheckpointReader::open(storage, At::Latest).await.unwrap();
        let read = checkpoint.scan(checkpoint.state("counts").unwrap()).read_all().await.unwrap();
        let read = read.iter().map(|row| match (&row.key, &row.value) {
            (Some(Value::UInt(key)), Some(Value::UInt(value))) => format!("{key},{value}"),
            other => panic!("{other:?}"),
        });
        let mut expected: Vec<_> = read.collect();
        expected.sort_unstable();
        assert_eq!(rows(&session, "SELECT KEY, VALUE FROM KeyedStateTable").await, expected);
        assert_eq!(expected.len(), 1000);
        assert_eq!(rows(&session, "SELECT VALUE FROM KeyedStateTable WHERE KEY = 5").await, ["7"]);
        let offsets = checkpoint.operator_states().remove(0);
        let elements = checkpoint.operator_elements(&offsets).unwrap();
        let elements = elements.iter().map(|element| match &element.value {
            Value::Int(offset) => format!("{},{offset}", element.subtask),
            other => panic!("{other:?}"),
        });
        let mut elements: Vec<_> = elements.collect();
        elements.sort_unstable();
        assert_eq!(rows(&session, "SELECT * FROM OperatorStateTable").await, elements);
        assert_eq!(elements, ["0,-4", "0,70"]);
        let mut history = Vec::new();
        for completed in storage.completed().await.unwrap() {
            let manifest = storage.read_manifest(&completed).await.unwrap();
            history.push(format!("{},{}", manifest.created_unix_ms, completed.checkpoint));
        }
        history.sort_unstable();
        assert_eq!(rows(&session, "SELECT * FROM CheckpointTable").await, history);
        assert_eq!(history.len(), 2);
    });
}

#[cfg(feature = "rocksdb")]
fn on_rocksdb(storage: &Storage) {
    use strandline::rocksdb::{RocksBackendFactory, RocksOptions};

    let directory = tempfile::tempdir().unwrap();
    let mut options = RocksOptions::default();
    options.directory = Some(directory.path().to_owned());
    options.memory = 8 << 20;
    the_article_equals_a_reading(RocksBackendFactory::new(options).unwrap(), storage);
}

#[test]
fn the_statements_of_the_article_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    the_article_equals_a_reading(MemoryBackendFactory::default(), &Storage::in_dir(folder.path()).unwrap());
}

#[cfg(feature = "rocksdb")]
#[test]
fn the_statements_of_the_article_on_rocksdb() {
    let folder = tempfile::tempdir().unwrap();
    on_rocksdb(&Storage::in_dir(folder.path()).unwrap());
}

/// A storage of its own on the server that `STRANDLINE_TEST_S3` names.
#[cfg(feature = "s3")]
fn s3(name: &str) -> Storage {
    let name = format!("article-{name}-{}", std::process::id());
    Storage::open(&std::env::var("STRANDLINE_TEST_S3").unwrap().replace("{}", &name)).unwrap()
}

#[cfg(feature = "s3")]
#[test]
#[ignore = "needs a server that speaks the protocol of S3: make s3"]
fn the_statements_of_the_article_in_memory_on_s3() {
    the_article_equals_a_reading(MemoryBackendFactory::default(), &s3("memory"));
}

#[cfg(all(feature = "s3", feature = "rocksdb"))]
#[test]
#[ignore = "needs a server that speaks the protocol of S3: make s3"]
fn the_statements_of_the_article_on_rocksdb_on_s3() {
    on_rocksdb(&s3("rocksdb"));
}
