//! Broken quotes are bad records, and never make rows of the inside of a field.

use super::*;

fn notes(quoted_newlines: bool) -> CsvFiles {
    let columns = ["user", "note"].map(|name| Column::new(name, ColumnType::Text)).to_vec();
    CsvFiles::new(columns).quoted_newlines(quoted_newlines)
}

/// The users that the file yields, and how many bad records it has.
fn users(text: &str, quoted_newlines: bool) -> (Vec<String>, u64) {
    let folder = folder(&[("a.csv", text)]);
    let source = FileSource::new(folder.path(), notes(quoted_newlines)).on_bad_record(OnBadRecord::Skip);
    let users = all(&source).unwrap().iter().map(|row| row.get(0).to_string()).collect();
    (users, source.bad_records())
}

/// The message about the first bad record, with its line and column.
fn refused(text: &str, quoted_newlines: bool) -> String {
    let folder = folder(&[("a.csv", text)]);
    let error = all(&FileSource::new(folder.path(), notes(quoted_newlines))).unwrap_err();
    let place = |name| error.context(name).unwrap_or("none");
    format!("line {}, column {}: {}", place("line"), place("column"), error.message())
}

const SPANNING: &str = "user,note\nann,\"line one\nline two\"\nbob,x\n";

#[test]
fn a_field_over_several_lines_is_one_bad_record_where_records_are_lines() {
    assert_eq!(users(SPANNING, true), (vec!["ann".into(), "bob".into()], 0));
    assert_eq!(users(SPANNING, false), (vec!["bob".into()], 1));
    let message = refused(SPANNING, false);
    assert!(message.starts_with("line 2, column note") && message.contains("quoted_newlines"), "{message}");
    // Its inside looks like a row.
    assert_eq!(users("user,note\nann,\"one\neve,two\nthree\"\nbob,x\n", false), (vec!["bob".into()], 1));
    assert_eq!(users("user,note\nann,\"one\neve,\"\"two\"\"\n\"\nbob,x\n", false), (vec!["bob".into()], 1));
}

#[test]
fn a_quote_that_never_closes_costs_its_line() {
    let mut text = String::from("user,note\n");
    for i in 1..=1_000 {
        text += &format!("u{i},{}\n", if i == 11 { "\"5 inches" } else { "x" });
    }
    for quoted_newlines in [false, true] {
        let (users, bad) = users(&text, quoted_newlines);
        assert_eq!((users.len(), bad), (999, 1));
        assert!(!users.contains(&"u11".to_owned()));
        let message = refused(&text, quoted_newlines);
        assert!(message.starts_with("line 12, column note") && message.contains("not closed"), "{message}");
    }
    // Later quotes do not take it for their own where records are lines.
    let more = format!("{text}last,\"a b\"\n");
    assert_eq!(users(&more, false).0.len(), 1_000);
    // Where they are not, everything up to there is one bad record.
    assert_eq!(users(&more, true), ((1..11).map(|i| format!("u{i}")).collect(), 1));
}

#[test]
fn a_quote_within_a_field_is_a_bad_record() {
    for (record, part) in [
        ("ann,5\"", "a quote within a field without quotes"),
        ("ann,\"x\" y", "something follows the closing quote"),
        ("a\"n\"n,x", "a quote within a field without quotes"),
    ] {
        for quoted_newlines in [false, true] {
            let text = format!("user,note\n{record}\nbob,x\n");
            assert_eq!(users(&text, quoted_newlines), (vec!["bob".into()], 1), "{record}");
            let message = refused(&text, quoted_newlines);
            assert!(message.starts_with("line 2") && message.contains(part), "{message}");
        }
    }
}

#[test]
fn a_record_that_is_too_long_is_a_bad_one() {
    let text = format!("user,note\nann,{}\nbob,x\n", "y".repeat(700_000));
    let folder = folder(&[("a.csv", &text)]);
    for quoted_newlines in [false, true] {
        for max in [1_000, 300_000] {
            let source = FileSource::new(folder.path(), notes(quoted_newlines)).max_record(max);
            let error = all(&source).unwrap_err();
            assert!(error.message().contains("longer than"), "{error}");
            assert_eq!(error.context("line"), Some("2"));
            let source = source.on_bad_record(OnBadRecord::Skip);
            assert_eq!(all(&source).unwrap().len(), 1);
            assert_eq!(source.bad_records(), 1);
        }
    }
    // A field that would be longer counts as one that never closes.
    let long = format!("user,note\nann,\"{}\"\nbob,x\n", "y\n".repeat(300));
    let folder = self::folder(&[("a.csv", &long)]);
    let source = FileSource::new(folder.path(), notes(true)).max_record(100).on_bad_record(OnBadRecord::Skip);
    assert_eq!(all(&source).unwrap().len(), 1);
}

#[test]
fn dead_letters_hold_the_record_and_its_place() {
    let folder = folder(&[("a.csv", "user,note\nann,\"one\r\ntwo\"\r\nbob,x\ncy\n\u{e9},\"\n")]);
    let format = WithDeadLetters(notes(false));
    let source = FileSource::new(folder.path(), format).on_bad_record(OnBadRecord::Keep);
    let mut output = Batch::new();
    let mut subtask = source.open(SourceContext { subtask: 0, parallelism: 1, restored: None }).unwrap();
    while subtask.poll(1, &mut output).unwrap() != SourceStatus::End {}
    let letters: Vec<_> = output.drain().filter_map(|(record, _)| record.err()).collect();
    let of = |letter: &DeadLetter| {
        let record = String::from_utf8(letter.record.clone()).unwrap();
        (letter.line, letter.byte, letter.column.clone(), record)
    };
    let letters: Vec<_> = letters.iter().map(of).collect();
    assert_eq!(
        letters,
        [
            (2, 10, Some("note".into()), "ann,\"one\r\ntwo\"".into()),
            (5, 32, None, "cy".into()),
            (6, 35, Some("note".into()), "\u{e9},\"".into()),
        ]
    );
    assert_eq!(source.bad_records(), 3);
    let row = DeadLetter {
        file: "a".into(),
        line: 1,
        byte: 0,
        column: None,
        reason: "r".into(),
        record: vec![0xFF, 0],
    }
    .into_row();
    assert_eq!(row.0.len(), DeadLetter::columns().len());
    assert_eq!((row.get(5), row.get(6)), (&Value::Null, &Value::text("/wA=")));
}

/// A file of well-formed records, and which of their users have fields with line ends.
fn well_formed() -> impl Strategy<Value = (String, Vec<(String, bool)>)> {
    let note = prop_oneof![2 => "[a,]{0,3}", 3 => "[a,\"\n]{0,8}"];
    proptest::collection::vec(("[a-c]{1,3}", note), 0..25).prop_map(|records| {
        let (mut text, mut users) = (String::from("user,note\n"), Vec::new());
        for (user, note) in records {
            text += &format!("{user},\"{}\"\n", note.replace('"', "\"\""));
            users.push((user, note.contains('\n')));
        }
        (text, users)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(crate::test_cases(512)))]

    /// However the file is cut into splits.
    #[test]
    fn no_row_is_made_of_the_inside_of_a_field(
        (text, records) in well_formed(),
        split_size in 1u64..60,
        parallelism in 1u32..4,
    ) {
        let folder = folder(&[("a.csv", &text)]);
        let source = FileSource::new(folder.path(), notes(false))
            .split_size(split_size)
            .on_bad_record(OnBadRecord::Skip);
        let (rows, _) = read(&source, &None, parallelism, |_| usize::MAX).unwrap();
        let mut wanted: Vec<_> =
            records.iter().filter(|(_, spans)| !spans).map(|(user, _)| user.clone()).collect();
        wanted.sort_unstable();
        prop_assert_eq!(texts(&rows), wanted);
        prop_assert_eq!(source.bad_records(), records.iter().filter(|(_, spans)| *spans).count() as u64);
    }

    /// Whatever is wrong with a file, its splits agree with the file as a whole about records and bad ones.
    #[test]
    fn splits_agree_about_broken_quotes(
        text in "([a,]{0,3}|[a,\"\n]{0,12}|,\"a\n|\"\n){0,30}",
        split_size in 1u64..60,
        max_record in 4usize..40,
        stops in proptest::collection::vec(0usize..20, 3),
    ) {
        let folder = folder(&[("a.csv", &text)]);
        let source = |split_size| {
            let columns = ["user", "note"].map(|name| Column::new(name, ColumnType::Text)).to_vec();
            FileSource::new(folder.path(), CsvFiles::new(columns).header(false))
                .split_size(split_size)
                .max_record(max_record)
                .on_bad_record(OnBadRecord::Skip)
        };
        prop_assume!(!text.is_empty());
        let whole = source(u64::MAX);
        let wanted = texts(&all(&whole).unwrap());
        let cut = source(split_size);
        let (mut rows, positions) = read(&cut, &None, 3, |i| stops[i as usize]).unwrap();
        let resumed = source(split_size);
        rows.extend(read(&resumed, &Some(positions), 2, |_| usize::MAX).unwrap().0);
        prop_assert_eq!(texts(&rows), wanted);
        prop_assert_eq!(resumed.bad_records(), whole.bad_records());
    }
}
