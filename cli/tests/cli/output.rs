//! What the program prints, and for whom.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::{Folder, ORDERS_JOB, Orders};

fn orders(count: i64) -> Folder {
    let folder = Folder::new(ORDERS_JOB);
    folder.write("orders.csv", &Orders::new(count, 3).csv);
    folder
}

/// A reader that goes away ends the program quietly, with the code that a shell gives.
#[test]
fn a_reader_that_goes_away_ends_the_program_quietly() {
    let folder = orders(20_000);
    for args in [
        // The only checkpoint is the last: on a busy machine it may overtake a periodic one, which is reported.
        &[
            "run",
            "job.toml",
            "--progress=none",
            "--set=sink={type=\"stdout\"}",
            "--set=checkpoint.interval=off",
        ][..],
        &[
            "run",
            "job.toml",
            "--progress=none",
            "--set=sink={type=\"stdout\"}",
            "--set=checkpoint.enabled=false",
        ],
        &["schema", "--reference"],
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_strandline"));
        command.current_dir(folder.path("")).args(args).stdin(Stdio::null());
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(process.stdout.take());
        let mut stderr = String::new();
        process.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        assert_eq!(process.wait().unwrap().code(), Some(141), "{args:?}: {stderr}");
        assert_eq!(stderr, "", "{args:?}");
    }
}

#[test]
fn lines_have_a_time_where_nobody_watches() {
    let folder = orders(2_000);
    let ended = folder.strandline(&["run", "job.toml"]);
    assert_eq!(ended.code(), 0);
    assert!(!ended.stderr().contains('\u{1b}'), "colours are for terminals: {}", ended.stderr());
    for line in ended.stderr().lines() {
        let (time, rest) = line.split_once(' ').unwrap();
        assert!(time.len() == 20 && time.ends_with('Z') && rest.starts_with("orders: "), "{line}");
    }
    assert!(ended.stderr().contains("2,000 records read in"), "{}", ended.stderr());
}

#[test]
fn nobody_is_sent_to_a_checkpoint_that_is_not_there() {
    let folder = orders(30_000);
    let stop = |args: &[&str]| {
        let mut running = folder.start(args);
        running.wait_for("progress", |event| event["read"].as_u64() > Some(0));
        running.interrupt();
        let (code, report) = running.end();
        assert_eq!((code, report["outcome"].as_str()), (0, Some("stopped")));
    };
    let mut command = Command::new(env!("CARGO_BIN_EXE_strandline"));
    let set = ["--set=checkpoint.enabled=false", "--set=source.rate=20000", "--set=sink={type=\"discard\"}"];
    command.current_dir(folder.path("")).args(["run", "job.toml", "--progress=plain"]).args(set);
    let mut process = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(process.stderr.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.next().unwrap().contains("started from the beginning"));
    Command::new("kill").args(["-INT", &process.id().to_string()]).status().unwrap();
    let rest: Vec<_> = lines.collect();
    process.wait().unwrap();
    let rest = rest.join("\n");
    assert!(rest.contains("stopping; press Ctrl-C again"), "{rest}");
    assert!(rest.contains("there is no checkpoint, so a later run starts from the beginning"), "{rest}");

    stop(&["--set=source.rate=20000"]);
    let ended = folder.strandline(&["run", "job.toml"]);
    assert!(ended.stderr().contains("started from checkpoint"), "{}", ended.stderr());
}

/// Progress knows how much of the input there is, and a restart reads nothing twice as far as it counts.
#[test]
fn progress_knows_the_input() {
    let folder = orders(20_000);
    let mut running = folder.start(&["--set=source.rate=20000"]);
    let (mut last, mut watermarks) = (Value::Null, 0);
    while let Some(event) = running.event() {
        if event["event"] == "progress" {
            let (done, total) = (event["input_done"].as_u64(), event["input_total"].as_u64());
            assert!(done <= total && event["read"].as_u64() <= Some(20_000), "{event}");
            watermarks += u32::from(event["watermark_ms"].is_i64());
            last = event;
        }
    }
    let length = std::fs::metadata(folder.path("orders.csv")).unwrap().len();
    assert_eq!(last["input_total"].as_u64(), Some(length), "{last}");
    assert!(watermarks > 0, "{last}");
    let (code, report) = running.end();
    assert_eq!((code, report["records"].as_u64()), (0, Some(20_000)));
}

#[test]
fn checkpoints_are_listed_as_json() {
    let folder = orders(2_000);
    folder.run(&[]);
    let json = |args: &[&str]| -> Value {
        let ended = folder.strandline(args);
        assert_eq!(ended.code(), 0, "{args:?}: {}{}", ended.stdout(), ended.stderr());
        serde_json::from_str(&ended.stdout()).unwrap()
    };
    let list = json(&["checkpoints", "list", "checkpoints", "--json"]);
    assert_eq!(list["job"], "orders");
    let newest = list["checkpoints"].as_array().unwrap().last().unwrap();
    assert_eq!((newest["kind"].as_str(), newest["operators"]["group-1"].as_u64()), (Some("final"), Some(2)));
    let verified = json(&["checkpoints", "--json", "verify", "checkpoints"]);
    assert!(
        verified["checkpoints"].as_array().unwrap().iter().all(|it| it["outcome"] == "good"),
        "{verified}"
    );
    let compat = json(&["checkpoints", "compat", "checkpoints", "job.toml", "--json"]);
    assert_eq!(compat["outcome"], "can-be-restored");
    let swept = json(&["checkpoints", "sweep", "checkpoints", "--dry-run", "--json"]);
    assert!(swept["deleted"].is_array(), "{swept}");
    let ended = folder.strandline(&["checkpoints", "list", "nowhere", "--json"]);
    let failed: Value = serde_json::from_str(&ended.stdout()).unwrap();
    assert_eq!((ended.code(), failed["outcome"].as_str()), (1, Some("failed")));
}

#[test]
fn the_program_documents_itself() {
    let folder = Folder::new("");
    for shell in ["bash", "zsh", "fish"] {
        let ended = folder.strandline(&["completions", shell]);
        assert!(ended.code() == 0 && ended.stdout().contains("allow-orphan"), "{shell}");
    }
    let ended = folder.strandline(&["man", "pages"]);
    assert_eq!(ended.code(), 0, "{}", ended.stderr());
    for page in ["strandline.1", "strandline-run.1", "strandline-checkpoints-list.1"] {
        let text = std::fs::read_to_string(folder.path("pages").join(page)).unwrap();
        assert!(text.contains(".TH"), "{page}");
    }
    let help = folder.strandline(&["--help"]).stdout();
    for variable in ["STRANDLINE_LOG", "RUST_LOG", "NO_COLOR", "AWS_SECRET_ACCESS_KEY"] {
        assert!(help.contains(variable), "{variable}: {help}");
    }
    let schema: Value = serde_json::from_str(&folder.strandline(&["schema", "--editor"]).stdout()).unwrap();
    assert!(schema["properties"]["source"].is_object());
    assert_eq!(folder.strandline(&["schema"]).code(), 2);
}
