//! Inputs of many files: event time over them, and what happens when they are archived, renamed, replaced or
//! added to.

use std::collections::BTreeMap;
use std::fs;

use crate::support::{Folder, assert_same};

const WINDOWS: &str = r#"
name = "partitions"
parallelism = 2
[source]
type = "csv"
path = "in"
columns = ["time:int", "user", "n:int"]
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

/// Rows of a file, and what windows of a minute sum up to.
#[derive(Default)]
struct Rows {
    sums: BTreeMap<(String, i64), i64>,
}

impl Rows {
    fn file(&mut self, rows: impl Iterator<Item = (i64, usize)>) -> String {
        let mut text = String::from("time,user,n\n");
        for (time, user) in rows {
            let user = format!("u{user}");
            text += &format!("{time},{user},1\n");
            *self.sums.entry((user, time.div_euclid(60_000) * 60_000)).or_default() += 1;
        }
        text
    }

    fn lines(&self) -> Vec<String> {
        let line =
            |((user, start), sum): (&(String, i64), &i64)| format!("{user},{start},{},{sum}", start + 60_000);
        let mut lines: Vec<_> = self.sums.iter().map(line).collect();
        lines.sort_unstable();
        lines
    }
}

#[test]
fn files_over_the_same_time_give_the_same_windows_at_every_parallelism_and_over_a_rescale() {
    let folder = Folder::new(WINDOWS);
    let mut rows = Rows::default();
    for partition in 0..2i64 {
        let of = (0..6_000).map(|i| (i * 100 + partition, (i as usize * 7 + partition as usize) % 5));
        folder.write(&format!("in/partition-{partition}.csv"), &rows.file(of));
    }
    let start_again = |args: &[&str]| {
        for name in ["out", "ck"] {
            let _ = fs::remove_dir_all(folder.path(name));
        }
        folder.run(args)
    };
    for parallelism in ["--parallelism=1", "--parallelism=2", "--parallelism=5"] {
        let report = start_again(&[parallelism]);
        assert_same(&folder.results("out"), &rows.lines(), parallelism);
        assert_eq!((&report["late_dropped"], &report["behind_watermark"]), (&0.into(), &0.into()));
    }
    for (before, after) in [(2, 1), (1, 3)] {
        for name in ["out", "ck"] {
            fs::remove_dir_all(folder.path(name)).unwrap();
        }
        let mut job = folder.start(&["--set=source.rate=3000", &format!("--parallelism={before}")]);
        job.wait_for_checkpoints(2);
        job.interrupt();
        let (code, report) = job.end();
        assert_eq!((code, &report["outcome"]), (0, &"stopped".into()), "it was still reading");
        folder.run(&[&format!("--parallelism={after}")]);
        assert_same(&folder.results("out"), &rows.lines(), &format!("from {before} to {after}"));
    }
}

#[test]
fn names_with_numbers_need_no_zeros() {
    let folder = Folder::new(WINDOWS);
    let mut rows = Rows::default();
    for day in 1..=12i64 {
        let of = (0..500).map(|i| ((day - 1) * 86_400_000 + i * 1_000, i as usize % 5));
        folder.write(&format!("in/day-{day}.csv"), &rows.file(of));
    }
    for parallelism in ["--parallelism=1", "--parallelism=4"] {
        for name in ["out", "ck"] {
            let _ = fs::remove_dir_all(folder.path(name));
        }
        folder.run(&[parallelism]);
        assert_same(&folder.results("out"), &rows.lines(), parallelism);
    }
    // Without windows the order of the rows is the order of the files.
    let by_name = Folder::new(
        r#"
        source = { type = "csv", path = "in", columns = ["day:int"] }
        sink = { type = "stdout" }
        "#,
    );
    for day in [10, 9, 1, 2] {
        by_name.write(&format!("in/day-{day}.csv"), &format!("day\n{day}\n"));
    }
    assert_eq!(by_name.strandline(&["run", "job.toml"]).stdout(), "1\n2\n9\n10\n");
}

#[test]
fn late_rows_are_warned_of_by_operator_and_go_to_their_own_sink() {
    let late = "[late]\ntype = \"csv\"\npath = \"late\"\n";
    let folder = Folder::new(&format!("{WINDOWS}{late}"));
    folder.write("in/a.csv", "time,user,n\n1000,a,1\n200000,a,2\n2000,a,4\n3000,b,8\n199000,a,16\n");
    let args = ["run", "job.toml", "--parallelism=1", "--set=batch_size=1", "--progress=none"];
    let ended = folder.strandline(&args);
    assert_eq!(ended.code(), 0, "{}", ended.stderr());
    assert_eq!(folder.results("out"), ["a,0,60000,1", "a,180000,240000,18"]);
    assert_eq!(folder.results("late"), ["2000,a,4", "3000,b,8"]);
    let warning = "2 records came to group-1 after their window had closed";
    assert!(ended.stderr().contains(warning), "{}", ended.stderr());

    let two = WINDOWS.replace("[sink]", "[[step]]\nfilter = \"total > 0\"\n[sink]");
    let without = Folder::new(&format!("{}{late}", two.replace("window = \"1m\"\n", "")));
    let ended = without.strandline(&["run", "job.toml"]);
    assert_eq!(ended.code(), 2);
    assert!(ended.stderr().contains("needs one step with a window"), "{}", ended.stderr());
}

const TOTALS: &str = r#"
name = "landing"
restart = { attempts = 0 }
[source]
type = "csv"
path = "in"
columns = ["user", "n:int"]
[[step]]
key_by = "user"
aggregate = ["sum(n) as total"]
[sink]
type = "csv"
path = "out"
[checkpoint]
storage = "ck"
interval = "20ms"
"#;

fn rows(user: &str, count: usize) -> String {
    format!("user,n\n{}", format!("{user},1\n").repeat(count))
}

/// Stops the job while it reads the second of two files.
fn stopped_in_the_second_file() -> Folder {
    let folder = Folder::new(TOTALS);
    folder.write("in/a.csv", &rows("aa", 100));
    folder.write("in/b.csv", &rows("bb", 1_000));
    let mut job = folder.start(&["--set=source.rate=1000"]);
    job.wait_for("the second file", |event| {
        event["event"] == "progress" && event["read"].as_u64() > Some(200)
    });
    job.interrupt();
    let (code, report) = job.end();
    assert_eq!((code, &report["outcome"]), (0, &"stopped".into()));
    folder
}

#[test]
fn a_file_that_was_read_whole_may_be_archived_and_come_back() {
    let folder = stopped_in_the_second_file();
    fs::rename(folder.path("in/a.csv"), folder.path("a.csv")).unwrap();
    folder.run(&[]);
    assert_eq!(folder.results("out"), ["aa,100", "bb,1000"]);
    fs::copy(folder.path("a.csv"), folder.path("in/a.csv")).unwrap();
    let ended = folder.strandline(&["run", "job.toml"]);
    assert!(ended.stderr().contains("nothing to do"), "{}", ended.stderr());
    folder.write("in/c.csv", &rows("cc", 10));
    let ended = folder.strandline(&["run", "job.toml", "--progress=none"]);
    assert_eq!(ended.code(), 0);
    assert!(ended.stderr().contains("1 new file is not read (c.csv)"), "{}", ended.stderr());
    assert_eq!(folder.results("out"), ["aa,100", "bb,1000"]);
    let report = folder.run(&["--set=source.follow=true"]);
    assert_eq!((&report["read"]["source"], &report["outcome"]), (&10.into(), &"finished".into()));
    assert_eq!(folder.results("out"), ["aa,100", "aa,100", "bb,1000", "bb,1000", "cc,10"]);
    let report = folder.run(&["--set=source.follow=true"]);
    assert_eq!(report["outcome"], "already-finished");
}

#[test]
fn a_renamed_file_is_read_on_and_a_replaced_one_is_refused() {
    let folder = stopped_in_the_second_file();
    fs::rename(folder.path("in/b.csv"), folder.path("in/0.csv")).unwrap();
    folder.run(&[]);
    assert_eq!(folder.results("out"), ["aa,100", "bb,1000"]);
    for (user, count) in [("zz", 1_000), ("yyyy", 1_500), ("w", 5_000)] {
        let folder = stopped_in_the_second_file();
        folder.write("in/b.csv", &rows(user, count));
        let ended = folder.strandline(&["run", "job.toml"]);
        assert_eq!(ended.code(), 1, "{user}");
        for part in ["is not the one that the checkpoint was taken of", "in/b.csv", "bb,1", user] {
            assert!(ended.stderr().contains(part), "{part}: {}", ended.stderr());
        }
    }
    let folder = stopped_in_the_second_file();
    fs::remove_file(folder.path("in/b.csv")).unwrap();
    let ended = folder.strandline(&["run", "job.toml"]);
    assert!(ended.stderr().contains("was read in part is gone"), "{}", ended.stderr());
}

#[test]
fn a_source_that_reads_in_another_way_is_refused() {
    let folder = stopped_in_the_second_file();
    for change in ["--set=source.header=false", "--set=source.quoted_newlines=true", "--set=source.type=json"]
    {
        let ended = folder.strandline(&["run", "job.toml", change]);
        assert_eq!(ended.code(), 1, "{change}: {}", ended.stderr());
        assert!(ended.stderr().contains("reads its files in another way"), "{}", ended.stderr());
    }
    let keys = TOTALS
        .replace(
            "type = \"csv\"\npath = \"in\"\ncolumns = [\"user\", \"n:int\"]",
            "type = \"keys\"\nrecords = 5",
        )
        .replace("\"user\"", "\"key\"")
        .replace("sum(n) as total", "count");
    folder.write("job.toml", &keys);
    let ended = folder.strandline(&["run", "job.toml"]);
    assert_eq!(ended.code(), 1);
    assert!(ended.stderr().contains("REFUSED"), "{}", ended.stderr());
    folder.write("job.toml", TOTALS);
    folder.run(&[]);
    assert_eq!(folder.results("out"), ["aa,100", "bb,1000"]);
}

#[test]
fn a_job_that_watches_reads_what_arrives_and_closes_windows_when_it_is_quiet() {
    let watching = WINDOWS.replace("event_time", "watch = \"20ms\"\nidle_timeout = \"50ms\"\nevent_time");
    let folder = Folder::new(&watching);
    let mut rows = Rows::default();
    let minute = |minute: i64| (0..100).map(move |i| (minute * 60_000 + i * 600, i as usize % 3));
    folder.write("in/1.csv", &rows.file(minute(0)));
    let mut job = folder.start(&[]);
    job.wait_for("the first file", |event| {
        event["event"] == "progress" && event["emitted"] == 0 && event["read"] == 100
    });
    for file in 2..6i64 {
        folder.write("next.csv", &rows.file(minute(file - 1)));
        fs::rename(folder.path("next.csv"), folder.path(&format!("in/{file}.csv"))).unwrap();
        // The file closes the windows of the minute before.
        let emitted = 3 * (file as u64 - 1);
        job.wait_for("windows", |event| {
            event["event"] == "progress" && event["emitted"].as_u64() >= Some(emitted)
        });
    }
    job.interrupt();
    let (code, report) = job.end();
    assert_eq!((code, &report["outcome"], &report["late_dropped"]), (0, &"stopped".into(), &0.into()));
    // The last windows wait for more rows until the input ends.
    folder.write("job.toml", WINDOWS);
    let report = folder.run(&["--parallelism=3"]);
    assert_eq!(report["read"]["source"], 0);
    assert_same(&folder.results("out"), &rows.lines(), "at the end");
}

#[test]
fn many_small_files_are_resumed_in_about_the_time_of_a_start() {
    let folder = Folder::new(TOTALS);
    for i in 0..3_000 {
        folder.write(&format!("in/orders-{i}.csv"), &rows(&format!("u{}", i % 7), 1));
    }
    let mut job = folder.start(&["--set=source.rate=4000"]);
    job.wait_for("a third", |event| event["event"] == "progress" && event["read"].as_u64() > Some(1_000));
    job.interrupt();
    let (code, report) = job.end();
    assert_eq!(code, 0);
    let last = report["checkpoints"].as_array().unwrap().last().unwrap();
    let bytes = last["bytes_written"].as_u64().unwrap();
    assert!((3_000..20 * 3_000).contains(&bytes), "{bytes} bytes: all positions count, and are small");
    folder.run(&[]);
    let wanted: Vec<_> = (0..7).map(|user| format!("u{user},{}", (3_000 - user + 6) / 7)).collect();
    assert_eq!(folder.results("out"), wanted);
}

#[test]
fn a_wide_job_runs_and_the_limit_is_the_same_everywhere() {
    let folder = Folder::new(&TOTALS.replace("interval = \"20ms\"", "interval = \"off\""));
    folder.write("in/a.csv", &rows("a", 2));
    folder.run(&["--parallelism=100"]);
    assert_eq!(folder.results("out"), ["a,2"]);
    for args in [&["--set=parallelism=1025"][..], &["--parallelism=1025"], &["--set=parallelism=32768"]] {
        let ended = folder.strandline(&[&["run", "job.toml"], args].concat());
        assert_eq!(ended.code(), 2, "{args:?}");
        assert!(ended.stderr().contains("1024"), "{}", ended.stderr());
    }
}
