//! One bad row among good ones: what it does to a job.

use std::fs;

use serde_json::Value;

use crate::support::Folder;

const WINDOWS: &str = r#"
source = { type = "csv", path = "in.csv", columns = ["time:uint", "user", "n:int"], event_time = "time" }
step = [{ key_by = "user", window = "1m", aggregate = "count" }]
sink = { type = "csv", path = "out" }
checkpoint = { storage = "checkpoints" }
"#;

/// Times that a column holds and a window does not, in each column type.
#[test]
fn an_event_time_out_of_range_is_a_bad_record() {
    for (kind, time) in [
        ("uint", u64::MAX.to_string()),
        ("uint", (i64::MAX as u64 + 1).to_string()),
        ("int", i64::MIN.to_string()),
        ("int", (i64::MIN + 1).to_string()),
        ("int", i64::MAX.to_string()),
    ] {
        let folder = Folder::new(&WINDOWS.replace("time:uint", &format!("time:{kind}")));
        folder.write("in.csv", &format!("time,user,n\n1000,a,1\n{time},x,1\n61000,b,1\n"));
        let ended = folder.strandline(&["run", "job.toml"]);
        assert_eq!(ended.code(), 1);
        for part in ["event time", "in.csv", "line 3", "column time", &time] {
            assert!(ended.stderr().contains(part), "{part}: {}", ended.stderr());
        }
        assert!(!ended.stderr().contains("restart"), "nothing is tried again: {}", ended.stderr());
        let report = folder.run(&["--set=source.on_bad_record=skip"]);
        assert_eq!(report["bad_records_skipped"], 1, "{kind} {time}");
        assert_eq!(folder.results("out"), ["a,0,60000,1", "b,60000,120000,1"]);
    }
}

#[test]
fn dead_letters_are_results_too() {
    let folder = Folder::new(
        r#"
        parallelism = 2
        checkpoint = { storage = "checkpoints", interval = "20ms" }
        [source]
        type = "csv"
        path = "in"
        split_size = "1KiB"
        columns = ["time:int", "n:int"]
        event_time = "time"
        on_bad_record = "dead-letter"
        dead_letters = "bad"
        [[step]]
        filter = "n >= 0"
        [sink]
        type = "csv"
        path = "out"
        "#,
    );
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for file in 0..3 {
        let mut text = String::from("time,n\n");
        for i in 0..3_000 {
            let n = file * 3_000 + i;
            let (line, wrong) = match n % 100 {
                7 => (format!("{n},x{n}"), Some("n")),
                8 => (format!("9223372036854775807,{n}"), Some("time")),
                9 => (format!("{n}"), None),
                _ => (format!("{n},{n}"), None),
            };
            match n % 100 {
                7..=9 => bad.push((i + 2, line.clone(), wrong)),
                _ => good.push(line.clone()),
            }
            text += &line;
            text.push('\n');
        }
        folder.write(&format!("in/{file}.csv"), &text);
    }
    // It is killed in mid-stream and resumes, so that letters are exactly once, too.
    let mut running = folder.start(&["--set=source.rate=6000"]);
    running.wait_for_checkpoints(3);
    running.kill();
    let report = folder.run(&["--parallelism=3"]);
    assert_eq!(report["bad_records_kept"], 270);
    good.sort_unstable();
    assert_eq!(folder.results("out"), good);
    let letters: Vec<Value> =
        folder.results("bad").iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut found: Vec<_> = letters
        .iter()
        .map(|letter| {
            assert!(letter["file"].as_str().unwrap().ends_with(".csv") && letter["reason"].is_string());
            let (line, record) = (letter["line"].as_i64().unwrap(), letter["record"].as_str().unwrap());
            (line, record.to_owned(), letter["column"].as_str())
        })
        .collect();
    found.sort_unstable();
    bad.sort_unstable();
    assert_eq!(found, bad);
}

const SUMS: &str = r#"
source = { type = "csv", path = "in.csv", columns = ["k", "x:int"] }
step = [{ key_by = "k", aggregate = ["sum(x)", "avg(x)"] }]
sink = { type = "csv", path = "out" }
restart = { attempts = 5, initial_delay = "1ms" }
"#;

#[test]
fn sums_do_not_depend_on_the_order_and_means_do_not_overflow() {
    let folder = Folder::new(SUMS);
    for (i, order) in [["9223372036854775807", "5", "-5", "-1"], ["-5", "-1", "5", "9223372036854775807"]]
        .iter()
        .enumerate()
    {
        let rows: String = order.iter().map(|n| format!("P,{n}\n")).collect();
        folder.write(
            "in.csv",
            &format!("k,x\n{rows}a,9223372036854775807\na,9223372036854775806\na,-9223372036854775807\n"),
        );
        let out = format!("out{i}");
        folder.run(&[&format!("--set=sink.path={out}")]);
        assert_eq!(folder.results(&out)[0].split(',').nth(1), Some("9223372036854775806"));
        assert_eq!(folder.results(&out)[1].split(',').nth(1), Some("9223372036854775806"));
    }
    folder.write("in.csv", "k,x\na,9223372036854775807\na,9223372036854775807\n");
    folder.run(&["--set=step=[{key_by=\"k\",aggregate=\"avg(x)\"}]", "--set=sink.path=mean"]);
    assert_eq!(folder.results("mean"), ["a,9223372036854776000"]);
}

#[test]
fn a_sum_that_its_column_cannot_hold_names_its_key() {
    for emit in ["end", "changes"] {
        let folder = Folder::new(&SUMS.replace("\"avg(x)\"]", &format!("\"avg(x)\"], emit = \"{emit}\"")));
        folder.write("in.csv", "k,x\ngood,1\nbad key,9223372036854775807\nbad key,1\n");
        let ended = folder.strandline(&["run", "job.toml"]);
        assert_eq!(ended.code(), 1);
        for part in ["column \"x\"", "9223372036854775808", "key bad key", "operator group-1"] {
            assert!(ended.stderr().contains(part), "{part}: {}", ended.stderr());
        }
        assert!(!ended.stderr().contains("restart"), "nothing is tried again: {}", ended.stderr());
        fs::remove_dir_all(folder.path("out")).unwrap();
        let report = folder.run(&["--set=source.on_bad_record=skip"]);
        assert_eq!(report["results_left_out"], 1);
        assert!(folder.results("out").contains(&"good,1,1".to_owned()));
    }
}
