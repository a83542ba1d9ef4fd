mod changes;
mod dialect;
mod forms;
mod objects;
mod packed;
mod quotes;
mod streams;
mod unusual;

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use tempfile::TempDir;

use strandline_runtime::source::{Source, SourceStatus};
use strandline_state_api::ErrorKind;

use super::*;
use crate::row::{Column, ColumnType, Row, Value};

/// Reads with `parallelism` subtasks: `polls` records each, or all.
fn read<F: FileFormat<Record = Row>>(
    source: &FileSource<F>,
    restored: &Option<Vec<FilePosition>>,
    parallelism: u32,
    polls: impl Fn(u32) -> usize,
) -> Result<(Vec<Row>, Vec<FilePosition>)> {
    let (mut rows, mut positions) = (Vec::new(), Vec::new());
    for subtask in 0..parallelism {
        let mut source = source.open(SourceContext { subtask, parallelism, restored: restored.clone() })?;
        let mut output = Batch::new();
        let mut left = polls(subtask);
        while left > 0 {
            let step = left.min(3);
            left -= step;
            if source.poll(step, &mut output)? != SourceStatus::More {
                break;
            }
        }
        rows.extend(output.drain().map(|(row, _)| row));
        positions.extend(source.positions()?);
    }
    Ok((rows, positions))
}

fn all<F: FileFormat<Record = Row>>(source: &FileSource<F>) -> Result<Vec<Row>> {
    read(source, &None, 1, |_| usize::MAX).map(|(rows, _)| rows)
}

fn texts(rows: &[Row]) -> Vec<String> {
    let mut lines: Vec<_> = rows.iter().map(|row| row.get(0).to_string()).collect();
    lines.sort_unstable();
    lines
}

/// Reads some records of each subtask, again and again at another parallelism, and then the rest: all lines,
/// sorted.
fn read_in_steps(folder: &Path, split_size: u64, steps: &[(u32, Vec<usize>)]) -> Vec<String> {
    let mut rows = Vec::new();
    let mut restored = None;
    for (parallelism, polls) in steps {
        let source = FileSource::new(folder, TextLines).split_size(split_size);
        let (more, positions) = read(&source, &restored, *parallelism, |i| polls[i as usize]).unwrap();
        rows.extend(more);
        restored = Some(positions);
    }
    let source = FileSource::new(folder, TextLines).split_size(split_size + 1);
    rows.extend(read(&source, &restored, 3, |_| usize::MAX).unwrap().0);
    texts(&rows)
}

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn orders() -> CsvFiles {
    CsvFiles::new(vec![
        Column::new("amount", ColumnType::Float).nullable(),
        Column::new("user", ColumnType::Text),
    ])
}

/// A file as lines, each with a line end of its own; the last may have none.
fn file() -> impl Strategy<Value = (String, Vec<String>)> {
    let line = ("[a-c]{0,6}", prop_oneof![Just("\n"), Just("\r\n")]);
    (proptest::collection::vec(line, 0..30), any::<bool>()).prop_map(|(lines, cut_last)| {
        let mut text: String = lines.iter().flat_map(|(line, end)| [line.as_str(), end]).collect();
        let mut lines: Vec<String> = lines.into_iter().map(|(line, _)| line).collect();
        if cut_last && lines.last().is_some_and(|last| !last.is_empty()) {
            text.truncate(text.trim_end_matches(['\r', '\n']).len());
        } else if cut_last && !lines.is_empty() {
            // An empty last line without a line end does not exist.
            let end = text.len() - if text.ends_with("\r\n") { 2 } else { 1 };
            text.truncate(end);
            lines.pop();
        }
        (text, lines)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(crate::test_cases(256)))]

    /// The source reads every line once, however it cuts the files, wherever each attempt dies, and at
    /// whatever parallelism the next one runs.
    #[test]
    fn every_line_is_read_once(
        files in proptest::collection::vec(file(), 1..4),
        split_size in 1u64..60,
        steps in proptest::collection::vec((1u32..5, proptest::collection::vec(0usize..12, 5)), 0..5),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut wanted = Vec::new();
        for (i, (text, lines)) in files.iter().enumerate() {
            fs::write(folder.path().join(format!("{i}.txt")), text).unwrap();
            wanted.extend(lines.iter().cloned());
        }
        wanted.sort_unstable();
        prop_assert_eq!(read_in_steps(folder.path(), split_size, &steps), wanted);
    }

    #[test]
    fn a_csv_header_is_no_record_however_it_is_cut(split_size in 1u64..80, parallelism in 1u32..4) {
        let folder = folder(&[
            ("a.csv", "user,note,amount\nann,x,1\nbob,\"y, \"\"z\"\"\",\n\ncy,,-2.5"),
            ("b.csv", "\u{feff}amount,user\n7,\"d,e\"\n"),
            ("c.csv", "amount,user"),
        ]);
        let source = FileSource::new(folder.path(), orders()).split_size(split_size);
        let (rows, _) = read(&source, &None, parallelism, |_| usize::MAX).unwrap();
        let mut lines: Vec<_> = rows.iter().map(|row| format!("{} {}", row.get(1), row.get(0))).collect();
        lines.sort_unstable();
        prop_assert_eq!(lines, ["ann 1", "bob null", "cy -2.5", "d,e 7"]);
    }

    #[test]
    fn quoted_line_ends_belong_to_the_field(
        fields in proptest::collection::vec("[a,\"\n]{0,5}", 1..20),
        stop in 0usize..20,
    ) {
        let mut text = String::from("id,note\n");
        for (i, field) in fields.iter().enumerate() {
            text += &format!("{i},\"{}\"\n", field.replace('"', "\"\""));
        }
        let folder = folder(&[("a.csv", &text)]);
        let format = CsvFiles::new(vec![Column::new("note", ColumnType::Text)]).quoted_newlines(true);
        let source = FileSource::new(folder.path().join("a.csv"), format).split_size(7);
        let (mut rows, positions) = read(&source, &None, 2, |_| stop).unwrap();
        rows.extend(read(&source, &Some(positions), 1, |_| usize::MAX).unwrap().0);
        let notes: Vec<_> = rows.iter().map(|row| row.get(0).to_string()).collect();
        prop_assert_eq!(notes, fields);
    }
}

#[test]
fn json_members_become_columns() {
    let text = "{\"user\":\"ann\",\"amount\":3,\"more\":{\"x\":[1]}}\n\n  \
                {\"amount\":null,\"user\":\"b\\u00f6b\"}\r\n";
    let folder = folder(&[("a.jsonl", text)]);
    let columns =
        vec![Column::new("amount", ColumnType::Float).nullable(), Column::new("user", ColumnType::Text)];
    let rows = all(&FileSource::new(folder.path(), JsonLines::new(columns))).unwrap();
    let wanted: [Row; 2] = [
        [Value::Float(3.0), Value::text("ann")].into_iter().collect(),
        [Value::Null, Value::text("böb")].into_iter().collect(),
    ];
    assert_eq!(rows, wanted);
}

#[test]
fn a_bad_record_is_named_by_file_line_and_byte() {
    let cases = [
        ("user,amount\nann,1\nbob,x\n", "column \"amount\": expected float, found \"x\"", Some(("3", "18"))),
        ("user,amount\nann\n", "expected 2 fields, found 1", Some(("2", "12"))),
        ("user,price\nann,1\n", "no column \"amount\" in the header, which has user, price", None),
        ("", "no column \"amount\" in the header, which has ", None),
    ];
    for (text, message, place) in cases {
        let folder = folder(&[("a.csv", text), ("b.csv", "user,amount\n")]);
        let result = all(&FileSource::new(folder.path(), orders()));
        if text.is_empty() {
            assert!(result.unwrap().is_empty(), "an empty file has no records and needs no header");
            continue;
        }
        let error = result.unwrap_err();
        assert_eq!(error.message(), message);
        assert!(error.context("file").unwrap().ends_with("a.csv"), "{error}");
        assert_eq!(error.context("line").zip(error.context("byte")), place, "{error}");
    }
    let folder = folder(&[("a.jsonl", "{\"amount\":1}\n{\"amount\":\"1\"}\n")]);
    let format = JsonLines::new(vec![Column::new("amount", ColumnType::Int)]);
    let error = all(&FileSource::new(folder.path(), format)).unwrap_err();
    assert_eq!(error.context("line"), Some("2"));
    assert!(error.message().contains("expected int in column \"amount\""), "{error}");
}

#[test]
fn bad_records_are_skipped_and_counted_over_a_restore() {
    let folder = folder(&[("a.csv", "user,amount\nann,1\nbob,x\n\u{e9},2\ncy,y\ndi,z\ned,3\n")]);
    let source = || FileSource::new(folder.path(), orders()).on_bad_record(OnBadRecord::Skip);
    let first = source();
    let (rows, positions) = read(&first, &None, 1, |_| 3).unwrap();
    assert_eq!((rows.len(), first.bad_records()), (2, 1));
    let second = source();
    let (rows, _) = read(&second, &Some(positions), 2, |_| usize::MAX).unwrap();
    assert_eq!((rows.len(), second.bad_records()), (1, 3));
}

#[test]
fn lines_longer_than_the_buffer_and_missing_input() {
    let long = "x".repeat(1_000_000);
    let folder = folder(&[("a.txt", &format!("{long}\nshort\n{long}"))]);
    let source = FileSource::new(folder.path(), TextLines).split_size(100_000);
    assert_eq!(texts(&all(&source).unwrap()), ["short", &long, &long]);

    let error = all(&FileSource::new(folder.path().join("none"), TextLines)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let empty = tempfile::tempdir().unwrap();
    let error = all(&FileSource::new(empty.path(), TextLines)).unwrap_err();
    assert!(error.message().contains("holds no files"), "{error}");
}

/// A watermark belongs to a subtask: with the older splits of another, their records would be late.
#[test]
fn an_unchanged_parallelism_leaves_each_subtask_its_splits() {
    let text: String = (10..60).map(|n| format!("{n}\n")).collect();
    let folder = folder(&[("a.txt", &text)]);
    let source = FileSource::new(folder.path(), TextLines).split_size(15);
    let open = |restored: &Option<Vec<FilePosition>>, subtask| {
        source.open(SourceContext { subtask, parallelism: 2, restored: restored.clone() }).unwrap()
    };
    let mut output = Batch::new();
    let mut fast = open(&None, 1);
    fast.poll(20, &mut output).unwrap();
    let mut positions = open(&None, 0).positions().unwrap();
    positions.extend(fast.positions().unwrap());
    let restored = Some(positions.clone());
    output.clear();
    for _ in 0..20 {
        fast.poll(3, &mut output).unwrap();
    }
    let wanted = texts(output.records());
    output.clear();
    let mut again = open(&restored, 1);
    for _ in 0..20 {
        again.poll(3, &mut output).unwrap();
    }
    assert_eq!(texts(output.records()), wanted);

    let mut gap = positions;
    let place = gap.iter().position(|position| matches!(position.0, position::Stored::Split(_))).unwrap();
    gap.remove(place);
    let error = source.open(SourceContext { subtask: 0, parallelism: 2, restored: Some(gap) }).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}
