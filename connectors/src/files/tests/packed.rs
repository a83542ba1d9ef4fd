//! Compressed files: the rows of the text in them, and errors that name a place.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

#[derive(Clone, Copy, Debug)]
enum Form {
    Plain,
    Gzip,
    Zstd,
}

/// The text in this form; of compressed ones, each chunk is a member or a frame.
fn pack(form: Form, text: &[u8], chunk: usize) -> Vec<u8> {
    let chunks: Vec<_> = if text.is_empty() { vec![text] } else { text.chunks(chunk).collect() };
    let gzip = |chunk: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(chunk).unwrap();
        encoder.finish().unwrap()
    };
    match form {
        Form::Plain => text.to_vec(),
        Form::Gzip => chunks.into_iter().flat_map(gzip).collect(),
        Form::Zstd => chunks.into_iter().flat_map(|chunk| zstd::encode_all(chunk, 1).unwrap()).collect(),
    }
}

fn form() -> impl Strategy<Value = Form> {
    proptest::sample::select(vec![Form::Plain, Form::Gzip, Form::Zstd])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(crate::test_cases(128)))]

    /// The rows are those of the plain text, however it is compressed and in how many pieces, wherever each
    /// attempt dies, and at whatever parallelism the next one runs.
    #[test]
    fn the_rows_are_those_of_the_plain_text(
        files in proptest::collection::vec((file(), form(), 1usize..50, 1usize..4), 1..4),
        split_size in 1u64..60,
        steps in proptest::collection::vec((1u32..4, proptest::collection::vec(0usize..12, 4)), 0..5),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut wanted = Vec::new();
        for (i, ((text, lines), form, chunk, times)) in files.iter().enumerate() {
            // Long enough that the head of a file is not all of it.
            let (text, lines) = match text.ends_with('\n') {
                true => (text.repeat(1 + times * 20), vec![lines.clone(); 1 + times * 20].concat()),
                false => (text.clone(), lines.clone()),
            };
            fs::write(folder.path().join(format!("{i}")), pack(*form, text.as_bytes(), *chunk)).unwrap();
            wanted.extend(lines);
        }
        wanted.sort_unstable();
        prop_assert_eq!(read_in_steps(folder.path(), split_size, &steps), wanted);
    }

    /// A file that was cut short is an error, wherever, and never the end of the input.
    #[test]
    fn a_file_that_was_cut_is_an_error(gzip: bool, lines in 1usize..3000, cut in 0.0f64..1.0) {
        let text: String = (0..lines).map(|i| format!("{}\n", i * 7919)).collect();
        let packed = pack(if gzip { Form::Gzip } else { Form::Zstd }, text.as_bytes(), usize::MAX);
        let len = 4 + (cut * (packed.len() - 4) as f64) as usize;
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.gz"), &packed[..len]).unwrap();
        let error = all(&FileSource::new(folder.path(), TextLines)).unwrap_err();
        prop_assert_eq!(error.kind(), ErrorKind::Invalid);
        prop_assert!(error.message().contains("ends early"), "{}", error);
        prop_assert!(error.context("file").unwrap().ends_with("a.gz"), "{}", error);
        prop_assert!(error.context("decompressed byte").is_some(), "{}", error);
    }

    /// A changed bit is an error or changes nothing (such as a time in the header of gzip).
    #[test]
    fn a_damaged_file_is_no_other_text(at in 4.0f64..1.0e6, bit in 0u8..8) {
        let text: String = (0..500).map(|i| format!("{}\n", i * 7919)).collect();
        let mut packed = pack(Form::Gzip, text.as_bytes(), usize::MAX);
        let at = 4 + at as usize % (packed.len() - 4);
        packed[at] ^= 1 << bit;
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.gz"), &packed).unwrap();
        match all(&FileSource::new(folder.path(), TextLines)) {
            Ok(rows) => prop_assert_eq!(rows.len(), 500),
            Err(error) => prop_assert_eq!(error.kind(), ErrorKind::Invalid, "{}", error),
        }
    }
}

fn lines(numbers: std::ops::Range<u32>) -> String {
    numbers.map(|i| format!("{i}\n")).collect()
}

fn source(folder: &TempDir) -> FileSource<TextLines> {
    FileSource::new(folder.path(), TextLines)
}

#[test]
fn a_compressed_file_is_known_by_its_content() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("a"), pack(Form::Gzip, lines(0..3000).as_bytes(), 4000)).unwrap();
    let (first, begun) = read(&source(&folder), &None, 1, |_| 1500).unwrap();
    // Compressed in another way, the text is the same.
    fs::write(path("a"), pack(Form::Zstd, lines(0..3000).as_bytes(), 999)).unwrap();
    let (second, positions) = read(&source(&folder), &Some(begun.clone()), 1, |_| usize::MAX).unwrap();
    assert_eq!((first.len(), second.len()), (1500, 1500));

    // What was read whole may go, and come back; what was not is missed.
    fs::rename(path("a"), path("b")).unwrap();
    assert_eq!(read(&source(&folder), &Some(positions), 2, |_| usize::MAX).unwrap().0.len(), 0);
    let renamed = read(&source(&folder), &Some(begun.clone()), 2, |_| usize::MAX).unwrap().0;
    assert_eq!(renamed.len(), 1500, "it has another name");

    // Another text, or the same text uncompressed, is another file.
    fs::remove_file(path("b")).unwrap();
    for other in [pack(Form::Gzip, lines(1..3001).as_bytes(), 4000), lines(0..3000).into_bytes()] {
        fs::write(path("a"), other).unwrap();
        let error = read(&source(&folder), &Some(begun.clone()), 1, |_| usize::MAX).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Incompatible, "{error}");
    }
    fs::remove_file(path("a")).unwrap();
    let error = read(&source(&folder), &Some(begun), 1, |_| usize::MAX).unwrap_err();
    assert!(error.message().contains("read in part is gone"), "{error}");
}

#[test]
fn a_compressed_file_that_grew_after_it_was_read_whole_is_an_error_and_before_it_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.gz");
    let follow = || source(&folder).at_end(AtEnd::Follow);
    let part = pack(Form::Gzip, lines(0..100).as_bytes(), usize::MAX);
    fs::write(&path, &part).unwrap();
    let (_, unread) = read(&follow(), &None, 1, |_| 0).unwrap();
    let (_, begun) = read(&follow(), &None, 1, |_| 60).unwrap();
    let (rows, whole) = read(&follow(), &None, 1, |_| usize::MAX).unwrap();
    assert_eq!(rows.len(), 100);
    fs::write(&path, [part, pack(Form::Gzip, lines(100..130).as_bytes(), usize::MAX)].concat()).unwrap();
    for (positions, left) in [(unread, 130), (begun, 70)] {
        assert_eq!(read(&follow(), &Some(positions), 1, |_| usize::MAX).unwrap().0.len(), left);
    }
    let error = read(&follow(), &Some(whole), 1, |_| usize::MAX).unwrap_err();
    assert!(error.message().contains("has grown after it was read whole"), "{error}");
}

#[test]
fn a_last_line_without_its_end_does_not_wait_and_a_bad_record_has_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let mut text = String::from("user,amount\n");
    (0..20_000).for_each(|i| text += &format!("u{i},{i}\n"));
    text += "bob,x\nlong,";
    text += &"7".repeat(300_000);
    text += "\nann,1";
    let columns = || WithDeadLetters(orders());
    let source = || {
        FileSource::new(folder.path(), columns())
            .on_bad_record(OnBadRecord::Keep)
            .max_record(1000)
            .at_end(AtEnd::Follow)
    };
    for form in [Form::Plain, Form::Gzip, Form::Zstd] {
        fs::write(folder.path().join("a.csv"), pack(form, text.as_bytes(), 7_000)).unwrap();
        let mut subtask =
            source().open(SourceContext { subtask: 0, parallelism: 1, restored: None }).unwrap();
        let mut output = Batch::new();
        while subtask.poll(1000, &mut output).unwrap() == SourceStatus::More {}
        let (good, bad): (Vec<_>, Vec<_>) = output.records().iter().partition(|record| record.is_ok());
        let waits = usize::from(matches!(form, Form::Plain));
        assert_eq!(good.len(), 20_001 - waits, "{form:?}");
        let letters: Vec<_> = bad.iter().map(|letter| letter.as_ref().unwrap_err()).collect();
        let places: Vec<_> = letters.iter().map(|letter| letter.line).collect();
        assert_eq!(places, [20_002, 20_003], "{form:?}");
        assert_eq!(letters[0].record, b"bob,x");
        assert!(letters[1].record.starts_with(b"long,777") && letters[1].record.len() >= 1000);
    }
}

#[test]
fn what_a_compressed_file_holds_is_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    for (content, part) in [
        (&b"a\0b\0c\0\n\0"[..], "UTF-16"),
        (&pack(Form::Zstd, b"text\n", 10), "decompress it once"),
        (&[0, 159, 146, 150][..], "binary"),
    ] {
        fs::write(folder.path().join("a.gz"), pack(Form::Gzip, content, usize::MAX)).unwrap();
        let error = all(&source(&folder)).unwrap_err();
        assert!(error.message().contains(part), "{part}: {error}");
    }
    let garbage = [pack(Form::Gzip, b"1\n", 10), b"garbage".to_vec()].concat();
    fs::write(folder.path().join("a.gz"), garbage).unwrap();
    let error = all(&source(&folder)).unwrap_err();
    assert!(error.context("compressed byte").is_some(), "{error}");
}

#[test]
fn a_file_that_was_compressed_after_it_was_read_is_the_same_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for (name, numbers) in [("a.log", 0..2000), ("b.log", 500..2500), ("c.log", 7..9)] {
        fs::write(path(name), lines(numbers)).unwrap();
    }
    let (rows, begun) = read(&source(&folder), &None, 1, |_| 2700).unwrap();
    let (all_rows, whole) = read(&source(&folder), &None, 2, |_| usize::MAX).unwrap();
    assert_eq!((rows.len(), all_rows.len()), (2700, 4002));
    for (name, to, numbers) in [("a.log", "a.log.2.gz", 0..2010), ("b.log", "b.log.gz", 500..2500)] {
        fs::remove_file(path(name)).unwrap();
        fs::write(path(to), pack(Form::Gzip, lines(numbers).as_bytes(), 3000)).unwrap();
    }
    let (more, _) = read(&source(&folder), &Some(begun), 2, |_| usize::MAX).unwrap();
    assert_eq!(
        more.len(),
        1302 + 10,
        "what was not read of b and c, and what a got before it was compressed"
    );
    fs::remove_file(path("c.log")).unwrap();
    fs::write(path("c.log.zst"), pack(Form::Zstd, b"7\n8\n", 3)).unwrap();
    let (more, after) = read(&source(&folder), &Some(whole), 3, |_| usize::MAX).unwrap();
    assert_eq!(texts(&more), (2000..2010).map(|i| i.to_string()).collect::<Vec<_>>());
    assert_eq!(read(&source(&folder), &Some(after), 1, |_| usize::MAX).unwrap().0.len(), 0);
}
