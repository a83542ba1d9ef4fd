mod fencing;
#[cfg(feature = "s3")]
mod objects;
mod ownership;

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use strandline_runtime::sink::JobIdentity;
use tempfile::TempDir;

use super::*;
use crate::row::{Row, Value};

fn factory(directory: &(impl Ground + ?Sized)) -> FileSink<Row, CsvRows> {
    FileSink::new(FileSinkConfig::new(directory.output()), CsvRows::with_header(["n"])).unwrap()
}

/// Where a test writes.
trait Ground {
    fn output(&self) -> OutputPath;
}

impl Ground for Path {
    fn output(&self) -> OutputPath {
        OutputPath::from(self)
    }
}

impl Ground for OutputPath {
    fn output(&self) -> OutputPath {
        self.clone()
    }
}

/// A directory and, where this build has them, a prefix in an object store.
fn grounds(directory: &TempDir) -> Vec<OutputPath> {
    vec![
        directory.path().into(),
        #[cfg(feature = "s3")]
        OutputPath::in_store(&format!("memory://{}", directory.path().display())).unwrap(),
    ]
}

fn open(factory: &FileSink<Row, CsvRows>, subtask: u32, term: u64) -> FileSinkSubtask<Row, CsvRows> {
    let (term, attempt) = (Term(term), format!("a{term}-0"));
    factory.open(SinkContext { subtask, parallelism: 2, term, attempt, restored: Vec::new() }).unwrap()
}

/// A recovery by an attempt of term 9, whose log has checkpoints of term 1 only.
fn recover(factory: &FileSink<Row, CsvRows>, checkpoint: Option<u64>, files: &[PendingFile]) -> Result<()> {
    let restored = checkpoint.map(|_| (Term(1), None));
    let dead = DeadOutputs::at_start(Term(9), restored, Some(checkpoint.map(|_| Term(1))));
    let next_checkpoint = CheckpointId(checkpoint.unwrap_or(0) + 1);
    let (job, checkpoint) = (&job("job"), checkpoint.map(CheckpointId));
    let (term, committables, dead) = (Term(9), files, &dead);
    factory.recover(&SinkRecovery { job, term, checkpoint, committables, next_checkpoint, dead })
}

fn job(name: &str) -> JobIdentity {
    JobIdentity { name: name.into(), storage: Some("file:///checkpoints".into()), adopts: None }
}

fn write(sink: &mut FileSinkSubtask<Row, CsvRows>, number: i64) {
    let mut batch = Batch::new();
    batch.push([Value::Int(number)].into_iter().collect(), None);
    sink.write(&mut batch).unwrap();
    assert!(batch.is_empty());
}

/// The numbers in finished files, and how many other files there are.
fn visible(directory: &(impl Ground + ?Sized)) -> (Vec<i64>, usize) {
    let (mut numbers, mut others) = (Vec::new(), 0);
    let output = directory.output();
    for name in visible_names(directory) {
        match name.starts_with("part-") {
            true => {
                let text = String::from_utf8(output.place().read(&name).unwrap().unwrap()).unwrap();
                let mut lines = text.lines();
                assert_eq!(lines.next(), Some("n"), "every file has its header");
                numbers.extend(lines.map(|line| line.parse::<i64>().unwrap()));
            }
            false if name == ".part.owner" || name.starts_with(".part.committing") => {}
            false => others += 1,
        }
    }
    numbers.sort_unstable();
    (numbers, others)
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
fn a_new_job_wants_no_results_and_touches_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let factory = factory(directory.path());
    let put = |name: &str| fs::write(directory.path().join(name), "n\n1\n").unwrap();
    for name in [".gitkeep", "notes.txt", "part-1.csv", ".DS_Store"] {
        put(name);
    }
    let foreign = visible_names(directory.path());
    for name in [
        ".part-t0000000003-a-00000-n0.inprogress",
        "part-0000000003-00000-t0.csv",
        "part-t0000000002-0000000003-00000-a.csv",
        "part-t0000000002-0000000003-00000-a.jsonl",
    ] {
        put(name);
        let error = recover(&factory, None, &[]).unwrap_err();
        assert!(error.message().contains("has results of another run"), "{error}");
        assert_eq!(error.context("first"), Some(name));
        fs::remove_file(directory.path().join(name)).unwrap();
        assert_eq!(visible_names(directory.path()), foreign, "nothing was touched");
    }
    // Somebody died while claiming the directory.
    put(".part-t0000000001-claiming-00007-n0.inprogress");
    recover(&factory, None, &[]).unwrap();
    put(".part-t0-00000-0.inprogress");
    put(".part-t0000000003-a-00000-n0.inprogress");
    recover(&factory, None, &[]).unwrap();
    let mut wanted = foreign;
    wanted.insert(0, ".part.owner".into());
    wanted.sort_unstable();
    assert_eq!(visible_names(directory.path()), wanted, "its own first attempt left what is gone");
    recover(&factory, Some(1), &[]).unwrap();
    assert_eq!(visible_names(directory.path()), wanted);
}

/// The names of all files, sorted.
fn visible_names(directory: &(impl Ground + ?Sized)) -> Vec<String> {
    let mut names = directory.output().place().list().unwrap();
    names.sort_unstable();
    names
}

fn one_pending() -> (TempDir, FileSink<Row, CsvRows>, Vec<PendingFile>) {
    let directory = tempfile::tempdir().unwrap();
    let factory = factory(directory.path());
    let mut sink = open(&factory, 0, 1);
    write(&mut sink, 1);
    let files = sink.pre_commit(CheckpointId(1)).unwrap();
    (directory, factory, files)
}

#[test]
fn a_lost_or_torn_file_is_an_error_that_names_it() {
    let (directory, factory, files) = one_pending();
    let name = fs::read_dir(directory.path()).unwrap().next().unwrap().unwrap().path();
    fs::write(&name, "n\n").unwrap();
    let error = recover(&factory, Some(1), &files).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    fs::remove_file(&name).unwrap();
    let error = recover(&factory, Some(1), &files).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.context("file").unwrap().contains(".part-t0000000001-a1-0-00000-n0"), "{error}");
}

#[test]
fn files_of_another_sink_are_refused() {
    let (directory, _, files) = one_pending();
    let config = FileSinkConfig { prefix: "other".into(), ..FileSinkConfig::new(directory.path()) };
    let other = FileSink::<Row, _>::new(config, CsvRows::new()).unwrap();
    let error = recover(&other, Some(1), &files).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Incompatible);
    assert!(
        FileSink::<Row, _>::new(
            FileSinkConfig { prefix: "a/b".into(), ..FileSinkConfig::new("x") },
            CsvRows::new()
        )
        .is_err()
    );
}
