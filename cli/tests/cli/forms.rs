//! Forms of input: compressed files, timestamps, values deep in JSON, lines of logs; and expressions on them.

use std::fs;

use serde_json::Value;

use crate::support::Folder;

fn letters(folder: &Folder, path: &str) -> Vec<Value> {
    let mut letters: Vec<Value> =
        folder.results(path).iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    letters.sort_by_key(|letter| letter["line"].as_u64());
    letters
}

const LOG: &str = r#"
name = "log"
parallelism = 2
[source]
type = "regex"
path = "in"
pattern = '(?<ip>\S+) \S+ \S+ \[(?<time>[^\]]+)\] "(?<request>[^"]*)" (?<status>\d+) (?<bytes>\d+|-)'
columns = [
    "ip",
    { name = "time", type = "timestamp", format = "%d/%b/%Y:%H:%M:%S %z" },
    "status:int",
    "bytes",
    "request",
]
event_time = "time"
on_bad_record = "dead-letter"
dead_letters = "bad"
[[step]]
compute = ["cast(bytes as int) / (status - 100) as rate", "starts_with(request, 'GET') as get"]
[[step]]
filter = "get"
[[step]]
key_by = "status"
window = "1h"
aggregate = ["count", "max(time) as last", "sum(rate) as rate"]
[sink]
type = "csv"
path = "out"
[checkpoint]
storage = "ck"
"#;

#[test]
fn a_log_becomes_windows_and_what_fails_in_a_step_has_its_line() {
    let folder = Folder::new(LOG);
    let line = |time: &str, request: &str, status: u32, bytes: &str| {
        format!("10.0.0.1 - - [{time}] \"{request}\" {status} {bytes}\n")
    };
    let text = [
        line("02/Jan/2026:03:04:05 +0100", "GET /", 200, "1000"),
        line("02/Jan/2026:03:05:00 +0100", "POST /", 200, "77"),
        "no line of a log\n".to_owned(),
        line("02/Jan/2026:03:06:07 +0100", "GET /a", 200, "500"),
        line("02/Jan/2026:03:06:08 +0100", "GET /b", 100, "500"),
        line("02/Jan/2026:03:06:09 +0100", "GET /c", 200, "-"),
        line("02/Jan/2026:04:00:00 +0100", "GET /d", 404, "304"),
        line("02/Jxn/2026:04:00:00 +0100", "GET /d", 404, "304"),
    ]
    .concat();
    folder.write("in/access.log", &text);
    let report = folder.run(&[]);
    assert_eq!(
        folder.results("out"),
        [
            "200,2026-01-02T02:00:00Z,2026-01-02T03:00:00Z,2,2026-01-02T02:06:07Z,15",
            "404,2026-01-02T03:00:00Z,2026-01-02T04:00:00Z,1,2026-01-02T03:00:00Z,1",
        ]
    );
    let letters = letters(&folder, "bad");
    let found: Vec<_> = letters
        .iter()
        .map(|letter| {
            (letter["line"].as_u64().unwrap(), letter["column"].as_str(), letter["reason"].as_str().unwrap())
        })
        .collect();
    for ((line, column, reason), (wanted, in_column, part)) in found.iter().zip([
        (3, None, "does not match the pattern"),
        (5, Some("bytes"), "`cast(bytes as int) / (status - 100)` failed: 500 is divided by zero"),
        (6, Some("bytes"), "`cast(bytes as int)` failed: \"-\" is no int"),
        (8, Some("time"), "expected a timestamp as %d/%b/%Y:%H:%M:%S %z"),
    ]) {
        assert_eq!((*line, *column), (wanted, in_column), "{reason}");
        assert!(reason.contains(part), "{reason}");
    }
    assert_eq!(found.len(), 4);
    assert!(letters[1]["record"].as_str().unwrap().contains("GET /b"));
    assert_eq!(report["bad_records_kept"], 4, "{report}");
}

#[test]
fn a_failing_expression_ends_the_job_or_is_skipped_as_other_bad_records_are() {
    let folder = Folder::new(
        r#"
restart = { attempts = 0 }
source = { type = "csv", path = "in.csv", columns = ["a:int", "b:int"] }
step = [{ filter = "b <> 7" }, { project = ["a", "a / b as ratio"] }, { filter = "ratio > 0" }]
sink = { type = "csv", path = "out" }
"#,
    );
    folder.write("in.csv", "a,b\n8,2\n9,7\n1,0\n6,3\n1,9\n");
    let ended = folder.strandline(&["run", "job.toml"]);
    assert_eq!(ended.code(), 1);
    for part in ["column \"a\": `a / b` failed: 1 is divided by zero", "in.csv", "line 4", "column a"] {
        assert!(ended.stderr().contains(part), "{part}: {}", ended.stderr());
    }
    let report = folder.run(&["--set=source.on_bad_record=skip"]);
    assert_eq!(folder.results("out"), ["6,2", "8,4"]);
    assert_eq!(report["bad_records_skipped"], 1, "{report}");
}

#[test]
fn values_deep_in_json_become_columns_and_come_out_as_they_were() {
    let folder = Folder::new(
        r#"
[source]
type = "json"
path = "in"
columns = [
    { name = "user", type = "int?", path = "user.id" },
    { name = "first", path = "items[0].name", type = "text?" },
    { name = "odd", path = ["a.b", 1], type = "float?" },
    { name = "at", type = "timestamp", format = "ms", path = "meta.at" },
]
[sink]
type = "json"
path = "out"
"#,
    );
    let line = r#"{"user":{"id":7},"items":[{"name":"x"}],"a.b":[0,1.5],"meta":{"at":1767322800123}}"#;
    folder.write("in/a.jsonl", &format!("{line}\n{{\"user\":null,\"meta\":{{\"at\":0}}}}\n"));
    folder.run(&[]);
    assert_eq!(
        folder.results("out"),
        [
            r#"{"user":7,"first":"x","odd":1.5,"at":"2026-01-02T03:00:00.123Z"}"#,
            r#"{"user":null,"first":null,"odd":null,"at":"1970-01-01T00:00:00Z"}"#,
        ]
    );
    // What came out goes in again.
    let job = "source = { type = 'json', path = 'out', \
               columns = ['user:int?', 'first:text?', 'odd:float?', 'at:timestamp'] }\n\
               sink = { type = 'json', path = 'again' }";
    folder.write("job.toml", job);
    folder.run(&[]);
    assert_eq!(folder.results("again"), folder.results("out"));
}

const SUMS: &str = r#"
name = "sums"
parallelism = 2
[source]
type = "csv"
path = "in"
split_size = "4 KiB"
columns = ["time:timestamp", "user", "n:int"]
event_time = "time"
[[step]]
key_by = "user"
window = "1m"
aggregate = ["sum(n) as total"]
[sink]
type = "csv"
path = "out"
[checkpoint]
storage = "ck"
interval = "20ms"
"#;

/// Three files with the same content, one in each form, give three times the sums, also where the job is
/// stopped in between.
#[test]
fn compressed_files_count_as_the_text_in_them_over_stops_and_rescales() {
    let mut text = String::from("time,user,n\n");
    for i in 0..20_000u32 {
        text +=
            &format!("2026-01-01T{:02}:{:02}:{:02}Z,u{},{}\n", i / 3600, i / 60 % 60, i % 60, i % 3, i % 11);
    }
    let gzip = |chunk: &[u8]| {
        use std::io::Write;
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(chunk).unwrap();
        encoder.finish().unwrap()
    };
    let results = |names: &[&str], stops: bool| {
        let folder = Folder::new(SUMS);
        fs::create_dir(folder.path("in")).unwrap();
        for name in names {
            let bytes: Vec<u8> = match name.rsplit_once('.').unwrap().1 {
                "gz" => text.as_bytes().chunks(100_000).flat_map(gzip).collect(),
                "zst" => {
                    text.as_bytes().chunks(70_001).flat_map(|it| zstd::encode_all(it, 1).unwrap()).collect()
                }
                _ => text.clone().into_bytes(),
            };
            fs::write(folder.path("in").join(name), bytes).unwrap();
        }
        if stops {
            for parallelism in ["2", "1", "3"] {
                let mut job = folder.start(&["--set=source.rate=20000", "--parallelism", parallelism]);
                job.wait_for_checkpoints(2);
                job.kill();
            }
        }
        let report = folder.run(&["--parallelism=2"]);
        assert_eq!(report["late_dropped"], 0, "{report}");
        folder.results("out")
    };
    let wanted = results(&["a.csv", "b.csv", "c.csv"], false);
    assert_eq!(wanted.len(), 3 * 334);
    assert_eq!(results(&["a.csv", "b.csv.gz", "c.csv.zst"], false), wanted);
    assert_eq!(results(&["a.csv.gz", "b.csv.gz", "c.csv.zst"], true), wanted);
}

#[test]
fn a_truncated_file_is_named_with_the_place() {
    let folder = Folder::new(SUMS);
    fs::create_dir(folder.path("in")).unwrap();
    let text: String = (0..50_000u32).map(|i| format!("2026-01-01T00:00:00Z,u{},{i}\n", i % 3)).collect();
    let packed = zstd::encode_all(format!("time,user,n\n{text}").as_bytes(), 1).unwrap();
    fs::write(folder.path("in/a.csv.zst"), &packed[..packed.len() / 2]).unwrap();
    let ended = folder.strandline(&["run", "job.toml"]);
    assert_eq!(ended.code(), 1);
    for part in ["compressed by zstd, ends early", "a.csv.zst", "decompressed byte", "compressed byte"] {
        assert!(ended.stderr().contains(part), "{part}: {}", ended.stderr());
    }
}

const STREAM: &str = r#"
name = "stream"
restart = { attempts = 0 }
source = { type = "csv", path = "-", columns = ["user", "n:int"] }
step = [{ key_by = "user", aggregate = ["count", "sum(n) as total"] }]
sink = { type = "csv", path = "out" }
checkpoint = { storage = "ck", interval = "20ms" }
"#;

#[test]
fn standard_input_is_a_stream_that_goes_on_only_where_it_comes_again() {
    let text = |first: u32| -> Vec<u8> {
        let rows = (first..first + 30_000).map(|i| format!("u{},{i}\n", i % 2));
        std::iter::once("user,n\n".to_owned()).chain(rows).flat_map(String::into_bytes).collect()
    };
    let wanted = ["u0,15000,224985000", "u1,15000,225000000"];
    let run = ["run", "job.toml"];
    for input in [text(0), zstd::encode_all(text(0).as_slice(), 1).unwrap()] {
        let folder = Folder::new(STREAM);
        let ended = folder.piped(&run, input);
        assert_eq!(ended.code(), 0, "{}", ended.stderr());
        assert!(ended.stderr().contains("the input is a stream"), "{}", ended.stderr());
        assert_eq!(folder.results("out"), wanted);
        let ended = folder.piped(&run, Vec::new());
        assert_eq!(ended.code(), 0, "nothing is left to do: {}", ended.stderr());
    }
    // A record in the middle ends the job behind some checkpoints.
    let folder = Folder::new(STREAM);
    let half = text(0).len() / 2;
    let mut broken = text(0);
    broken.splice(half.., *b"x\n");
    let ended = folder.piped(&[&run[..], &["--set=source.rate=30000"]].concat(), broken);
    assert_eq!(ended.code(), 1, "{}", ended.stderr());
    let ended = folder.piped(&run, text(7));
    assert!(ended.code() == 1 && ended.stderr().contains("the stream is not the one"), "{}", ended.stderr());
    let ended = folder.piped(&run, text(0));
    assert_eq!(ended.code(), 0, "{}", ended.stderr());
    assert_eq!(folder.results("out"), wanted);

    for (set, part) in [
        ("--set=source={type='csv',path='-'}", "the header of a stream is not known"),
        ("--set=source={type='text',path='-',follow=true}", "a stream is not followed"),
    ] {
        let ended = folder.piped(&["run", "job.toml", set], Vec::new());
        assert!(ended.code() == 2 && ended.stderr().contains(part), "{}", ended.stderr());
    }
}

/// Runs where `STRANDLINE_TEST_S3` names a server that speaks the protocol of S3.
#[cfg(feature = "s3")]
#[test]
#[ignore = "needs a server that speaks the protocol of S3: make s3"]
fn objects_are_read_and_written_over_kills_on_s3() {
    let name = format!("inputs-{}", fastrand::u64(..));
    let uri = std::env::var("STRANDLINE_TEST_S3").unwrap().replace("{}", &name);
    let folder = Folder::new(&SUMS.replace("path = \"in\"", &format!("path = \"{uri}\"")));
    let store = {
        let (place, query) = uri.split_once('?').unwrap();
        strandline_checkpoint_storage::ObjectStore::open(&format!(
            "{}?{query}",
            place.trim_end_matches(&format!("/{name}"))
        ))
        .unwrap()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let text = |first: u32| {
        let row =
            |i: u32| format!("2026-01-01T{:02}:{:02}:{:02}Z,u{},1\n", i / 3600, i / 60 % 60, i % 60, i % 3);
        "time,user,n\n".to_owned() + &(first..first + 9_000).map(row).collect::<String>()
    };
    let put = |key: &str, bytes: Vec<u8>| {
        let key = format!("{name}/{key}");
        runtime.block_on(strandline_checkpoint_storage::BlobStore::put(&store, &key, bytes.into())).unwrap();
    };
    put("a.csv", text(0).into_bytes());
    put("b.csv.zst", zstd::encode_all(text(9_000).as_bytes(), 1).unwrap());
    let output = format!("--set=sink.path={}", uri.replace(&name, &format!("{name}/out")));
    for parallelism in ["2", "1"] {
        let mut job = folder.start(&["--set=source.rate=9000", "--parallelism", parallelism, &output]);
        job.wait_for_checkpoints(2);
        job.kill();
    }
    let checked = folder.strandline(&["check", "job.toml", &output]);
    assert!(checked.stdout().contains("the store answers"), "{}{}", checked.stdout(), checked.stderr());
    folder.run(&[&output]);
    let get = |key: String| {
        let len = runtime.block_on(store.look_up(&key)).unwrap().unwrap().len;
        let read = strandline_checkpoint_storage::BlobStore::read(&store, &key, 0..len);
        String::from_utf8(runtime.block_on(read).unwrap().to_vec()).unwrap()
    };
    let names = runtime.block_on(store.list_objects(&format!("{name}/out"))).unwrap();
    let names: Vec<_> = names.into_iter().map(|(name, _)| name).collect();
    assert!(!names.iter().any(|name| name.ends_with(".inprogress")), "{names:?} were left behind");
    let finished = names.iter().filter(|name| name.starts_with("part-"));
    let results: Vec<_> = finished.map(|object| get(format!("{name}/out/{object}"))).collect();
    let results: Vec<_> = results.iter().flat_map(|text| text.lines()).collect();
    let total: u32 =
        results.iter().map(|line| line.rsplit_once(',').unwrap().1.parse::<u32>().unwrap()).sum();
    assert_eq!((results.len(), total), (900, 18_000));

    let ended = folder.strandline(&["run", "job.toml", &output, "--set=name=another", "--from=none"]);
    assert_ne!(ended.code(), 0);
    assert!(ended.stderr().contains("another job"), "{}", ended.stderr());
    let ended = folder.strandline(&["run", "job.toml", &format!("--set=sink.path={uri}")]);
    assert_eq!(ended.code(), 2);
    assert!(ended.stderr().contains("read its own results"), "{}", ended.stderr());
}
