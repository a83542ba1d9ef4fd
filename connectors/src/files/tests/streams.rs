//! Pipes: read once, and again only if the same bytes come again.

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{Sender, channel};

use super::*;

/// A named pipe, and what is written to it piece by piece; it ends when the sender is dropped.
fn pipe(path: &Path) -> Sender<Vec<u8>> {
    if !path.exists() {
        assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    }
    let (sender, pieces) = channel::<Vec<u8>>();
    let path = path.to_owned();
    std::thread::spawn(move || {
        let mut file = fs::OpenOptions::new().write(true).open(path).unwrap();
        for piece in pieces {
            // The reader may be gone.
            let _ = file.write_all(&piece);
        }
    });
    sender
}

/// Polls until `count` records are there, or the source ends.
fn poll<F: FileFormat<Record = Row>>(subtask: &mut FileSubtask<F>, count: usize) -> (Vec<Row>, SourceStatus) {
    let mut output = Batch::new();
    loop {
        let left = count - output.len();
        let status = subtask.poll(left.min(7), &mut output).unwrap();
        if output.len() == count || status == SourceStatus::End {
            return (output.drain().map(|(row, _)| row).collect(), status);
        }
        std::thread::yield_now();
    }
}

fn open<F: FileFormat>(
    source: &FileSource<F>,
    restored: &Option<Vec<FilePosition>>,
) -> Result<FileSubtask<F>> {
    source.open(SourceContext { subtask: 0, parallelism: 1, restored: restored.clone() })
}

fn lines(numbers: std::ops::Range<u32>) -> Vec<u8> {
    numbers.flat_map(|i| format!("{i}\n").into_bytes()).collect()
}

#[test]
fn a_pipe_is_read_as_it_comes_and_does_not_hold_the_source_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe");
    let sender = pipe(&path);
    let mut subtask = open(&FileSource::new(&path, TextLines), &None).unwrap();
    let mut output = Batch::new();
    assert_eq!(subtask.poll(9, &mut output).unwrap(), SourceStatus::Idle, "nothing is there yet");
    sender.send(b"1\n2\n3".to_vec()).unwrap();
    let (rows, _) = poll(&mut subtask, 2);
    assert_eq!(texts(&rows), ["1", "2"]);
    let mut output = Batch::new();
    assert_eq!(subtask.poll(9, &mut output).unwrap(), SourceStatus::Idle, "its line has not ended");
    assert!(output.is_empty() && !subtask.positions().unwrap().is_empty());
    sender.send(b"4\n5".to_vec()).unwrap();
    drop(sender);
    let (rows, status) = poll(&mut subtask, 99);
    assert_eq!((texts(&rows), status), (vec!["34".to_owned(), "5".to_owned()], SourceStatus::End));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(crate::test_cases(24)))]

    /// In whatever pieces it comes, plain or compressed, and wherever the job stops: with the same stream
    /// again each line is read once.
    #[test]
    fn the_same_stream_goes_on_where_the_checkpoint_was(
        count in 1u32..4000,
        stop in 0.0f64..1.0,
        piece in 1usize..9000,
        form in 0usize..3,
    ) {
        let text = lines(0..count);
        let bytes = match form {
            0 => text,
            1 => zstd::encode_all(text.as_slice(), 1).unwrap(),
            _ => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(&text).unwrap();
                encoder.finish().unwrap()
            }
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        let send = || {
            let sender = pipe(&path);
            bytes.chunks(piece).for_each(|piece| sender.send(piece.to_vec()).unwrap());
        };
        send();
        let first = (f64::from(count) * stop) as usize;
        let mut subtask = open(&FileSource::new(&path, TextLines), &None).unwrap();
        let (mut rows, _) = poll(&mut subtask, first);
        let positions = Some(subtask.positions().unwrap());
        drop(subtask);
        fs::remove_file(&path).unwrap();
        send();
        let mut subtask = open(&FileSource::new(&path, TextLines), &positions).unwrap();
        let (more, _) = poll(&mut subtask, usize::MAX);
        rows.extend(more);
        let numbers: Vec<u32> = rows.iter().map(|row| row.get(0).to_string().parse().unwrap()).collect();
        prop_assert_eq!(numbers, (0..count).collect::<Vec<_>>());
    }
}

#[test]
fn another_stream_and_a_second_attempt_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe");
    let sender = pipe(&path);
    sender.send(lines(0..100)).unwrap();
    let source = FileSource::new(&path, TextLines);
    let mut subtask = open(&source, &None).unwrap();
    poll(&mut subtask, 50);
    let positions = Some(subtask.positions().unwrap());
    drop(subtask);
    let error = open(&source, &positions).unwrap().poll(9, &mut Batch::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    drop(sender);
    fs::remove_file(&path).unwrap();

    let sender = pipe(&path);
    sender.send(lines(1..100)).unwrap();
    let mut subtask = open(&FileSource::new(&path, TextLines), &positions).unwrap();
    let error = loop {
        match subtask.poll(9, &mut Batch::new()) {
            Ok(_) => std::thread::yield_now(),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::Incompatible, "{error}");
    assert!(error.message().contains("not the one that the checkpoint was taken of"), "{error}");
    let follows = FileSource::new(&path, TextLines).at_end(AtEnd::Follow);
    let error = follows.make_plan(&follows.folder().unwrap(), 1, None, false).unwrap_err();
    assert!(error.message().contains("not followed"), "{error}");
}

#[test]
fn a_header_and_bad_records_of_a_stream_have_their_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe");
    let sender = pipe(&path);
    sender.send(b"user,am".to_vec()).unwrap();
    let source = FileSource::new(&path, orders()).on_bad_record(OnBadRecord::Skip);
    let mut subtask = open(&source, &None).unwrap();
    sender.send(b"ount\nann,1\nbob,x\n\n\"c".to_vec()).unwrap();
    sender.send(b"y\",3\n".to_vec()).unwrap();
    drop(sender);
    let (rows, _) = poll(&mut subtask, 99);
    assert_eq!(texts(&rows), ["1", "3"]);
    let first = source.first_bad_record().unwrap();
    assert!(first.contains("line=3") || first.contains("line 3") || first.contains("line: 3"), "{first}");
}
