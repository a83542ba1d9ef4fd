//! `strandline sql`.

use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;
use strandline_state_sql::datafusion::arrow::array::AsArray;
use strandline_state_sql::datafusion::arrow::datatypes::UInt64Type;

#[cfg(feature = "s3")]
use crate::support::on_s3;
use crate::support::{Folder, SALES};

const INPUT: &str = "shop,user,amount\nnorth,-7,10\nsouth,3,5\nnorth,-7,30\nnorth,3,2\nsouth,40,1\n";

/// As they stand in the article.
const ARTICLE: &str = "
CREATE TABLE KeyedStateTable (KEY INT, VALUE INT) WITH ('connector' = 'keyed-state-source', 'key' = 'KEY', 'value' = 'VALUE');
CREATE TABLE CheckpointTable (TIMESTAMP BIGINT, CHECKPOINT STRING) WITH ('connector' = 'checkpoint-source', 'timestamp' = 'TIMESTAMP', 'checkpoint' = 'CHECKPOINT');
";

/// A job that has run to its end, and left a checkpoint.
fn finished(job: &str, args: &[&str]) -> Folder {
    let folder = Folder::new(job);
    folder.write("sales.csv", INPUT);
    folder.run(args);
    folder
}

fn printed(folder: &Folder, args: &[&str]) -> String {
    let ended = folder.strandline(&[&["sql"], args].concat());
    assert_eq!(ended.code(), 0, "{args:?}: {}{}", ended.stdout(), ended.stderr());
    ended.stdout()
}

fn refused(folder: &Folder, args: &[&str], code: i32) -> String {
    let ended = folder.strandline(&[&["sql"], args].concat());
    assert_eq!(ended.code(), code, "{args:?}: {}{}", ended.stdout(), ended.stderr());
    ended.stderr()
}

#[test]
fn results_are_tables_csv_json_and_arrow() {
    let folder = finished(SALES, &[]);
    let query = "SELECT \"user\", visits FROM \"by-user/group\" ORDER BY visits DESC, \"user\"";
    let table = printed(&folder, &["checkpoints", query]);
    assert_eq!(table.lines().collect::<Vec<_>>(), ["user  visits", "-7    2", "3     2", "40    1"]);
    let csv = printed(&folder, &["job.toml", query, "--format=csv"]);
    assert_eq!(csv, "user,visits\n-7,2\n3,2\n40,1\n");
    let json = printed(&folder, &["checkpoints", query, "--format=json"]);
    let first: Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    assert_eq!((&first["user"], &first["visits"]), (&(-7).into(), &2.into()));
    let arrow = folder.command(&["sql", "checkpoints", query, "--format=arrow"]).output().unwrap().stdout;
    let reader =
        strandline_state_sql::datafusion::arrow::ipc::reader::StreamReader::try_new(&arrow[..], None);
    let rows: usize = reader.unwrap().map(|batch| batch.unwrap().num_rows()).sum();
    assert_eq!(rows, 3);
    let parquet = folder.command(&["sql", "checkpoints", query, "--format=parquet"]).output().unwrap().stdout;
    let batches = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(parquet)).unwrap();
    let visits: Vec<u64> = batches
        .build()
        .unwrap()
        .flat_map(|batch| batch.unwrap().column(1).as_primitive::<UInt64Type>().values().to_vec())
        .collect();
    assert_eq!(visits, [2, 2, 1]);
    let two = refused(&folder, &["checkpoints", "SELECT 1; SELECT 2", "--format=parquet"], 2);
    assert!(two.contains("one statement"), "{two}");
    let nothing =
        printed(&folder, &["checkpoints", "SELECT visits FROM \"by-user\" WHERE visits > 9", "--format=csv"]);
    assert_eq!(nothing, "visits\n");
    let plan = printed(&folder, &["checkpoints", "EXPLAIN SELECT visits FROM \"by-user\""]);
    assert!(
        plan.lines().any(|line| line.trim_start().starts_with("StateScan: state=by-user/group")),
        "{plan}"
    );
    // The only state of a step, by the name of the step; a null; a position in words.
    let null =
        printed(&folder, &["checkpoints", "SELECT NULL AS n, operator, position FROM sources LIMIT 1"]);
    assert!(null.contains("NULL") && null.contains("source"), "{null}");
}

#[test]
fn statements_come_from_a_file_and_from_the_standard_input() {
    let folder = finished(SALES, &[]);
    folder.write("article.sql", &format!("{ARTICLE}SELECT KEY, VALUE FROM KeyedStateTable ORDER BY KEY;"));
    let csv = printed(&folder, &["checkpoints", "--file", "article.sql", "--format=csv"]);
    assert_eq!(csv, "KEY,VALUE\n-7,2\n3,2\n40,1\n");
    let statements = format!("{ARTICLE}SELECT count(*) AS n FROM CheckpointTable; SELECT 1 AS one");
    let ended = folder.piped(&["sql", "job.toml", "--format=csv"], statements.into_bytes());
    assert_eq!((ended.code(), ended.stdout().as_str()), (0, "n\n1\none\n1\n"), "{}", ended.stderr());
}

#[test]
fn keys_of_several_columns_are_looked_up_and_read_like_the_job() {
    let job = SALES
        .replace("key_by = \"user\"", "key_by = [\"shop\", \"user\"]")
        .replace("\"count as visits\"", "\"count\", \"sum(amount) as total\", \"avg(amount) as mean\"");
    let folder = finished(&job, &[]);
    let all = printed(
        &folder,
        &[
            "checkpoints",
            "SELECT shop, \"user\", \"count\", total, mean['sum'] AS s FROM \"by-user\" ORDER BY 1, 2",
            "--format=csv",
        ],
    );
    assert_eq!(
        all,
        "shop,user,count,total,s\nnorth,-7,2,40,40\nnorth,3,1,2,2\nsouth,3,1,5,5\nsouth,40,1,1,1\n"
    );
    for (condition, rows) in [
        ("shop = 'north' AND \"user\" = 3", "north,3\n"),
        ("\"user\" IN (3, 40) AND shop IN ('south', 'west')", "south,3\nsouth,40\n"),
        ("shop = 'south'", "south,3\nsouth,40\n"),
        ("\"user\" < 0 OR shop = 'east'", "north,-7\n"),
    ] {
        let query = format!("SELECT shop, \"user\" FROM \"by-user\" WHERE {condition} ORDER BY 1, 2");
        let found = printed(&folder, &["checkpoints", &query, "--format=csv"]);
        assert_eq!(found, format!("shop,user\n{rows}"), "{condition}");
    }
}

#[test]
fn mistakes_point_into_the_statement() {
    let folder = finished(SALES, &[]);
    let error = refused(&folder, &["checkpoints", "SELECT visits,\n  vists FROM \"by-user\""], 2);
    assert!(error.contains("2 |   vists FROM") && error.contains("  ^^^^^"), "{error}");
    let error = refused(&folder, &["checkpoints", "SELEC 1"], 2);
    assert!(error.contains("this is no SQL") && error.contains("^^^^^"), "{error}");
    let error = refused(&folder, &["checkpoints", "SELECT * FROM \"by-user/grop\""], 2);
    assert!(error.contains("did you mean \"by-user/group\""), "{error}");
    let error = refused(&folder, &["checkpoints", "DELETE FROM \"by-user\""], 2);
    assert!(error.contains("never changed"), "{error}");
    let error = refused(&folder, &["checkpoints", "SELECT 1", "--checkpoint=77"], 1);
    assert!(error.contains("there is no checkpoint 77"), "{error}");
    let error = refused(&folder, &["elsewhere", "SELECT 1"], 1);
    assert!(error.contains("does not exist"), "{error}");
    let error = refused(&folder, &["other.toml", "SELECT 1"], 2);
    assert!(error.contains("cannot be read"), "{error}");
    let small = ARTICLE.replace("VALUE INT", "VALUE BOOLEAN");
    let error = refused(&folder, &["checkpoints", &small], 2);
    assert!(error.contains("do not fit") && error.contains("{visits:u64}"), "{error}");
}

/// The statements of the article over a checkpoint, beside what `strandline state` reads.
fn article_equals_a_scan(folder: &Folder, from: &str) {
    let query = format!("{ARTICLE}SELECT KEY, VALUE FROM KeyedStateTable");
    let lines = |text: String| {
        let mut lines: Vec<String> = text.lines().skip(1).map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    };
    let found = lines(printed(folder, &[from, &query, "--format=csv"]));
    let scanned = folder.strandline(&["state", "scan", from, "by-user/group", "--format=csv"]);
    assert_eq!(scanned.code(), 0, "{}", scanned.stderr());
    assert_eq!(found, lines(scanned.stdout()));
    assert_eq!(found, ["-7,2", "3,2", "40,1"]);
    let one = printed(folder, &[from, &format!("{query} WHERE KEY = 40"), "--format=csv"]);
    assert_eq!(one, "KEY,VALUE\n40,1\n");
}

#[test]
fn the_statements_of_the_article_equal_a_scan() {
    article_equals_a_scan(&finished(SALES, &[]), "checkpoints");
}

#[cfg(feature = "rocksdb")]
#[test]
fn the_statements_of_the_article_equal_a_scan_on_rocksdb() {
    let folder = finished(
        SALES,
        &["--set=state.backend=rocksdb", "--set=state.directory=state", "--set=state.memory=8388608"],
    );
    let formats = printed(&folder, &["checkpoints", "SELECT DISTINCT format FROM files", "--format=csv"]);
    assert_eq!(formats, "format\nrocksdb-1\n");
    article_equals_a_scan(&folder, "checkpoints");
}

/// The demo, kept to look at.
fn demo(args: &[&str]) -> Folder {
    let folder = Folder::new("");
    let ended = folder.strandline(&[&["demo", "--records=40000", "--kills=2", "--dir=demo"], args].concat());
    assert_eq!(ended.code(), 0, "{}{}", ended.stdout(), ended.stderr());
    folder
}

/// The statements of the article over the checkpoints of the demo's job in `storage`, beside what it wrote to `users`.
fn article_equals_the_results_of_the_demo(folder: &Folder, storage: &str, users: &str) {
    let written = folder.results(users);
    assert!(written.len() > 100, "{} users", written.len());
    let query = format!("{ARTICLE}SELECT KEY, VALUE FROM KeyedStateTable");
    let csv = printed(folder, &[storage, &query, "--format=csv"]);
    let mut rows: Vec<&str> = csv.lines().skip(1).collect();
    rows.sort_unstable();
    assert_eq!(rows, written);
    let query = format!("{ARTICLE}SELECT TIMESTAMP, CHECKPOINT FROM CheckpointTable ORDER BY TIMESTAMP");
    let checkpoints = printed(folder, &[storage, &query, "--format=csv"]);
    let listed = folder.strandline(&["checkpoints", "list", storage, "--json"]);
    let listed: Value = serde_json::from_str(&listed.stdout()).unwrap();
    let listed = listed["checkpoints"].as_array().unwrap();
    let listed = listed.iter().map(|of| format!("{},{}", of["created_unix_ms"], of["id"]));
    assert_eq!(checkpoints.lines().skip(1).collect::<Vec<_>>(), listed.collect::<Vec<_>>());
}

#[test]
fn the_statements_of_the_article_equal_the_results_of_the_demo() {
    article_equals_the_results_of_the_demo(&demo(&[]), "demo/checkpoints", "demo/results/users");
}

#[cfg(feature = "rocksdb")]
#[test]
fn the_statements_of_the_article_equal_the_results_of_the_demo_on_rocksdb() {
    let folder = demo(&["--backend=rocksdb"]);
    article_equals_the_results_of_the_demo(&folder, "demo/checkpoints", "demo/results/users");
}

/// Runs where `STRANDLINE_TEST_S3` names a server that speaks the protocol of S3. The job of the demo once more, with
/// its checkpoints there.
#[cfg(all(feature = "rocksdb", feature = "s3"))]
#[test]
#[ignore = "needs a server that speaks the protocol of S3: make s3"]
fn the_statements_of_the_article_equal_the_results_of_the_demo_on_s3() {
    let folder = demo(&[]);
    let memory: &[&str] = &["--set=state.backend=memory"];
    let rocksdb: &[&str] = &["--set=state.backend=rocksdb", "--set=state.directory=state"];
    for (backend, settings) in [("memory", memory), ("rocksdb", rocksdb)] {
        let uri = on_s3(&format!("demo-{backend}"));
        let paths = [
            format!("--set=checkpoint.storage={uri}"),
            format!("--set=sink.by-minute.path={backend}/minutes"),
            format!("--set=sink.by-user.path={backend}/users"),
        ];
        let paths = paths.each_ref().map(String::as_str);
        let ended = folder.strandline(&[&["run", "demo/job.toml"], settings, &paths].concat());
        assert_eq!(ended.code(), 0, "{}{}", ended.stdout(), ended.stderr());
        article_equals_the_results_of_the_demo(&folder, &uri, &format!("demo/{backend}/users"));
    }
}

/// Runs where `STRANDLINE_TEST_S3` names a server that speaks the protocol of S3.
#[cfg(feature = "s3")]
#[test]
#[ignore = "needs a server that speaks the protocol of S3: make s3"]
fn the_statements_of_the_article_equal_a_scan_on_s3() {
    let uri = on_s3("sql");
    let folder = finished(SALES, &[&format!("--set=checkpoint.storage={uri}")]);
    article_equals_a_scan(&folder, &uri);
}
