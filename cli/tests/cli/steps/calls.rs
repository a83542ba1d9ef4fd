//! Calls of programs.

use super::{CHECKPOINTS, Event, SINK, Trial, events, source};
use crate::support::Folder;

/// A program that replies with twice the value.
const DOUBLE: &str = r#"while read -r line; do
call=${line#*'"call":'}; call=${call%%[,\}]*}
value=${line#*'"value":'}; value=${value%%[,\}]*}
echo "{\"call\":$call,\"double\":$((value * 2))}"
done"#;

fn step(script: &str, settings: &str) -> String {
    format!(
        "[[step]]\ncall = [\"sh\", \"-c\", '''\n{script}''']\nby = \"key\"\ncolumns = [\"double:int\"]\n{settings}\n"
    )
}

fn doubled(events: &[Event]) -> Vec<String> {
    let line = |event: &Event| format!("{},k{},{},{}", event.time, event.key, event.value, event.value * 2);
    events.iter().map(line).collect()
}

#[test]
fn each_row_gets_its_reply() {
    let events = events(1_500, 4);
    Trial::new(&[("in", &events)], &step(DOUBLE, "send = \"value\"\ncapacity = 7")).gives(doubled(&events));
}

#[test]
fn event_time_goes_on_behind_calls_and_no_row_is_late_for_a_window() {
    let events = events(1_500, 5);
    let steps = step(DOUBLE, "ordered = true")
        + "[[step]]\nkey_by = \"key\"\nwindow = \"2s\"\naggregate = \"sum(double)\"\n";
    let mut sums = std::collections::BTreeMap::new();
    for Event { time, key, value } in &events {
        *sums.entry((*key, time.div_euclid(2_000) * 2_000)).or_insert(0) += value * 2;
    }
    let rows = sums.into_iter().map(|((key, start), sum)| format!("k{key},{start},{},{sum}", start + 2_000));
    Trial::new(&[("in", &events)], &steps).gives(rows.collect());
}

/// A job over three rows whose program is `script`.
fn three(script: &str, settings: &str) -> Folder {
    let job = format!(
        "{CHECKPOINTS}{}{}{SINK}[restart]\nstrategy = \"none\"\n",
        source("in"),
        step(script, settings)
    );
    let folder = Folder::new(&job);
    folder.write("in.csv", "time,key,value\n1000,a,1\n1001,b,2\n1002,c,3\n");
    folder
}

#[test]
fn a_call_that_fails_fails_the_job_or_leaves_nulls() {
    let picky = DOUBLE
        .replace(
            "echo",
            "case $value in 2) echo \"{\\\"call\\\":$call,\\\"error\\\":\\\"not two\\\"}\";; *) echo",
        )
        .replace("* 2))}\"", "* 2))}\";; esac");
    let ended = three(&picky, "").strandline(&["run", "job.toml"]);
    assert_eq!(ended.code(), 1, "{}", ended.stderr());
    for part in ["could not answer", "not two", "sh", "\"b\""] {
        assert!(ended.stderr().contains(part), "{part}: {}", ended.stderr());
    }
    let folder = three(&picky, "failures = \"null\"");
    folder.run(&[]);
    assert_eq!(folder.results("out"), ["1000,a,1,2", "1001,b,2,", "1002,c,3,6"]);
}

#[test]
fn a_program_that_ends_or_writes_nonsense_or_replies_late_is_named_with_what_it_wrote() {
    for (script, settings, parts) in [
        (
            "echo no database >&2; exit 3",
            "",
            &["ended before it replied", "exit status: 3", "no database"][..],
        ),
        ("read -r line; echo hello", "", &["no reply", "hello", "expected a JSON object"]),
        ("read -r line; echo '{\"call\":0,\"double\":\"x\"}'", "", &["no reply", "double", "string \"x\""]),
        ("cat >/dev/null", "timeout = \"50ms\"", &["not answered in time", "timeout ms 50"]),
    ] {
        let ended = three(script, settings).strandline(&["run", "job.toml"]);
        assert_eq!(ended.code(), 1, "{script}: {}", ended.stderr());
        for part in parts {
            assert!(ended.stderr().contains(part), "{script}: {part}: {}", ended.stderr());
        }
    }
}

/// A program that has ended starts again for the next attempt of a call.
#[test]
fn a_program_that_has_ended_starts_again() {
    let script = format!("if mkdir began 2>/dev/null; then exit 1; fi\n{DOUBLE}");
    let folder = three(&script, "attempts = 3\npause = \"1ms\"");
    folder.run(&[]);
    assert_eq!(folder.results("out"), ["1000,a,1,2", "1001,b,2,4", "1002,c,3,6"]);
    assert!(folder.path("began").is_dir(), "it runs in the folder of the job file");
}

#[test]
fn a_program_that_is_not_there_is_a_problem_of_check_and_run() {
    let folder = three(DOUBLE, "");
    let lost = "--set=step.0.call=[\"./lost\"]";
    for args in [["check", "job.toml", lost], ["run", "job.toml", lost]] {
        let ended = folder.strandline(&args);
        assert_eq!(ended.code(), 1);
        let all = ended.stdout() + &ended.stderr();
        assert!(all.contains("./lost") && all.contains("program"), "{all}");
    }
}
