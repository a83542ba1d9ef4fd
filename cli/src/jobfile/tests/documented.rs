//! All mistakes are found, and what is documented is what is read.

use super::*;

/// All mistakes of a file are found at once, and none that only follows from another.
#[test]
fn every_mistake_is_found_in_one_run() {
    let job = r#"name = "my job"
parallelism = 5000
colour = "red"

[checkpoint]
interval = "1M"
retained = 0

[restart]
strategy = "fixed-delya"

[source]
type = "csv"
path = "http://in"
columns = ["time:itn", "user", "amount:int", "user"]
event_time = "time"
watermark_delay = 5
on_bad_record = "dead-letter"

[[step]]
filter = "amuont > 0"

[[step]]
filter = "amount > 'x'"

[[step]]
fliter = "amount > 0"

[[step]]
key_by = ["user", "usr as u"]
window = "0s"
emit = "never"
aggregate = ["cuont", "sum(user)", "max(amount) as user"]

[[step]]
filter = "what > 1"

[sink]
type = "csv"

[late]
type = "jsn"
"#;
    let report = parse(job, &["step.1.id=a b", "nonsense"]).unwrap_err();
    let messages: Vec<_> = report.lines().filter_map(|line| line.strip_prefix("error: ")).collect();
    let wanted = [
        "\"my job\" cannot be the name of a job",
        "`parallelism` is at most 1024",
        "unknown key `colour` of a job",
        "[checkpoint] has no `storage`",
        "the unit of this duration is ambiguous",
        "`retained` is at least 1",
        "unknown restart strategy `fixed-delya`",
        "a path is expected here, and not a URL",
        "unknown type `itn`",
        "two columns are named `user`",
        "expected a duration, for example \"250ms\", \"10s\" or \"1h 30m\"",
        "dead letters have no place to go",
        "int and text cannot be compared",
        "unknown step `fliter`",
        "a window is at least 1 ms long",
        "unknown value of `emit`: `never`",
        "`emit` is for groups without a window",
        "unknown aggregate `cuont`",
        "there is no sum of text values",
        "two columns would be named `user`",
        "a CSV sink has no `path`",
        "unknown sink type `jsn`",
        "unknown key `id` of a filter",
        "an override needs a value",
        "24 mistakes",
    ];
    assert_eq!(messages, wanted, "{report}");
}

/// A key with its default is the same as no key.
#[test]
fn defaults_are_what_is_documented() {
    let job = |overrides: &[String]| {
        let overrides: Vec<_> = overrides.iter().map(String::as_str).collect();
        parse(JOB, &overrides).map(|job| format!("{job:?}"))
    };
    let mut checked = 0;
    let mut check = |section: &str, chosen: &[String], table: &keys::Table| {
        let without = job(&[chosen, &[format!("{section}x=1")]].concat()).unwrap_err();
        assert!(without.contains("unknown key `x`"), "{section}: {without}");
        for key in table.keys() {
            let keys::Absent::Value(default) = key.absent else { continue };
            // The job has some keys, so both sides are set, and then one of them to its default.
            let set = |value: &str| [chosen, &[format!("{section}{}={value}", key.name)]].concat();
            let removed: Vec<_> =
                JOB.lines().filter(|line| !line.starts_with(&format!("{} =", key.name))).collect();
            let parsed = |overrides: &[String]| {
                let overrides: Vec<_> = overrides.iter().map(String::as_str).collect();
                parse(&removed.join("\n"), &overrides).map(|job| format!("{job:?}"))
            };
            assert_eq!(parsed(chosen), parsed(&set(default)), "{section}{}", key.name);
            checked += 1;
        }
    };
    let choose = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    check("", &[], &keys::JOB);
    check("checkpoint.", &[], keys::CHECKPOINT.only().unwrap());
    for (name, table) in keys::RESTART.variants() {
        check("restart.", &choose(&format!("restart.strategy={}", name.unwrap())), table);
    }
    check("state.", &choose("state.backend=memory"), keys::STATE.variants()[0].1);
    let bare = "step=[] source.columns=[\"a:int\"]";
    for (name, table) in keys::SOURCE.variants() {
        let chosen = match name.unwrap() {
            "text" => "step=[] source={type=\"text\",path=\"in\"}".to_owned(),
            "keys" => "step=[] source={type=\"keys\",records=1}".to_owned(),
            kind => {
                format!("step=[] source={{type=\"{kind}\",path=\"in\",columns=[\"a:int\"],event_time=\"a\"}}")
            }
        };
        check("source.", &choose(&chosen), table);
    }
    for (name, table) in keys::SINK.variants() {
        let path = if matches!(name, Some("csv" | "json")) { ",path=\"out\"" } else { "" };
        let chosen = format!("{bare} sink={{type=\"{}\"{path}}}", name.unwrap());
        let chosen = chosen.replace(" sink", " source.event_time=\"a\" sink");
        check("sink.", &choose(&chosen), table);
    }
    for (name, table) in keys::STEP.variants() {
        let chosen = match name.unwrap() {
            "key_by" => "step.1={key_by=\"user\",aggregate=\"count\"}",
            "deduplicate" => "step.1={deduplicate=\"user\"}",
            "coalesce" => {
                "step.0={deduplicate=\"user\",emit=\"changes\"} step.1={coalesce=\"1s\",by=\"user\"}"
            }
            "call" => "step.1={call=\"program\",by=\"user\",columns=[\"name\"]}",
            "join" => "step.0={name=\"a\",project=[\"user\"]} step.1={join=[\"a\",\"a\"],on=\"user\"}",
            _ => continue,
        };
        check("step.1.", &choose(chosen), table);
    }
    assert!(checked > 40, "{checked}");
}

/// Whatever the documentation has about conditions and aggregates is read.
#[test]
fn documented_expressions_are_understood() {
    let job = |condition: &str, aggregate: &str| {
        format!(
            "source = {{ type = 'csv', path = 'in', columns = ['a:int', 'b:int', 'c:int', 'x:bool', 'y:bool?'] }}\n\
             step = [{{ compute = \"{condition} as r\" }}, {{ key_by = 'a', aggregate = '{aggregate}' }}]\n\
             sink = {{ type = 'stdout' }}"
        )
    };
    for form in FORMS.iter().flat_map(|form| form.forms) {
        assert!(parse(&job(form, "count"), &[]).is_ok(), "{form}");
    }
    for named in &AGGREGATES {
        for name in named.names {
            parse(&job("x", &format!("{name}(b) as c")), &[]).unwrap();
            assert_eq!(parse(&job("x", name), &[]).is_ok(), named.takes_no_column, "{name}");
        }
    }
}

#[test]
fn a_column_without_a_type_may_be_missing_too() {
    let job = parse(JOB, &["source.columns=[\"time:int\", \"user?\", \"amount : int?\", \"note\"]"]).unwrap();
    assert_eq!(columns(&job.sources[0].columns), "time:int user:text? amount:int?");
}
