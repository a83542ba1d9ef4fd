//! What becomes of files between two runs, and while a source reads them.

use super::*;

#[test]
fn a_changed_input_is_noticed_and_new_lines_and_files_are_read() {
    let folder = folder(&[("a.txt", "1\n2\n"), ("b.txt", "3\n4")]);
    let source = || FileSource::new(folder.path(), TextLines);
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    let (_, positions) = read(&source(), &None, 1, |_| usize::MAX).unwrap();
    let restored = Some(positions);
    assert!(read(&source(), &restored, 1, |_| usize::MAX).unwrap().0.is_empty(), "nothing is read twice");

    write("a.txt", "1\n2\n5\n");
    write("c.txt", "6\n");
    write("_ignored", "7\n");
    write(".ignored", "8\n");
    assert_eq!(texts(&read(&source(), &restored, 2, |_| usize::MAX).unwrap().0), ["5", "6"]);

    write("b.txt", "3\n44\n");
    let error = read(&source(), &restored, 1, |_| 1).unwrap_err();
    assert!(error.message().contains("grew within a line"), "{error}");
    write("b.txt", "3\n");
    let error = read(&source(), &restored, 1, |_| 1).unwrap_err();
    assert!(error.message().contains("shorter than when"), "{error}");
}

/// What of `positions` is left to read, from a folder as it is now.
fn rest(folder: &TempDir, positions: &[FilePosition], parallelism: u32) -> Result<Vec<String>> {
    let source = FileSource::new(folder.path(), TextLines).split_size(1_000);
    read(&source, &Some(positions.to_vec()), parallelism, |_| usize::MAX).map(|(rows, _)| texts(&rows))
}

/// A folder with `a.txt`, which was read whole, `b.txt`, which was read in part, and `c.txt`, which was not
/// begun; and the positions.
fn begun() -> (TempDir, Vec<FilePosition>) {
    let text = |letter: &str| -> String { (100..400).map(|n| format!("{letter}{n}\n")).collect() };
    let folder = folder(&[("a.txt", "a1\na2\n"), ("b.txt", &text("b")), ("c.txt", "c1\nc2\n")]);
    let source = FileSource::new(folder.path(), TextLines).split_size(100_000);
    let (rows, positions) = read(&source, &None, 1, |_| 2 + 30).unwrap();
    assert!(texts(&rows).starts_with(&["a1".into(), "a2".into(), "b100".into()]));
    assert_eq!(rows.len(), 32);
    (folder, positions)
}

#[test]
fn a_file_that_was_read_whole_may_go_and_come_back_but_no_other() {
    let (folder, positions) = begun();
    let all = rest(&folder, &positions, 1).unwrap();
    assert_eq!((all.len(), all.iter().filter(|row| row.starts_with('c')).count()), (270 + 2, 2));
    let path = |name: &str| folder.path().join(name);
    fs::rename(path("a.txt"), path(".a")).unwrap();
    assert_eq!(rest(&folder, &positions, 1).unwrap(), all, "a was archived");
    // A checkpoint that was taken meanwhile still knows the file.
    let source = FileSource::new(folder.path(), TextLines);
    let (_, later) = read(&source, &Some(positions.clone()), 2, |_| 1).unwrap();
    fs::copy(path(".a"), path("a.txt")).unwrap();
    assert!(rest(&folder, &later, 2).unwrap().iter().all(|row| !row.starts_with('a')), "a was put back");
    for (name, what, read) in [("b.txt", "in part", "150"), ("c.txt", "not read yet", "0")] {
        fs::rename(path(name), path(".gone")).unwrap();
        let error = rest(&folder, &positions, 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.message().contains(what), "{error}");
        assert!(error.context("file").unwrap().ends_with(name), "{error}");
        assert_eq!(error.context("bytes read"), Some(read), "{error}");
        fs::rename(path(".gone"), path(name)).unwrap();
    }
}

#[test]
fn a_renamed_file_is_found_again() {
    let (folder, positions) = begun();
    let all = rest(&folder, &positions, 1).unwrap();
    let path = |name: &str| folder.path().join(name);
    for (from, to) in [("a.txt", "z.txt"), ("b.txt", "a.txt"), ("c.txt", "b.txt")] {
        fs::rename(path(from), path(to)).unwrap();
    }
    assert_eq!(
        rest(&folder, &positions, 2).unwrap(),
        all,
        "three files have other names, two of them known ones"
    );
    // A copy has another inode; what was read of it is the same.
    fs::copy(path("a.txt"), path("copy.txt")).unwrap();
    fs::remove_file(path("a.txt")).unwrap();
    assert_eq!(rest(&folder, &positions, 1).unwrap(), all);
    // As a log is rotated: it has another name and more lines, and a new one has its name.
    fs::rename(path("z.txt"), path("a.1.txt")).unwrap();
    fs::write(path("a.1.txt"), "a1\na2\na3\n").unwrap();
    fs::write(path("a.txt"), "a4\n").unwrap();
    let mut more = all;
    more.splice(0..0, ["a3".to_owned(), "a4".to_owned()]);
    assert_eq!(rest(&folder, &positions, 1).unwrap(), more);
}

#[test]
fn a_file_with_the_content_of_one_that_is_gone_is_a_new_file() {
    let (folder, positions) = begun();
    fs::write(folder.path().join("d.txt"), "a1\na2\n").unwrap();
    fs::remove_file(folder.path().join("a.txt")).unwrap();
    let rows = rest(&folder, &positions, 1).unwrap();
    assert_eq!(rows.iter().filter(|row| row.starts_with('a')).count(), 2);
}

#[test]
fn another_content_under_a_known_name_is_refused() {
    let other: String = (100..500).map(|n| format!("x{n}\n")).collect();
    let same_line: String = format!("x{}", (101..500).map(|n| format!("b{n}\n")).collect::<String>());
    for (name, text, message) in [
        ("a.txt", "x1\nx2\n", "was read whole, and another one has its name"),
        ("a.txt", "x1\nx2\nx3\n", "was read whole, and another one has its name"),
        ("b.txt", &other, "is not the one that the checkpoint was taken of"),
        ("b.txt", &same_line, "is not the one that the checkpoint was taken of"),
        ("b.txt", "b100\n", "is shorter than when"),
    ] {
        let (folder, positions) = begun();
        fs::write(folder.path().join(name), text).unwrap();
        let error = rest(&folder, &positions, 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Incompatible);
        assert!(error.message().contains(message), "{error}");
        assert!(error.context("file").unwrap().ends_with(name), "{error}");
        if text == other {
            assert!(error.context("expected before it").unwrap().contains("b129"), "{error}");
            assert!(error.context("found before it").unwrap().contains("x129"), "{error}");
        }
    }
    // A file that was touched, or written anew with the same content, is the same.
    let (folder, positions) = begun();
    let all = rest(&folder, &positions, 1).unwrap();
    let text = fs::read(folder.path().join("b.txt")).unwrap();
    fs::remove_file(folder.path().join("b.txt")).unwrap();
    fs::write(folder.path().join("b.txt"), text).unwrap();
    assert_eq!(rest(&folder, &positions, 1).unwrap(), all);
}

#[test]
fn a_source_that_reads_its_files_in_another_way_is_refused() {
    let folder = folder(&[("a.csv", "amount,user\n1,a\n2,b\n")]);
    let (_, positions) = read(&FileSource::new(folder.path(), orders()), &None, 1, |_| 1).unwrap();
    let restored = Some(positions);
    let columns = || vec![Column::new("user", ColumnType::Text)];
    for format in [orders().delimiter(b';'), orders().header(false), orders().quoted_newlines(true)] {
        let error = read(&FileSource::new(folder.path(), format), &restored, 1, |_| 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Incompatible);
        let stored = error.context("stored").unwrap();
        assert!(
            stored.starts_with("CSV with a header") && error.context("wanted") != Some(stored),
            "{error}"
        );
    }
    let lines = read(&FileSource::new(folder.path(), TextLines), &restored, 1, |_| 1).unwrap_err();
    assert_eq!(lines.context("wanted"), Some("lines of text"));
    let fewer = FileSource::new(folder.path(), CsvFiles::new(columns()));
    assert_eq!(read(&fewer, &restored, 1, |_| usize::MAX).unwrap().0.len(), 1, "columns may change");
}

/// The rows of each poll of one subtask, until `polls` of them brought none.
fn watched(source: &mut FileSubtask<TextLines>) -> Vec<String> {
    let mut output = Batch::new();
    let mut silent = 0;
    while silent < 3 {
        let before = output.len();
        assert_ne!(source.poll(100, &mut output).unwrap(), SourceStatus::End);
        silent = if output.len() > before { 0 } else { silent + 1 };
    }
    texts(output.records())
}

#[test]
fn a_last_line_waits_for_its_end_while_the_source_follows() {
    let folder = folder(&[("a.txt", "1\n2\n3")]);
    let source = || FileSource::new(folder.path(), TextLines).at_end(AtEnd::Follow);
    let finished = |restored: &[FilePosition]| {
        let (restored, finished) = (Some(restored.to_vec()), true);
        source().plan(PlanContext { parallelism: 1, restored, ended: finished, finished }).unwrap()
    };
    let (rows, positions) = read(&source(), &None, 2, |_| usize::MAX).unwrap();
    assert_eq!(texts(&rows), ["1", "2"]);
    assert_eq!(finished(&positions), Unread::Nothing);
    fs::write(folder.path().join("a.txt"), "1\n2\n34\n5").unwrap();
    assert_eq!(finished(&positions), Unread::Read);
    let (rows, positions) = read(&source(), &Some(positions), 1, |_| usize::MAX).unwrap();
    assert_eq!(texts(&rows), ["34"]);
    let end = FileSource::new(folder.path(), TextLines);
    assert_eq!(texts(&read(&end, &Some(positions), 1, |_| usize::MAX).unwrap().0), ["5"]);
}

#[test]
fn what_came_after_the_end_is_named() {
    let folder = folder(&[("a.txt", "1\n")]);
    let source = || FileSource::new(folder.path(), TextLines);
    let (_, positions) = read(&source(), &None, 1, |_| usize::MAX).unwrap();
    let plan = || {
        let (restored, finished) = (Some(positions.clone()), true);
        source().plan(PlanContext { parallelism: 2, restored, ended: finished, finished }).unwrap()
    };
    assert_eq!(plan(), Unread::Nothing);
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("c.txt", "2\n");
    assert_eq!(plan(), Unread::Left("1 new file is not read (c.txt)".into()));
    write("d-10.txt", "3\n");
    write("d-9.txt", "3\n");
    write("a.txt", "1\n4\n");
    let left = "3 new files are not read (c.txt to d-10.txt), 1 file has grown and is not read (a.txt)";
    assert_eq!(plan(), Unread::Left(left.into()));
    fs::remove_dir_all(folder.path()).unwrap();
    assert_eq!(plan(), Unread::Nothing, "there is nothing to do, and no reason to fail");
}

#[test]
fn a_source_that_watches_reads_new_files_and_lines_once() {
    let folder = folder(&[("a.txt", "a1\na2")]);
    let source = || FileSource::new(folder.path(), TextLines).at_end(AtEnd::Watch { every: Duration::ZERO });
    let path = |name: &str| folder.path().join(name);
    let open = |restored| source().open(SourceContext { subtask: 0, parallelism: 1, restored }).unwrap();
    let mut reader = open(None);
    assert_eq!(watched(&mut reader), ["a1"]);
    fs::write(path("a.txt"), "a1\na2\na3\n").unwrap();
    fs::write(path(".b"), "b1\n").unwrap();
    assert_eq!(watched(&mut reader), ["a2", "a3"]);
    fs::rename(path(".b"), path("b.txt")).unwrap();
    assert_eq!(watched(&mut reader), ["b1"]);
    // A log is rotated while it is read; a file that is done is archived.
    fs::rename(path("a.txt"), path("a.1.txt")).unwrap();
    fs::write(path("a.txt"), "a5\n").unwrap();
    use std::io::Write;
    let mut log = fs::OpenOptions::new().append(true).open(path("a.1.txt")).unwrap();
    log.write_all(b"a4\n").unwrap();
    fs::rename(path("b.txt"), path(".b")).unwrap();
    assert_eq!(watched(&mut reader), ["a4", "a5"]);
    // What was read is known to the next run, too.
    let mut reader = open(Some(reader.positions().unwrap()));
    assert_eq!(watched(&mut reader), [""; 0]);
    fs::write(path("c.txt"), "c1\n").unwrap();
    assert_eq!(watched(&mut reader), ["c1"]);
    fs::write(path(".c"), "x1\n").unwrap();
    fs::rename(path(".c"), path("c.txt")).unwrap();
    let error = loop {
        match reader.poll(9, &mut Batch::new()) {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::Incompatible);
    assert!(error.context("file").unwrap().ends_with("c.txt"), "{error}");
}

/// The executor tries again after an unavailable input also while a job starts, and the next attempt finds the new
/// name.
#[test]
fn a_file_that_is_renamed_between_its_listing_and_its_reading_is_unavailable_and_not_missing() {
    let folder = folder(&[("a.txt", "a1\n"), ("b.txt", "b1\n")]);
    let source = FileSource::new(folder.path(), TextLines);
    let context = SourceContext { subtask: 0, parallelism: 1, restored: None };
    let mut reader = source.open(context).unwrap();
    fs::rename(folder.path().join("a.txt"), folder.path().join("c.txt")).unwrap();
    let error = reader.poll(9, &mut Batch::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.context("file").unwrap().ends_with("a.txt"), "{error}");
    source.plan(PlanContext { parallelism: 1, restored: None, ended: false, finished: false }).unwrap();
    assert_eq!(texts(&all(&source).unwrap()), ["a1", "b1"]);
}
