//! Bad records beside event times, and at the end of a file that may grow.

use super::*;

fn timed() -> CsvFiles {
    CsvFiles::new(vec![Column::new("time", ColumnType::Int), Column::new("user", ColumnType::Text)])
        .header(false)
}

fn time_of(row: &Row) -> Option<Timestamp> {
    row.get(0).as_int().and_then(Timestamp::from_stored)
}

#[test]
fn no_record_behind_a_bad_one_is_late() {
    let long = "1,".to_owned() + &"x".repeat(200_000);
    let folder = folder(&[
        ("a.csv", &format!("{long}\n10,a\n30,a\n50,a\n")),
        ("b.csv", "none,b\n20,b\n40,b\n60,b\n"),
        ("c.csv", "15,c\n35,\"c\nd\n55,c\n"),
    ]);
    let source = FileSource::new(folder.path(), timed())
        .max_record(100)
        .on_bad_record(OnBadRecord::Skip)
        .event_time(Duration::ZERO, time_of);
    let mut subtask = source.open(SourceContext { subtask: 0, parallelism: 1, restored: None }).unwrap();
    let mut output = Batch::new();
    let mut watermark = None;
    loop {
        let before = output.len();
        let status = subtask.poll(1, &mut output).unwrap();
        let late = output.records().iter().skip(before).filter(|row| time_of(row) <= watermark);
        assert_eq!(late.count(), 0, "behind {watermark:?}");
        watermark = subtask.time().unwrap().watermark;
        if status != SourceStatus::More {
            break;
        }
    }
    let mut times: Vec<_> = output.records().iter().map(|row| row.get(0).as_int().unwrap()).collect();
    times.sort_unstable();
    assert_eq!(times, [10, 15, 20, 30, 40, 50, 55, 60]);
    assert_eq!(source.bad_records(), 4, "a long one, one without a time, a quote that stays open, and `d`");
}

#[test]
fn dead_letters_have_no_time_and_hold_no_watermark_back() {
    let folder = folder(&[("a.csv", "10,a\nnone,b\n30,c\n")]);
    let source = FileSource::new(folder.path(), WithDeadLetters(timed()))
        .on_bad_record(OnBadRecord::Keep)
        .event_time(Duration::ZERO, |record: &Result<Row, DeadLetter>| {
            record.as_ref().ok().and_then(time_of)
        });
    let mut subtask = source.open(SourceContext { subtask: 0, parallelism: 1, restored: None }).unwrap();
    let mut output = Batch::new();
    while subtask.poll(10, &mut output).unwrap() == SourceStatus::More {}
    let (records, times) = output.into_columns();
    let letters: Vec<_> = records.iter().filter_map(|record| record.as_ref().err()).collect();
    assert_eq!(letters.iter().map(|letter| (letter.line, letter.byte)).collect::<Vec<_>>(), [(2, 5)]);
    assert_eq!(times, [Some(10), None, Some(30)].map(|time| time.map(Timestamp::from_millis)));
}

#[test]
fn a_long_last_line_waits_for_its_end_too() {
    let long = "x".repeat(300_000);
    let folder = folder(&[("a.txt", &format!("1\n{long}"))]);
    let source = FileSource::new(folder.path(), TextLines)
        .max_record(100)
        .on_bad_record(OnBadRecord::Skip)
        .at_end(AtEnd::Follow);
    let (rows, positions) = read(&source, &None, 1, |_| usize::MAX).unwrap();
    assert_eq!((texts(&rows), source.bad_records()), (vec!["1".to_owned()], 0));
    fs::write(folder.path().join("a.txt"), format!("1\n{long}y\n2\n")).unwrap();
    let (rows, _) = read(&source, &Some(positions), 1, |_| usize::MAX).unwrap();
    assert_eq!((texts(&rows), source.bad_records()), (vec!["2".to_owned()], 1));
}

#[test]
fn a_source_that_had_ended_in_a_job_that_had_not_goes_on_only_where_it_follows() {
    let folder = folder(&[("a.txt", "1\n")]);
    let source = |at_end| FileSource::new(folder.path(), TextLines).at_end(at_end);
    let (_, positions) = read(&source(AtEnd::Follow), &None, 1, |_| usize::MAX).unwrap();
    let plan = |at_end, ended| {
        let restored = Some(positions.clone());
        source(at_end).plan(PlanContext { parallelism: 1, restored, ended, finished: false }).unwrap()
    };
    assert_eq!((plan(AtEnd::End, true), plan(AtEnd::Follow, true)), (Unread::Nothing, Unread::Read));
    fs::write(folder.path().join("b.txt"), "2\n").unwrap();
    assert!(matches!(plan(AtEnd::End, true), Unread::Left(_)), "it has ended");
    assert_eq!((plan(AtEnd::End, false), plan(AtEnd::Follow, true)), (Unread::Read, Unread::Read));
}

#[test]
fn another_path_is_refused_where_no_known_file_is_unless_the_input_has_moved() {
    let before = folder(&[("a.txt", "1\n2\n")]);
    let source = |at: &TempDir| FileSource::new(at.path(), TextLines);
    let (_, positions) = read(&source(&before), &None, 2, |_| usize::MAX).unwrap();
    let resume = |source: &FileSource<TextLines>| read(source, &Some(positions.clone()), 1, |_| usize::MAX);
    let elsewhere = folder(&[("b.txt", "3\n")]);
    let error = resume(&source(&elsewhere)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Incompatible);
    assert_eq!(error.context("stored"), before.path().to_str(), "{error}");
    assert_eq!(error.context("wanted"), elsewhere.path().to_str(), "{error}");
    let moved = source(&elsewhere).moved_from(Some(before.path().into()));
    assert_eq!(texts(&resume(&moved).unwrap().0), ["3"]);
    // It moved with its files, or they were archived where they were.
    let along = folder(&[("a.txt", "1\n2\n"), ("b.txt", "3\n")]);
    assert_eq!(texts(&resume(&source(&along)).unwrap().0), ["3"]);
    fs::remove_file(before.path().join("a.txt")).unwrap();
    fs::write(before.path().join("c.txt"), "4\n").unwrap();
    assert_eq!(texts(&resume(&source(&before)).unwrap().0), ["4"]);
}
