//! `strandline run --serve`, and `strandline sql` of a running job.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Folder, Running, SALES};

/// The bytes of each row of the input.
const ROW: u64 = 11;

/// A job that goes on for long, with rows of equal length, and the URL of its state.
fn running(args: &[&str]) -> (Folder, Running, String) {
    let folder = Folder::new(&SALES.replace("parallelism = 2", "parallelism = 1"));
    let rows = (0..200_000u32).map(|n| format!("s,{:04},{}\n", n * 7919 % 1_000, 100 + n % 7));
    folder.write("sales.csv", &format!("shop,user,amount\n{}", rows.collect::<String>()));
    let mut job = folder.start(&[&["--set=source.rate=4000", "--serve=127.0.0.1:0"], args].concat());
    let served = job.wait_for("its address", |event| event["event"] == "serving");
    let url = served["url"].as_str().unwrap().to_owned();
    let deadline = Instant::now() + Duration::from_secs(60);
    // Nothing is counted at first.
    while printed(&folder, &[&url, "SELECT count(*) AS n FROM states", "--format=csv"]) == "n\n0\n" {
        assert!(Instant::now() < deadline);
    }
    (folder, job, url)
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

/// The visits in the state, and the rows before the position of the source, at one instant.
fn at_one_instant(folder: &Folder, url: &str) -> (u64, u64) {
    let text = "SELECT coalesce(sum(visits), 0) AS visits FROM \"by-user\"; SELECT position FROM sources";
    let lines = printed(folder, &[url, text, "--format=json"]);
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let visits = lines[0]["visits"].as_u64().unwrap();
    let positions = lines[1..].iter().map(|line| line["position"].as_str().unwrap());
    let splits = positions.filter_map(|position| {
        let digits = position.split_once("offset: ")?.1.chars().take_while(char::is_ascii_digit);
        digits.collect::<String>().parse::<u64>().ok()
    });
    let header = "shop,user,amount\n".len() as u64;
    (visits, splits.map(|offset| offset.saturating_sub(header) / ROW).sum())
}

#[test]
fn a_running_job_answers_with_the_state_of_one_instant() {
    let (folder, mut job, url) =
        running(&["--set=checkpoint.interval=50ms", "--set=checkpoint.retained=1000"]);
    let mut before = 0;
    for _ in 0..5 {
        let (visits, read) = at_one_instant(&folder, &url);
        assert_eq!(visits, read);
        assert!(visits >= before);
        before = visits;
        job.wait_for_checkpoints(1);
    }
    assert!(before > 0);
    let stored = job.wait_for_checkpoints(1);
    let query = format!("SELECT count(*) AS rows FROM \"sales@{stored}\".\"by-user\"");
    let rows = printed(&folder, &[&url, &query, "--format=csv"]);
    assert!(rows.starts_with("rows\n") && rows != "rows\n0\n", "{rows}");
    job.interrupt();
    assert_eq!(job.end().0, 0);
    let error = refused(&folder, &[&url, "SELECT 1"], 1);
    assert!(error.contains("no job answers"), "{error}");
}

#[test]
fn answers_of_a_running_job_are_printed_as_those_of_a_storage() {
    let (folder, job, url) = running(&[]);
    let create = "CREATE TABLE KeyedStateTable (KEY INT, VALUE INT) \
                  WITH ('connector' = 'keyed-state-source', 'key' = 'KEY', 'value' = 'VALUE');";
    let query =
        format!("{create} SELECT count(KEY) > 0 AS some FROM KeyedStateTable; SELECT 1 AS one WHERE 1 > 2");
    assert_eq!(printed(&folder, &[&url, &query, "--format=csv"]), "some\ntrue\none\n");
    assert_eq!(printed(&folder, &[&url, "SELECT 1 AS one, 'a' AS a"]), "one  a\n1    a\n");
    let arrow = folder.command(&["sql", &url, "SELECT 1 AS one", "--format=arrow"]).output().unwrap().stdout;
    let reader =
        strandline_state_sql::datafusion::arrow::ipc::reader::StreamReader::try_new(&arrow[..], None);
    assert_eq!(reader.unwrap().map(|batch| batch.unwrap().num_rows()).sum::<usize>(), 1);
    let error = refused(&folder, &[&url, "SELECT visits,\n  vists FROM \"by-user\""], 2);
    assert!(error.contains("2 |   vists FROM") && error.contains("  ^^^^^"), "{error}");
    let error = refused(&folder, &[&url, "SELECT * FROM \"by-user/grop\""], 2);
    assert!(error.contains("did you mean \"by-user/group\""), "{error}");
    let error = refused(&folder, &[&url, "SELECT * FROM \"sales@77\".\"by-user\""], 1);
    assert!(error.contains("no checkpoint"), "{error}");
    // Behind rows that have been sent.
    let late = "SELECT 1 AS one; SELECT 1 / (visits - visits) AS none FROM \"by-user\"";
    let error = refused(&folder, &[&url, late], 1);
    assert!(error.contains("zero"), "{error}");
    let error = refused(&folder, &[&url, "SELECT 1", "--checkpoint=3"], 2);
    assert!(error.contains("--checkpoint is for a storage"), "{error}");
    job.interrupt();
    assert_eq!(job.end().0, 0);
}

/// What an endpoint answers to a request as it stands.
fn answered(url: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn any_client_of_http_gets_lines_of_json_and_strangers_get_nothing() {
    any_client(&[]);
}

#[cfg(feature = "rocksdb")]
#[test]
fn a_job_on_rocksdb_answers_as_one_in_memory() {
    any_client(&["--set=state.backend=rocksdb", "--set=state.directory=state", "--set=state.memory=8388608"]);
}

fn any_client(args: &[&str]) {
    let (_folder, job, url) = running(args);
    let request = |host: &str, of: &str, text: &str| {
        let length = text.len();
        format!(
            "POST /sql HTTP/1.1\r\nHost: {host}\r\nContent-Type: {of}\r\nContent-Length: {length}\r\n\
             Connection: close\r\n\r\n{text}"
        )
    };
    let answer = answered(&url, &request("localhost", "application/sql", "SELECT 1 AS one; SELECT 2 AS two"));
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("{\"one\":1}\n") && answer.contains("{\"two\":2}\n"), "{answer}");
    let answer = answered(&url, &request("localhost", "application/sql", "SELECT one"));
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("\"column\":8"), "{answer}");
    for (host, of, code) in [
        ("localhost", "text/plain", "415"),
        ("example.org", "application/sql", "403"),
        ("localhost.example.org", "application/sql", "403"),
    ] {
        let answer = answered(&url, &request(host, of, "SELECT 1"));
        assert!(answer.starts_with(&format!("HTTP/1.1 {code}")), "{answer}");
    }
    let get = |path: &str| {
        answered(&url, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
    };
    let visits = |path: &str| -> Option<u64> {
        let answer = get(path);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let row: Value = serde_json::from_str(answer.lines().find(|line| line.starts_with('{'))?).unwrap();
        assert_eq!(row["user"], 0);
        row["visits"].as_u64()
    };
    // The first row of the input.
    let before = visits("/state/by-user/group?key=0").unwrap();
    assert!(before > 0 && visits("/state/by%2Duser/group?key=0").unwrap() >= before);
    assert_eq!(visits("/state/by-user/group?key=-8"), None);
    for (path, code) in [
        ("/state/by-user/group?key=x", "400"),
        ("/state/by-user/grop?key=1", "404"),
        ("/state/by-user?key=1", "400"),
        ("/state/by-user/group", "400"),
        ("/other", "404"),
    ] {
        let answer = get(path);
        assert!(answer.starts_with(&format!("HTTP/1.1 {code}")), "{path}: {answer}");
    }
    let long = request("localhost", "application/sql", &format!("SELECT 1 -- {}", "-".repeat(1 << 20)));
    assert!(answered(&url, &long).starts_with("HTTP/1.1 400"));
    let answer = answered(&url, "GET /sql HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
    job.interrupt();
    assert_eq!(job.end().0, 0);
}

#[test]
fn other_addresses_and_jobs_without_checkpoints_are_refused() {
    let folder = Folder::new(SALES);
    folder.write("sales.csv", "shop,user,amount\n");
    let run = |args: &[&str]| {
        let ended = folder.strandline(&[&["run", "job.toml"], args].concat());
        (ended.code(), ended.stderr())
    };
    let (code, error) = run(&["--serve=0.0.0.0:0"]);
    assert!(code == 2 && error.contains("STRANDLINE_TOKEN"), "{error}");
    let (code, error) = run(&["--serve=127.0.0.1:0", "--set=checkpoint.enabled=false"]);
    assert!(code == 2 && error.contains("--serve needs checkpoints"), "{error}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (code, error) = run(&[&format!("--serve={}", taken.local_addr().unwrap())]);
    assert!(code == 1 && error.contains("cannot be served"), "{error}");
}
