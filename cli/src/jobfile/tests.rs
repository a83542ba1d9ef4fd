use std::path::Path;
use std::time::Duration;

use strandline_checkpoint_storage::{Depth, OnDamage, StorageOptions};
use strandline_connectors::{ColumnType, Row, Value};
use strandline_runtime::source::Watermarks;
use strandline_runtime::{RestartStrategy, Unaligned, WhenFinished};

use super::*;

mod documented;
mod steps;

const JOB: &str = r#"name = "orders"
parallelism = 2

[checkpoint]
storage = "checkpoints"
interval = "250ms"

[source]
type = "csv"
path = "in"
columns = ["time:int", "user", "amount:int?", "note"]
event_time = "time"
watermark_delay = "5s"

[[step]]
filter = "amount > 0"

[[step]]
key_by = "user"
window = "1m"
aggregate = ["count", "sum(amount) as total"]

[sink]
type = "csv"
path = "out"
"#;

fn parse(text: &str, overrides: &[&str]) -> Result<Job, String> {
    let overrides: Vec<_> = overrides.iter().map(|&text| text.to_owned()).collect();
    let documents = Documents::new("job.toml".into(), text.into(), &overrides);
    Job::parse(&documents, Path::new("/jobs"))
        .map_err(|problems| Mistakes::new(documents, problems).render(false))
}

/// The report of the job with `from` replaced.
fn refused(from: &str, to: &str) -> String {
    assert!(JOB.contains(from), "{from:?} is not in the job");
    parse(&JOB.replacen(from, to, 1), &[]).expect_err(to)
}

fn columns(columns: &[Column]) -> String {
    let name = |column: &Column| {
        format!("{}:{}{}", column.name, column.kind, if column.nullable { "?" } else { "" })
    };
    columns.iter().map(name).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_job_is_understood() {
    let job = parse(JOB, &[]).unwrap();
    assert_eq!((job.settings.name.as_str(), job.settings.parallelism), ("orders", 2));
    let checkpoint = job.settings.checkpoint.unwrap();
    assert_eq!(checkpoint.interval, Some(Duration::from_millis(250)));
    assert!(checkpoint.storage.uri().starts_with("file:///"), "{}", checkpoint.storage.uri());
    assert!(checkpoint.storage.uri().ends_with("/jobs/checkpoints"), "{}", checkpoint.storage.uri());
    assert_eq!(
        columns(&job.sources[0].columns),
        "time:int user:text amount:int?",
        "unused columns are not read"
    );
    assert_eq!(
        (job.sources[0].event_time, job.sources[0].watermarks),
        (Some(0), Watermarks::delayed(Duration::from_secs(5)))
    );
    assert_eq!(
        columns(&job.sinks[0].columns),
        "user:text window_start:int window_end:int count:uint total:int?"
    );
    let wanted = SinkSpec::Files { directory: "/jobs/out".into(), format: SinkFormat::Csv { header: false } };
    assert_eq!(job.sinks[0].sink, wanted);
}

#[test]
fn defaults_and_overrides() {
    let text =
        "source = { type = 'text', path = '/in' }\nstep = [{ words = 'line' }]\nsink = { type = 'stdout' }";
    let job = parse(text, &[]).unwrap();
    assert!(job.settings.checkpoint.is_none());
    assert_eq!(job.settings.restart, exponential(10, 60));
    assert_eq!(columns(&job.sinks[0].columns), "word:text");

    let job = parse(
        JOB,
        &["checkpoint.interval=1s", "restart.attempts=0", "step.1.key_by=note", "sink.header=true"],
    );
    let job = job.unwrap();
    assert_eq!(job.settings.checkpoint.unwrap().interval, Some(Duration::from_secs(1)));
    assert_eq!(job.settings.restart, RestartStrategy::None);
    assert!(columns(&job.sinks[0].columns).starts_with("note:text "), "{}", columns(&job.sinks[0].columns));
    let job = parse(JOB, &["checkpoint.enabled=false", "checkpoint.interval=off"]).unwrap();
    assert!(job.settings.checkpoint.is_none());
}

/// The default strategy with other numbers.
fn exponential(attempts: u32, reset_after: u64) -> RestartStrategy {
    RestartStrategy::ExponentialDelay {
        initial: Duration::from_secs(1),
        max: Duration::from_secs(30),
        multiplier: 1.5,
        reset_after: Duration::from_secs(reset_after),
        attempts,
    }
}

#[test]
fn restarts_have_strategies() {
    let with = |overrides: &[&str]| parse(JOB, overrides).map(|job| job.settings.restart);
    let delay = Duration::from_secs(1);
    for (overrides, wanted) in [
        (&["restart.reset_after=10m"][..], exponential(10, 600)),
        (&["restart.strategy=exponential-delay", "restart.attempts=4"], exponential(4, 60)),
        (&["restart.delay=1s"], RestartStrategy::FixedDelay { attempts: 3, delay }),
        (
            &["restart.strategy=fixed-delay", "restart.attempts=7"],
            RestartStrategy::FixedDelay { attempts: 7, delay },
        ),
        (
            &["restart.strategy=failure-rate", "restart.failures=5", "restart.interval=10s"],
            RestartStrategy::FailureRate { failures: 5, interval: 10 * delay, delay },
        ),
        (&["restart.strategy=none"], RestartStrategy::None),
        (&["restart.attempts=0"], RestartStrategy::None),
    ] {
        assert_eq!(with(overrides), Ok(wanted), "{overrides:?}");
    }
    for (overrides, part) in [
        (&["restart.strategy=fixed-delya"][..], "did you mean `fixed-delay`?"),
        (&["restart.strategy=none", "restart.attempts=3"], "unknown key `attempts`"),
        (&["restart.strategy=fixed-delay", "restart.multiplier=2"], "unknown key `multiplier`"),
        (&["restart.multiplier=0.5"], "a number of at least 1"),
    ] {
        let report = with(overrides).unwrap_err();
        assert!(report.contains(part), "{overrides:?}: {report}");
    }
}

#[test]
fn checkpoints_have_all_settings_of_the_library() {
    let with = |overrides: &[&str]| parse(JOB, overrides).map(|job| job.settings.checkpoint.unwrap());
    let config = with(&[
        "checkpoint.initial_delay=1s",
        "checkpoint.verify=lengths",
        "checkpoint.on_damage=refuse",
        "checkpoint.backlog_interval=5s",
        "checkpoint.commit_timeout=2m",
        "checkpoint.cleanup_pause=3s",
        "checkpoint.cleanup_lag=4",
        "checkpoint.when_finished=remove",
        "checkpoint.give_way=6s",
        "checkpoint.inline_limit=4 KiB",
        "checkpoint.request_timeout=7s",
        "checkpoint.request_retries=8",
        "checkpoint.retry_pause=9s",
    ]);
    let config = config.unwrap();
    let seconds = Duration::from_secs;
    assert_eq!((config.initial_delay, config.backlog_interval), (Some(seconds(1)), Some(seconds(5))));
    assert_eq!((config.verify, config.on_damage), (Depth::Lengths, OnDamage::Refuse));
    assert_eq!((config.commit_timeout, config.cleanup_pause), (seconds(120), seconds(3)));
    assert_eq!((config.cleanup_lag, config.when_finished), (4, WhenFinished::Remove));
    assert_eq!(config.give_way, seconds(6));
    let limits = StorageOptions::default().inline_limit(4 << 10).request_timeout(seconds(7)).retries(8);
    assert_eq!(config.storage.options(), &limits.retry_pause(seconds(9)));

    let default = with(&[]).unwrap();
    assert_eq!((default.verify, default.on_damage), (Depth::Contents, OnDamage::FallBack));
    assert_eq!((default.backlog_interval, default.when_finished), (None, WhenFinished::Keep));
    assert_eq!(default.unaligned, Unaligned::Off);
    for (text, expected) in
        [("off", Unaligned::Off), ("on", Unaligned::On), ("2s", Unaligned::After(seconds(2)))]
    {
        let config = with(&[&format!("checkpoint.unaligned={text}")]).unwrap();
        assert_eq!(config.unaligned, expected);
    }
    let off = with(&["checkpoint.backlog_interval=off", "checkpoint.interval=off"]).unwrap();
    assert_eq!((off.backlog_interval, off.interval), (Some(Duration::ZERO), None));

    for (wrong, expected) in [
        ("checkpoint.verify=content", "did you mean `contents`?"),
        ("checkpoint.on_damage=panic", "expected `fall-back` or `refuse`"),
        ("checkpoint.when_finished=kep", "unknown value of `when_finished`: `kep`"),
        ("checkpoint.cleanup_lag=0", "`cleanup_lag` is at least 1"),
        ("checkpoint.backlog_interval=0s", "\"off\" for no periodic checkpoints during a backlog"),
        ("checkpoint.commit_timeout=7", "expected a duration"),
        ("checkpoint.unaligned=yes", "expected a duration"),
    ] {
        let report = with(&[wrong]).map(drop).unwrap_err();
        assert!(report.contains(expected), "{wrong}: {report}");
    }
}

#[test]
fn a_unit_that_means_two_things_is_refused() {
    let with = |interval: &str| parse(JOB, &[&format!("checkpoint.interval={interval}")]).map(drop);
    for interval in ["1M", "5 M", "1h 2M", "1M 2s"] {
        assert!(with(interval).is_err_and(|report| report.contains("ambiguous")), "{interval}");
    }
    for interval in ["1m", "1min", "1month", "2months", "1h 2m"] {
        assert_eq!(with(interval), Ok(()), "{interval}");
    }
}

#[test]
fn bad_records_have_a_place_to_go() {
    let with = |overrides: &[&str]| parse(JOB, overrides).map(|job| job.sources[0].files().cloned());
    let all = ["source.on_bad_record=dead-letter", "source.dead_letters=bad", "source.max_record=1 MiB"];
    let files = with(&all).unwrap().unwrap();
    assert_eq!(files.bad_records, BadRecordPolicy::Keep("/jobs/bad".into()));
    assert_eq!(files.max_record, 1 << 20);
    for (overrides, part) in [
        (&["source.on_bad_record=dead-letter"][..], "dead letters have no place to go"),
        (&["source.dead_letters=bad"], "dead letters are not asked for"),
        (&["source.on_bad_record=dead-letter", "source.dead_letters=in"], "its own dead letters"),
        (
            &["source.on_bad_record=dead-letter", "source.dead_letters=out"],
            "results and dead letters would mix",
        ),
        (&["step.1.id=dead-letters"], "is taken"),
    ] {
        let report = with(overrides).unwrap_err();
        assert!(report.contains(part), "{overrides:?}: {report}");
    }
}

#[test]
fn a_storage_is_where_its_path_leads() {
    let uri = |storage: &str| {
        parse(JOB, &[&format!("checkpoint.storage={storage}")])
            .map(|job| job.settings.checkpoint.unwrap().storage.uri().to_owned())
    };
    for (storage, wanted) in [
        ("ck", "file:///jobs/ck"),
        ("file:/ck", "file:///ck"),
        ("file:///ck", "file:///ck"),
        ("/ck", "file:///ck"),
    ] {
        assert_eq!(uri(storage), Ok(wanted.into()), "{storage}");
    }
    for storage in ["file:ck", "file://ck", "~ann/ck"] {
        assert!(uri(storage).is_err(), "{storage}");
    }
}

#[test]
fn rocksdb_has_options_and_memory_has_none() {
    let with = |overrides: &[&str]| parse(JOB, overrides).map(|job| job.settings.backend);
    assert_eq!(with(&[]).unwrap(), Backend::Memory);
    let all =
        ["state.backend=rocksdb", "state.directory=here", "state.memory=64 MiB", "state.write_back=0.5"];
    let Backend::RocksDb(rocks) = with(&all).unwrap() else { panic!("another backend") };
    assert!(rocks.directory.is_some_and(|directory| directory.ends_with("here")));
    assert_eq!((rocks.memory, rocks.write_back), (Some(64 << 20), Some(0.5)));
    for (wrong, expected) in [
        (&["state.backend=rockdb"][..], "did you mean `rocksdb`?"),
        (&["state.memory=64 MiB"], "unknown key `memory`"),
        (&["state.backend=rocksdb", "state.write_back=1.5"], "a number from 0 to 0.9"),
        (&["state.backend=rocksdb", "state.memory=much"], "a size"),
    ] {
        let error = with(wrong).unwrap_err();
        assert!(error.contains(expected), "{wrong:?}: {error}");
    }
}

#[test]
fn a_mistake_is_shown_at_its_place() {
    assert_eq!(
        refused("path = \"in\"", "pth = \"in\""),
        "\
error: unknown key `pth` of a CSV source
  --> job.toml:10:1
   |
10 | pth = \"in\"
   | ^^^ did you mean `path`?
   |
   = help: known: type, path, split_size, max_record, on_bad_record, dead_letters, follow, watch, \
moved_from, columns, header, delimiter, quoted_newlines, event_time, watermark_delay, idle_timeout, max_drift, rate, \
name
"
    );
    assert_eq!(
        refused("amount > 0", "amount > 0 and usr = 'x'"),
        "\
error: unknown column `usr`
  --> job.toml:16:26
   |
16 | filter = \"amount > 0 and usr = 'x'\"
   |                          ^^^ did you mean `user`?
   |
   = help: known: time, user, amount, note
"
    );
    assert_eq!(
        refused("storage = \"checkpoints\"\n", ""),
        "\
error: [checkpoint] has no `storage`
 --> job.toml:4:1
  |
4 | [checkpoint]
  | ^^^^^^^^^^^^ expected a key `storage` here
"
    );
}

#[test]
fn every_report_of_a_mistake_names_what_was_expected() {
    let cases = [
        ("name = \"orders\"", "name = \"a b\"", "cannot be the name of a job", "job.toml:1:8"),
        ("name = \"orders\"", "name = \"orders", "not valid TOML", "job.toml:1:"),
        ("parallelism = 2", "parallelism = 0", "`parallelism` is at least 1", "job.toml:2:15"),
        ("parallelism = 2", "parallelism = \"2\"", "expected an integer", "this is a string"),
        (
            "parallelism = 2",
            "paralelism = 2",
            "unknown key `paralelism` of a job",
            "did you mean `parallelism`?",
        ),
        ("\"250ms\"", "\"250 parsec\"", "expected a duration", "unknown time unit \"parsec\""),
        ("\"250ms\"", "\"0s\"", "interval of checkpoints is zero", "job.toml:6:12"),
        ("\"checkpoints\"", "\"file://rel\"", "storage is relative", "expected an absolute path"),
        ("\"checkpoints\"", "\"ftp://x\"", "ftp", "expected a path"),
        ("type = \"csv\"\npath = \"in\"", "path = \"in\"", "a source has no `type`", "job.toml:8:1"),
        (
            "type = \"csv\"\npath = \"in\"",
            "type = \"cvs\"",
            "unknown source type `cvs`",
            "did you mean `csv`?",
        ),
        ("time:int", "time:itn", "unknown type `itn`", "did you mean `int`?"),
        ("\"time:int\"", "\"time:int?\"", "an event time is", "this column is int?"),
        ("event_time = \"time\"", "event_time = \"user\"", "an event time is", "this column is text"),
        ("event_time = \"time\"\n", "", "`watermark_delay` needs event times", "expected `event_time"),
        ("event_time = \"time\"\nwatermark_delay = \"5s\"", "", "a window needs event times", "job.toml:"),
        ("amount > 0", "amount > 'x'", "int and text cannot be compared", "16:18"),
        ("amount > 0", "amount >", "expected a column, a number or 'text'", "found the end"),
        ("amount > 0", "amount = null", "nothing compares with null", "`is null`"),
        ("amount > 0", "(amount > 0", "expected `and`, `or` or `)`", "found the end"),
        ("amount > 0", "amount > 0 user", "expected `and`, `or` or the end", "found `user`"),
        ("amount > 0", "amount ~ 0", "unexpected character '~'", "16:18"),
        ("amount > 0", "user = 'x", "a quote is not closed", "16:18"),
        ("amount > 0", "amount", "expected a comparison", "found the end"),
        ("filter = \"amount > 0\"", "fliter = \"x\"", "unknown step `fliter`", "did you mean `filter`?"),
        (
            "filter = \"amount > 0\"",
            "project = [\"user\", \"note as user\"]",
            "two columns would be named",
            "`as`",
        ),
        ("filter = \"amount > 0\"", "words = \"amount\"", "words are in text only", "this column is int"),
        (
            "filter = \"amount > 0\"",
            "",
            "this step does nothing",
            "`key_by`, `deduplicate`, `call`, `coalesce`, `union` or `join`",
        ),
        ("key_by = \"user\"", "key_by = []", "this group has no key", "at least one"),
        ("window = \"1m\"", "window = \"0s\"", "a window is at least 1 ms long", "job.toml:20:10"),
        ("window = \"1m\"", "window = \"1m\"\nemit = \"end\"", "`emit` is for groups without", "21:8"),
        ("\"count\"", "\"cuont\"", "unknown aggregate `cuont`", "did you mean `count`?"),
        ("sum(amount)", "sum(user)", "there is no sum of text values", "21:28"),
        ("sum(amount)", "sum", "expected `(` and the column", "found `as`"),
        ("\"count\"", "\"count as total\"", "two columns would be named `total`", "21:32"),
        ("window = \"1m\"", "window = \"1m\"\nid = \"sink\"", "the id \"sink\" is taken", "21:6"),
        ("path = \"out\"", "path = \"in\"", "the job would read its own results", "job.toml:25:8"),
        (
            "type = \"csv\"\npath = \"out\"",
            "type = \"discard\"\nchecksum = true",
            "two uint columns",
            "user:text",
        ),
        ("[sink]", "[snik]", "unknown key `snik` of a job", "did you mean `sink`?"),
    ];
    for (from, to, message, location) in cases {
        let report = refused(from, to);
        assert!(report.contains(message) && report.contains(location), "{to}\n{report}");
    }
}

#[test]
fn a_mistake_in_an_override_is_shown_there() {
    let report = parse(JOB, &["step.1.aggregate=cuont"]).unwrap_err();
    assert!(report.contains("--> --set:1:18") && report.contains("did you mean `count`?"), "{report}");
    let report = parse(JOB, &["nonsense"]).unwrap_err();
    assert!(report.contains("expected `key=value`"), "{report}");
    let named = "source = [{ name = 'a', type = 'text', path = 'in' }]\nsink = { type = 'discard' }";
    let job = parse(named, &["source.a.rate=7"]).unwrap();
    assert_eq!(job.sources[0].rate, Some(7));
    assert!(parse(named, &["source.b.rate=7"]).unwrap_err().contains("nothing of this name"));
    let report = parse(JOB, &["name.first=x"]).unwrap_err();
    assert!(report.contains("nothing of this name"), "{report}");
}

#[test]
fn an_end_without_time_feeds_no_window() {
    let step =
        "[[step]]\nkey_by = [\"user\", \"time\"]\naggregate = \"count\"\n[[step]]\nkey_by = \"user\"\n";
    let report = refused("[[step]]\nkey_by = \"user\"\n", step);
    assert!(report.contains("a window needs event times"), "{report}");
}

fn condition(text: &str) -> Expression {
    let job = parse(&JOB.replacen("amount > 0", text, 1), &[]).unwrap();
    match job.steps.into_iter().next().map(|placed| placed.step) {
        Some(Step::Filter(condition)) => condition,
        other => panic!("{other:?}"),
    }
}

#[test]
fn conditions_bind_as_they_read() {
    let row = |time: i64, user: &str, amount: Option<i64>| -> Row {
        [Value::Int(time), Value::text(user), amount.map_or(Value::Null, Value::Int)].into_iter().collect()
    };
    let cases = [
        ("time = 1 or time = 2 and user = 'x'", row(1, "y", None), true),
        ("(time = 1 or time = 2) and user = 'x'", row(1, "y", None), false),
        ("not time = 1 and user = 'y'", row(1, "y", None), false),
        ("not (time = 1 and user = 'x')", row(1, "y", None), true),
        ("amount is null", row(1, "y", None), true),
        ("amount IS NOT NULL", row(1, "y", None), false),
        ("amount > 0", row(1, "y", None), false),
        ("not amount > 0", row(1, "y", None), false),
        ("amount >= 1.5", row(1, "y", Some(2)), true),
        ("1.5 < amount", row(1, "y", Some(1)), false),
        ("amount < time", row(3, "y", Some(2)), true),
        ("amount <> -2", row(3, "y", Some(-2)), false),
        ("\\\"user\\\" == 'it''s'", row(3, "it's", None), true),
        ("time <= 9_223_372_036_854_775_808", row(i64::MAX, "", None), true),
    ];
    for (text, row, wanted) in cases {
        assert_eq!(condition(text).holds(&row), Ok(wanted), "{text}");
    }
}

#[test]
fn conditions_nest_at_most_100_levels_deep() {
    for (open, close) in [("(", ")"), ("not ", ""), ("not (", ")")] {
        let nested = |times: usize| format!("{}amount > 0{}", open.repeat(times), close.repeat(times));
        let report = refused("amount > 0", &nested(20_000));
        assert!(report.contains("nests deeper than 100 levels"), "{}", &report[..200]);
        let deep = nested(100 / open.split_whitespace().count());
        parse(&JOB.replacen("amount > 0", &deep, 1), &[]).unwrap();
    }
}

#[test]
fn columns_can_be_taken_from_the_header() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.csv"), "time,user\n1,x\n").unwrap();
    let path = folder.path().display();
    let text = format!("source = {{ type = 'csv', path = '{path}' }}\nsink = {{ type = 'discard' }}");
    let job = parse(&text, &[]).unwrap();
    assert!(job.sinks[0].columns.iter().all(|column| column.kind == ColumnType::Text));
    assert_eq!(columns(&job.sinks[0].columns), "time:text user:text");
    let report = parse(&text.replace("csv'", "csv', header = false"), &[]).unwrap_err();
    assert!(report.contains("a CSV source has no `columns`"), "{report}");
    let report = parse(&text.replace("sink", "name = 'x'\nsink").replace(&path.to_string(), "/none"), &[])
        .unwrap_err();
    assert!(report.contains("the header of the first file is needed"), "{report}");
}
