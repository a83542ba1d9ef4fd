//! `CREATE TABLE … WITH ('connector' = …)`: the statements of the article, and their options.

use strandline_backend_memory::MemoryBackendFactory;
use strandline_checkpoint_storage::{SoloJob, Storage};
use strandline_state_api::{OperatorListDescriptor, ValueDescriptor};
use strandline_state_reader::{At, CheckpointReader, Value};

use crate::support::{block_on, refused, rows, session, sorted};
use crate::zoo;

/// As they stand in the article.
const KEYED: &str = "CREATE TABLE KeyedStateTable (KEY INT, VALUE INT) WITH ('connector' = 'keyed-state-source', \
                     'key' = 'KEY', 'value' = 'VALUE')";
const OPERATOR: &str = "CREATE TABLE OperatorStateTable (OPERATOR INT, STATE INT) WITH ('connector' = \
                        'operator-state-source', 'key' = 'OPERATOR', 'value' = 'STATE')";
const CHECKPOINT: &str = "CREATE TABLE CheckpointTable (TIMESTAMP BIGINT, CHECKPOINT STRING) WITH ('connector' = \
                          'checkpoint-source', 'timestamp' = 'TIMESTAMP', 'checkpoint' = 'CHECKPOINT')";

/// Two checkpoints of a job that counts, and keeps a list.
async fn counts(storage: &Storage) {
    let mut job = SoloJob::open::<_, u32>("counts", MemoryBackendFactory::default(), storage).unwrap();
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

#[test]
fn the_statements_of_the_article_read_a_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    block_on(async {
        for storage in [Storage::in_memory().unwrap(), Storage::in_dir(folder.path()).unwrap()] {
            counts(&storage).await;
            let session = session(&storage).await;
            session.query(&[KEYED, OPERATOR, CHECKPOINT].join(";\n")).await.unwrap();

            let checkpoint = CheckpointReader::open(&storage, At::Latest).await.unwrap();
            let read = checkpoint.scan(checkpoint.state("counts").unwrap()).read_all().await.unwrap();
            let mut expected: Vec<String> = read
                .iter()
                .map(|row| match (&row.key, &row.value) {
                    (Some(Value::UInt(key)), Some(Value::UInt(value))) => format!("{key},{value}"),
                    other => panic!("{other:?}"),
                })
                .collect();
            expected.sort_unstable();
            assert_eq!(sorted(&session, "SELECT KEY, VALUE FROM KeyedStateTable").await, expected);
            assert_eq!(expected.len(), 1000);
            assert_eq!(rows(&session, "SELECT VALUE FROM KeyedStateTable WHERE KEY = 5").await, [["7"]]);
            assert_eq!(sorted(&session, "SELECT * FROM OperatorStateTable").await, ["0,-4", "0,70"]);
            let history = storage.completed().await.unwrap();
            let mut expected = Vec::new();
            for completed in &history {
                let manifest = storage.read_manifest(completed).await.unwrap();
                expected.push(format!("{},{}", manifest.created_unix_ms, completed.checkpoint));
            }
            expected.sort_unstable();
            assert_eq!(sorted(&session, "SELECT * FROM CheckpointTable").await, expected);
            assert_eq!(expected.len(), 2);
            let types = rows(&session, "DESCRIBE KeyedStateTable").await;
            assert_eq!(types[0][..2], ["KEY", "Int32"]);
        }
    });
}

#[test]
fn a_value_that_the_type_does_not_hold_is_named_with_its_key() {
    block_on(async {
        let storage = Storage::in_memory().unwrap();
        counts(&storage).await;
        let session = session(&storage).await;
        let small = KEYED.replace("VALUE INT", "VALUE TINYINT");
        session.query(&small).await.unwrap();
        // 100 is the first whose triple is more than 127 by far.
        let error = refused(&session, "SELECT * FROM KeyedStateTable WHERE KEY = 100").await;
        assert!(error.contains("i8 does not hold 300"), "{error}");
        assert!(error.contains("key 100") && error.contains("value 300"), "{error}");
        assert_eq!(rows(&session, "SELECT VALUE FROM KeyedStateTable WHERE KEY = 42").await, [["126"]]);
        // What is not shown is not converted.
        assert_eq!(rows(&session, "SELECT count(KEY) FROM KeyedStateTable").await, [["1000"]]);

        let exact = "CREATE TABLE f (k STRING, v FLOAT) WITH ('connector' = 'keyed-state-source', 'key' = 'k', \
                     'value' = 'v')";
        session.query(exact).await.unwrap();
        assert_eq!(rows(&session, "SELECT k, v FROM f WHERE k = '9'").await, [["9", "27.0"]]);
    });
}

#[test]
fn options_say_what_is_meant_and_errors_list_what_may_be() {
    block_on(async {
        let (storage, folder) = (Storage::in_memory().unwrap(), tempfile::tempdir().unwrap());
        zoo::store(&storage).await;
        let elsewhere = Storage::in_dir(folder.path()).unwrap();
        counts(&elsewhere).await;
        let session = session(&storage).await;
        let keyed = |columns: &str, options: &str| {
            format!(
                "CREATE OR REPLACE TABLE t ({columns}) WITH ('connector' = 'keyed-state-source', 'key' = 'k', \
                 'value' = 'v'{options})"
            )
        };

        let error = refused(&session, &keyed("k STRING, v INT", "")).await;
        assert!(error.contains("several fit") && error.contains("zoo/counts: key str, value u32"), "{error}");
        assert!(!error.contains("animals"), "{error}");
        let error = refused(&session, &keyed("k INT, v INT", ", 'state' = 'counts'")).await;
        assert!(error.contains("do not fit") && error.contains("zoo/counts: key str"), "{error}");
        let error = refused(&session, &keyed("k STRING, v INT", ", 'state' = 'cuonts'")).await;
        assert!(error.contains("no keyed state \"cuonts\"") && error.contains("zoo/counts"), "{error}");
        session.query(&keyed("k STRING, v INT", ", 'state' = 'counts', 'operator' = 'zoo'")).await.unwrap();
        assert_eq!(sorted(&session, "SELECT * FROM t").await, ["ada,99", "cäsar,11", "d'arc,12", "eve,7"]);
        session.query(&keyed("k STRING, v INT", ", 'state' = 'counts', 'checkpoint' = '1'")).await.unwrap();
        assert_eq!(sorted(&session, "SELECT * FROM t").await, ["ada,11", "bob,10", "cäsar,11", "d'arc,12"]);

        let error = refused(&session, &keyed("k STRING, v INT", ", 'state' = 'windows'")).await;
        assert!(
            error.contains("several namespaces") && error.contains(r#"{"start":600,"end":660}"#),
            "{error}"
        );
        let one = r#", 'state' = 'windows', 'namespace' = '{"start":600,"end":660}'"#;
        session.query(&keyed("k STRING, v INT", one)).await.unwrap();
        assert_eq!(sorted(&session, "SELECT * FROM t").await, ["ada,2", "bob,1", "cäsar,2", "d'arc,3"]);
        assert_eq!(rows(&session, "SELECT count(*) FROM (SELECT v FROM t LIMIT 2)").await, [["2"]]);
        let columns = "k STRING, window_start BIGINT, v INT";
        session.query(&keyed(columns, ", 'state' = 'windows'")).await.unwrap();
        assert_eq!(sorted(&session, "SELECT * FROM t WHERE k = 'ada'").await, ["ada,-60,2", "ada,600,2"]);

        session.query(&keyed("k STRING, v STRING", ", 'state' = 'animals'")).await.unwrap();
        let text = rows(&session, "SELECT v FROM t WHERE k = 'bob'").await;
        let json: serde_json::Value = serde_json::from_str(&text[0][0]).unwrap();
        assert_eq!((&json["text"], &json["level"]), (&"number 0".into(), &"New".into()));

        let path = format!(", 'path' = '{}'", folder.path().display());
        session.query(&keyed("k INT, v INT", &path)).await.unwrap();
        assert_eq!(rows(&session, "SELECT count(*) FROM t").await, [["1000"]]);
        let error = refused(&session, &keyed("k INT, v INT", ", 'path' = '/nowhere'")).await;
        assert!(error.contains("does not exist") && error.contains("/nowhere"), "{error}");

        let lists = "CREATE OR REPLACE TABLE t (o STRING, s INT) WITH ('connector' = 'operator-state-source', \
                     'key' = 'o', 'value' = 's')";
        session.query(lists).await.unwrap();
        assert_eq!(sorted(&session, "SELECT * FROM t").await, ["zoo,3", "zoo,5"]);
        for (columns, options, part) in [
            ("k STRING, v INT", ", 'sate' = 'x', 'state' = 'counts'", "no option 'sate'"),
            ("k STRING, w INT", "", "names the column v, and there are k, w"),
            ("k STRING, v INT, z INT", ", 'state' = 'counts'", "the column z receives nothing"),
            ("k STRING, v INTERVAL", "", "a column of state is no INTERVAL"),
            ("k STRING, v INT", ", 'state' = 'counts', 'namespace' = '1'", "has no namespaces"),
            ("k STRING, v INT", ", 'checkpoint' = '77'", "there is no checkpoint 77; there are 1, 2"),
            ("k STRING, v INT", ", 'checkpoint' = 'old'", "expected `latest` or the number"),
        ] {
            let error = refused(&session, &keyed(columns, options)).await;
            assert!(error.contains(part), "{error}");
        }
        let error = refused(&session, "CREATE TABLE u (k INT) WITH ('connector' = 'kafka')").await;
        assert!(error.contains("no connector \"kafka\"") && error.contains("checkpoint-source"), "{error}");
        let again = lists.replace("OR REPLACE ", "");
        assert!(refused(&session, &again).await.contains("there is a table \"t\" already"));
    });
}
