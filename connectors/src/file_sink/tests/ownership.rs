//! Whose results a directory holds, and consumers that take what is finished.

use super::*;

/// A recovery by an attempt of a job, whose log has checkpoints of term 1 only.
pub(super) fn recover_as(
    factory: &FileSink<Row, CsvRows>,
    job: &JobIdentity,
    term: u64,
    restored: Option<(u64, &[PendingFile])>,
) -> Result<()> {
    let shown = restored.map(|_| (Term(1), None));
    let dead = DeadOutputs::at_start(Term(term), shown, Some(restored.map(|_| Term(1))));
    let checkpoint = restored.map(|(checkpoint, _)| CheckpointId(checkpoint));
    let committables = restored.map_or(&[][..], |(_, files)| files);
    let next_checkpoint = checkpoint.unwrap_or(CheckpointId(0)).next();
    let (term, dead) = (Term(term), &dead);
    factory.recover(&SinkRecovery { job, term, checkpoint, committables, next_checkpoint, dead })
}

/// A job with one finished file, one that waits for checkpoint 2, and one that it writes to.
fn running(
    directory: &(impl Ground + ?Sized),
) -> (FileSink<Row, CsvRows>, FileSinkSubtask<Row, CsvRows>, Vec<PendingFile>) {
    let factory = factory(directory);
    recover_as(&factory, &job("first"), 1, None).unwrap();
    let mut sink = open(&factory, 0, 1);
    write(&mut sink, 1);
    sink.pre_commit(CheckpointId(1)).unwrap();
    sink.commit(CheckpointId(1)).unwrap();
    write(&mut sink, 2);
    let files = sink.pre_commit(CheckpointId(2)).unwrap();
    write(&mut sink, 3);
    (factory, sink, files)
}

fn contents(directory: &OutputPath) -> Vec<(String, Vec<u8>)> {
    let read = |name: String| {
        let content = directory.place().read(&name).unwrap().unwrap();
        (name, content)
    };
    visible_names(directory).into_iter().map(read).collect()
}

#[test]
fn another_job_and_a_copy_are_refused_before_they_touch_anything() {
    let directory = tempfile::tempdir().unwrap();
    for directory in grounds(&directory) {
        let (_, _sink, files) = running(&directory);
        let before = contents(&directory);
        let copy = JobIdentity { storage: Some("file:///copy".into()), ..job("first") };
        for other in [job("second"), copy, JobIdentity { storage: None, ..job("first") }] {
            // As a new job, with higher and lower terms, and with a checkpoint that names what is there.
            for (term, restored) in
                [(1, None), (9, None), (2, Some((2, &files[..]))), (9, Some((7, &[][..])))]
            {
                let error = recover_as(&factory(&directory), &other, term, restored).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Incompatible, "{error}");
                assert_eq!(error.context("its job"), Some("first"));
                assert_eq!(error.context("this job"), Some(other.name.as_str()));
                assert_eq!(contents(&directory), before);
            }
        }
    }
}

#[test]
fn an_adopted_directory_ends_the_job_before() {
    let directory = tempfile::tempdir().unwrap();
    for directory in grounds(&directory) {
        let (first, mut sink, files) = running(&directory);
        let second = JobIdentity { adopts: Some("first".into()), ..job("second") };
        let other = factory(&directory);
        recover_as(&other, &second, 2, Some((2, &files))).unwrap();
        assert_eq!(visible(&directory).0, [1, 2]);
        for failed in [
            sink.pre_commit(CheckpointId(3)).map(drop),
            first.sweep(&DeadOutputs::after_commit(Term(1), None)),
        ] {
            assert_eq!(failed.unwrap_err().kind(), ErrorKind::Fenced);
        }
        assert_eq!(visible(&directory).0, [1, 2]);
        assert!(recover_as(&factory(&directory), &job("first"), 9, None).is_err(), "it is the second's now");
        recover_as(&other, &job("second"), 3, Some((2, &files))).unwrap();
    }
}

#[test]
fn a_finished_file_may_be_taken_and_one_that_waits_may_not_be_lost() {
    let directory = tempfile::tempdir().unwrap();
    for directory in grounds(&directory) {
        let (_, sink, files) = running(&directory);
        drop(sink);
        take_visible(&directory);
        let (output, waiting) = (directory.place(), &files[0].temporary);
        let kept = output.read(waiting).unwrap().unwrap();
        output.remove(waiting).unwrap();
        let recover = |term| recover_as(&factory(&directory), &job("first"), term, Some((2, &files)));
        let error = recover(2).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        assert!(error.message().contains("before it was ever visible"), "{error}");
        output.replace_record(waiting, "staged", &kept).unwrap();
        recover(3).unwrap();
        assert_eq!(visible(&directory).0, [2]);
        take_visible(&directory);
        // Each start from this checkpoint finds it gone, and goes on.
        recover(4).unwrap();
        recover(5).unwrap();
        assert!(visible(&directory).0.is_empty());
    }
}

fn take_visible(directory: &OutputPath) {
    let visible = visible_names(directory).into_iter().filter(|name| name.starts_with("part-"));
    visible.for_each(|name| directory.place().remove(&name).unwrap());
}

#[test]
fn a_file_that_was_committed_while_running_may_be_taken() {
    let directory = tempfile::tempdir().unwrap();
    let (_, mut sink, files) = running(directory.path());
    sink.commit(CheckpointId(2)).unwrap();
    drop(sink);
    fs::remove_file(directory.path().join(&files[0].name)).unwrap();
    recover_as(&factory(directory.path()), &job("first"), 2, Some((2, &files))).unwrap();
    // A job that starts anew has other checkpoints, which this list does not name.
    fs::remove_dir_all(directory.path()).unwrap();
    fs::create_dir(directory.path()).unwrap();
    let (_, _sink, files) = running(directory.path());
    fs::remove_file(directory.path().join(&files[0].temporary)).unwrap();
    assert!(recover_as(&factory(directory.path()), &job("first"), 2, Some((2, &files))).is_err());
}

#[test]
fn two_sinks_of_one_job_with_the_same_names_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let first = factory(directory.path());
    recover_as(&first, &job("job"), 3, None).unwrap();
    let second = factory(directory.path().join(".").as_path());
    let error = recover_as(&second, &job("job"), 3, None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(error.message().contains("two sinks of the job"), "{error}");
    let other = FileSinkConfig { prefix: "late".into(), ..FileSinkConfig::new(directory.path()) };
    let other = FileSink::new(other, CsvRows::with_header(["n"])).unwrap();
    recover_as(&other, &job("job"), 3, None).unwrap();
    // The next attempt of the same sink, and another start of the job in this process.
    recover_as(&first, &job("job"), 4, None).unwrap();
    recover_as(&second, &job("job"), 5, None).unwrap();
}
