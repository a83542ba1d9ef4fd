//! Timestamps, paths in JSON, and lines that a pattern splits.

use super::*;
use crate::row::{Field, JsonPath, TimeFormat};

fn at(name: &str, kind: ColumnType, path: &str) -> Field {
    let path = Some(JsonPath::parse(path).unwrap());
    Field { column: Column::new(name, kind).nullable(), time: TimeFormat::default(), path }
}

fn decoded(format: &impl FileFormat<Record = Row>, record: &str) -> Result<String, String> {
    let mut output = Batch::new();
    let decoded = format.decoder(b"").unwrap().decode(record.as_bytes(), &mut output);
    let values = |row: &Row| row.0.iter().map(|value| format!("{value}")).collect::<Vec<_>>().join("|");
    decoded.map(|()| output.records().iter().map(values).collect()).map_err(|bad| bad.to_string())
}

#[test]
fn values_deep_in_json_are_found() {
    let format = JsonLines::new(vec![
        at("id", ColumnType::Int, "user.id"),
        at("first", ColumnType::Text, "items[0].name"),
        at("third", ColumnType::Text, "items[2]"),
        at("plain", ColumnType::Bool, "ok"),
    ]);
    for (record, wanted) in [
        (r#"{"user":{"x":{"id":9},"id":7},"items":[{"name":"a"},1,"c"],"ok":true}"#, "7|a|c|true"),
        (r#"{"ok":false,"items":[{"y":1,"name":null}],"user":{}}"#, "null|null|null|false"),
        (r#"{"user":null,"items":[],"more":[[{}]]}"#, "null|null|null|null"),
        (r#"{"user":{"id":null},"items":[null,{},"c"]}"#, "null|null|c|null"),
    ] {
        assert_eq!(decoded(&format, record).as_deref(), Ok(wanted), "{record}");
    }
    for (record, part) in [
        (r#"{"user":5}"#, "column \"id\": invalid type: integer `5`, expected an object"),
        (r#"{"user":[5]}"#, "invalid type: sequence, expected an object"),
        (r#"{"items":{"0":1}}"#, "invalid type: map, expected an array"),
        (r#"{"items":[7]}"#, "column \"first\": invalid type: integer `7`, expected an object"),
        (r#"{"user":{"id":"7"}}"#, "expected int in column \"id\""),
        (r#"{"items":[{"name":{}}]}"#, "invalid type: map, expected text in column \"first\""),
        (r#"[1]"#, "invalid type: sequence, expected an object"),
        (r#"{"user":{"id":7}"#, "EOF"),
    ] {
        let error = decoded(&format, record).unwrap_err();
        assert!(error.contains(part), "{record}: {error}");
    }
    let mut strict = at("id", ColumnType::Int, "user.id");
    strict.column.nullable = false;
    for record in [r#"{"user":{}}"#, r#"{"user":{"id":null}}"#, "{}"] {
        let error = decoded(&JsonLines::new(vec![strict.clone()]), record).unwrap_err();
        assert_eq!(
            error,
            "column \"id\": expected int, found none; declare it nullable if values may be missing"
        );
    }
}

#[test]
fn timestamps_are_read_in_each_format() {
    let time = |format: &str| {
        let column = Column::new("t", ColumnType::Timestamp).nullable();
        vec![Field { column, time: TimeFormat::new(format, None).unwrap(), path: None }]
    };
    for (format, json, wanted) in [
        ("iso", r#"{"t":"2026-01-02T03:04:05+01:00"}"#, "2026-01-02T02:04:05Z"),
        ("ms", r#"{"t":1767322800123}"#, "2026-01-02T03:00:00.123Z"),
        ("ms", r#"{"t":"1767322800123"}"#, "2026-01-02T03:00:00.123Z"),
        ("s", r#"{"t":1767322800.25}"#, "2026-01-02T03:00:00.25Z"),
        ("%Y/%m/%d", r#"{"t":"2026/01/02"}"#, "2026-01-02T00:00:00Z"),
        ("iso", r#"{"t":null}"#, "null"),
    ] {
        assert_eq!(decoded(&JsonLines::new(time(format)), json).as_deref(), Ok(wanted), "{json}");
    }
    for (format, json, part) in [
        ("iso", r#"{"t":1767322800}"#, "expected a timestamp as ISO 8601"),
        ("s", r#"{"t":99999999999999}"#, "expected a timestamp as a number of s since 1970"),
        ("s", r#"{"t":true}"#, "in column \"t\""),
    ] {
        let error = decoded(&JsonLines::new(time(format)), json).unwrap_err();
        assert!(error.contains(part), "{json}: {error}");
    }
    let csv = CsvFiles::new(time("iso")).header(false);
    assert_eq!(decoded(&csv, "2026-01-02").as_deref(), Ok("2026-01-02T00:00:00Z"));
    let error = decoded(&csv, "yesterday").unwrap_err();
    assert!(error.starts_with("column \"t\": expected a timestamp as ISO 8601"), "{error}");
    assert!(error.ends_with("found \"yesterday\""), "{error}");
}

const ACCESS: &str = r#"(?<ip>\S+) \S+ (?<user>\S+)? ?\[(?<time>[^\]]+)\] "(?<request>[^"]*)" (?<status>\d{3}) (?<bytes>\d+|-)"#;

#[test]
fn a_pattern_splits_lines() {
    let time = Field {
        column: Column::new("time", ColumnType::Timestamp),
        time: TimeFormat::new("%d/%b/%Y:%H:%M:%S %z", None).unwrap(),
        path: None,
    };
    let columns = vec![
        Column::new("status", ColumnType::UInt).into(),
        time,
        Column::new("user", ColumnType::Text).nullable().into(),
    ];
    let format = RegexLines::new(ACCESS, columns).unwrap();
    let line = r#"10.0.0.1 - ann [02/Jan/2026:03:04:05 +0100] "GET / HTTP/1.1" 200 512"#;
    assert_eq!(decoded(&format, line).as_deref(), Ok("200|2026-01-02T02:04:05Z|ann"));
    let line = r#"10.0.0.1 - [02/Jan/2026:03:04:05 +0100] "" 404 -"#;
    assert_eq!(decoded(&format, line).as_deref(), Ok("404|2026-01-02T02:04:05Z|null"));
    assert_eq!(decoded(&format, "").as_deref(), Ok(""));
    for (line, part) in [
        (r#"x 10.0.0.1 - ann [02/Jan/2026:03:04:05 +0100] "GET" 200 512"#, "does not match"),
        (r#"10.0.0.1 - ann [02/Jan/2026:03:04:05 +0100] "GET" 200 512 more"#, "does not match"),
        (r#"10.0.0.1 - ann [02/Jxn/2026:03:04:05 +0100] "GET" 200 512"#, "column \"time\""),
    ] {
        let error = decoded(&format, line).unwrap_err();
        assert!(error.contains(part), "{line}: {error}");
    }
    let names: Vec<_> = RegexLines::groups(ACCESS).unwrap().into_iter().map(|column| column.name).collect();
    assert_eq!(names, ["ip", "user", "time", "request", "status", "bytes"]);
}

#[test]
fn a_wrong_pattern_is_refused_and_a_mode_stays_in_it() {
    let column = |name: &str| vec![Column::new(name, ColumnType::Text)];
    let error = RegexLines::new("(?<a>x", column("a")).unwrap_err();
    assert!(error.contains("unclosed group"), "{error}");
    let error = RegexLines::new("(?<a>x)", column("b")).unwrap_err();
    assert!(error.contains("no group \"b\"") && error.ends_with("groups are a"), "{error}");
    let error = RegexLines::new("x)(y", column("b")).unwrap_err();
    assert!(error.contains("unopened group"), "{error}");
    let format = RegexLines::new("(?x) (?<a> \\w+ ) # a word", column("a")).unwrap();
    assert_eq!(decoded(&format, "word").as_deref(), Ok("word"));
    let either = RegexLines::new("(?<a>x)|y", vec![Column::new("a", ColumnType::Text).nullable()]).unwrap();
    assert_eq!(decoded(&either, "y").as_deref(), Ok("null"));
    assert!(decoded(&either, "yy").is_err(), "the whole line matches, or none of it");
}
