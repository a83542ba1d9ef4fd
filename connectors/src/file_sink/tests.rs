use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::row::{Row, Value};

fn factory(directory: &Path) -> FileSink<Row, CsvRows> {
    FileSink::new(FileSinkConfig::new(directory), CsvRows::with_header(["n"])).unwrap()
}

fn open(factory: &FileSink<Row, CsvRows>, subtask: u32, attempt: u32) -> FileSinkSubtask<Row, CsvRows> {
    let attempt = format!("t{attempt}-0");
    factory.open(SinkContext { subtask, parallelism: 2, attempt, restored: Vec::new() }).unwrap()
}

fn write(sink: &mut FileSinkSubtask<Row, CsvRows>, number: i64) {
    let mut batch = Batch::new();
    batch.push([Value::Int(number)].into_iter().collect(), None);
    sink.write(&mut batch).unwrap();
    assert!(batch.is_empty());
}

/// The numbers in finished files, and how many other files there are.
fn visible(directory: &Path) -> (Vec<i64>, usize) {
    let (mut numbers, mut others) = (Vec::new(), 0);
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        match path.file_name().unwrap().to_str().unwrap().starts_with("part-") {
            true => {
                let mut lines = text.lines();
                assert_eq!(lines.next(), Some("n"), "every file has its header");
                numbers.extend(lines.map(|line| line.parse::<i64>().unwrap()));
            }
            false => others += 1,
        }
    }
    numbers.sort_unstable();
    (numbers, others)
}

/// What can happen between two records.
#[derive(Clone, Debug)]
enum Step {
    Write,
    /// A barrier; its checkpoint completes or is aborted, and the sinks may or may not learn of that.
    Checkpoint {
        complete: bool,
        announced: bool,
    },
    /// All subtasks die. The newest `lost` checkpoints turn out to be unreadable.
    Crash {
        lost: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Write),
        3 => (any::<bool>(), any::<bool>())
            .prop_map(|(complete, announced)| Step::Checkpoint { complete, announced }),
        1 => (0usize..3).prop_map(|lost| Step::Crash { lost }),
    ]
}

proptest! {
    // Each case syncs many files to disk.
    #![proptest_config(ProptestConfig::with_cases(crate::test_cases(48)))]

    /// Whichever process dies when, and whichever checkpoint can still be read: finished files hold each
    /// record that was written up to the checkpoint once.
    #[test]
    fn what_is_visible_is_exactly_what_is_committed(steps in proptest::collection::vec(step(), 0..60)) {
        let directory = tempfile::tempdir().unwrap();
        let factory = factory(directory.path());
        factory.recover(None, &[]).unwrap();
        let (mut attempt, mut checkpoint, mut next) = (0, 0, 0);
        let mut sinks = [open(&factory, 0, 0), open(&factory, 1, 0)];
        // Completed checkpoints: id, pending files, and how many records came before.
        let mut log: Vec<(CheckpointId, Vec<PendingFile>, i64)> = Vec::new();
        for step in steps {
            match step {
                Step::Write => {
                    write(&mut sinks[(next % 2) as usize], next);
                    next += 1;
                }
                Step::Checkpoint { complete, announced } => {
                    checkpoint += 1;
                    let id = CheckpointId(checkpoint);
                    let files = sinks.iter_mut().flat_map(|sink| sink.pre_commit(id).unwrap()).collect();
                    if complete {
                        log.push((id, files, next));
                    }
                    if complete && announced {
                        for sink in &mut sinks {
                            sink.commit(id).unwrap();
                            sink.commit(id).unwrap();
                        }
                        prop_assert_eq!(visible(directory.path()).0, (0..next).collect::<Vec<_>>());
                    }
                }
                Step::Crash { lost } => {
                    log.truncate(log.len().saturating_sub(lost).max(log.len().min(1)));
                    attempt += 1;
                    if let Some((id, files, written)) = log.last() {
                        factory.recover(Some(*id), files).unwrap();
                        factory.recover(Some(*id), files).unwrap();
                        next = *written;
                    } else {
                        factory.recover(None, &[]).unwrap();
                        next = 0;
                    }
                    prop_assert_eq!(visible(directory.path()), ((0..next).collect::<Vec<_>>(), 0));
                    sinks = [open(&factory, 0, attempt), open(&factory, 1, attempt)];
                }
            }
        }
        let id = CheckpointId(checkpoint + 1);
        for sink in &mut sinks {
            sink.pre_commit(id).unwrap();
            sink.commit(id).unwrap();
        }
        prop_assert_eq!(visible(directory.path()), ((0..next).collect::<Vec<_>>(), 0));
    }
}

#[test]
fn a_checkpoint_without_records_makes_no_file() {
    let directory = tempfile::tempdir().unwrap();
    let mut sink = open(&factory(directory.path()), 0, 0);
    assert!(sink.pre_commit(CheckpointId(1)).unwrap().is_empty());
    sink.commit(CheckpointId(1)).unwrap();
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn the_summary_counts_what_is_visible() {
    let directory = tempfile::tempdir().unwrap();
    let factory = factory(directory.path());
    let mut sinks = [open(&factory, 0, 0), open(&factory, 1, 0)];
    for (i, sink) in sinks.iter_mut().enumerate() {
        write(sink, i as i64);
        sink.pre_commit(CheckpointId(1)).unwrap();
    }
    assert_eq!(sinks[0].summary().records, 0);
    let mut summary = FileSinkSummary::default();
    for sink in &mut sinks {
        sink.commit(CheckpointId(2)).unwrap();
        summary.add(sink.summary());
    }
    assert_eq!(summary, FileSinkSummary { files: 2, records: 2, bytes: 8 });
    let lines: Vec<_> = summary.figures().iter().map(Figure::to_string).collect();
    assert_eq!(lines, ["bytes 8", "files 2", "records 2"]);
}

#[test]
fn a_new_job_wants_an_empty_directory_and_touches_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let factory = factory(directory.path());
    let put = |name: &str| fs::write(directory.path().join(name), "n\n1\n").unwrap();
    put(".part-t0-00000-0.inprogress");
    factory.recover(None, &[]).unwrap();
    assert_eq!(visible(directory.path()).1, 0, "the files of a first attempt before its first checkpoint go");
    for name in ["notes.txt", "part-0000000003-00000-t0.csv"] {
        put(name);
        let error = factory.recover(None, &[]).unwrap_err();
        assert!(error.message().contains("not empty"), "{error}");
        assert_eq!(error.context("first"), Some(name));
        assert!(directory.path().join(name).exists());
        fs::remove_file(directory.path().join(name)).unwrap();
    }
    put("notes.txt");
    factory.recover(Some(CheckpointId(1)), &[]).unwrap();
    assert!(directory.path().join("notes.txt").exists(), "a resumed job leaves foreign files alone");
}

fn one_pending() -> (TempDir, FileSink<Row, CsvRows>, Vec<PendingFile>) {
    let directory = tempfile::tempdir().unwrap();
    let factory = factory(directory.path());
    let mut sink = open(&factory, 0, 0);
    write(&mut sink, 1);
    let files = sink.pre_commit(CheckpointId(1)).unwrap();
    (directory, factory, files)
}

#[test]
fn a_lost_or_torn_file_is_an_error_that_names_it() {
    let (directory, factory, files) = one_pending();
    let name = fs::read_dir(directory.path()).unwrap().next().unwrap().unwrap().path();
    fs::write(&name, "n\n").unwrap();
    let error = factory.recover(Some(CheckpointId(1)), &files).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    fs::remove_file(&name).unwrap();
    let error = factory.recover(Some(CheckpointId(1)), &files).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.context("file").unwrap().contains("part-0000000001-00000-t0-0.csv"), "{error}");
}

#[test]
fn files_of_another_sink_are_refused() {
    let (directory, _, files) = one_pending();
    let config = FileSinkConfig { prefix: "other".into(), ..FileSinkConfig::new(directory.path()) };
    let other = FileSink::<Row, _>::new(config, CsvRows::new()).unwrap();
    let error = other.recover(Some(CheckpointId(1)), &files).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Incompatible);
    assert!(
        FileSink::<Row, _>::new(
            FileSinkConfig { prefix: "a/b".into(), ..FileSinkConfig::new("x") },
            CsvRows::new()
        )
        .is_err()
    );
}
