//! What only uploads do.

use super::*;

fn prefix() -> (TempDir, OutputPath) {
    let name = tempfile::tempdir().unwrap();
    let output = OutputPath::in_store(&format!("memory://{}", name.path().display())).unwrap();
    (name, output)
}

/// A process completed the upload and died before it removed the record of it. Then somebody took the object.
#[test]
fn an_upload_that_was_completed_is_taken_or_there_and_never_twice() {
    for taken in [false, true] {
        let (_name, directory) = prefix();
        let factory = factory(&directory);
        recover_at(&factory, 1, None);
        let mut sink = open(&factory, 0, 1);
        write(&mut sink, 1);
        let files = sink.pre_commit(CheckpointId(1)).unwrap();
        let output = directory.place();
        let record = output.read(&files[0].temporary).unwrap().unwrap();
        sink.commit(CheckpointId(1)).unwrap();
        drop(sink);
        output.replace_record(&files[0].temporary, "", &record).unwrap();
        if taken {
            output.remove(&files[0].name).unwrap();
        }
        for term in [2, 3] {
            recover_at(&factory, term, Some((1, &files)));
            assert_eq!(visible(&directory).0, if taken { vec![] } else { vec![1] });
        }
    }
}

/// Its server was busy, so that a request was carried out long after the client had repeated it.
#[test]
fn a_record_that_comes_late_goes_with_the_next_start() {
    let (_name, directory) = prefix();
    let factory = factory(&directory);
    recover_at(&factory, 1, None);
    let mut sink = open(&factory, 0, 1);
    write(&mut sink, 1);
    let output = directory.place();
    let of = |number: &str| output.list().unwrap().into_iter().find(|name| name.contains(number)).unwrap();
    let written = of("-n0.");
    let late = output.read(&written).unwrap().unwrap();
    let files = sink.pre_commit(CheckpointId(1)).unwrap();
    sink.commit(CheckpointId(1)).unwrap();
    drop(sink);
    output.replace_record(&written, "", &late).unwrap();
    assert_eq!(visible(&directory), (vec![1], 1));
    recover_at(&factory, 2, Some((1, &files)));
    assert_eq!(visible(&directory), (vec![1], 0));
}

/// The bucket aborted an upload that was too old, before anybody completed it.
#[test]
fn an_upload_that_is_gone_and_was_never_visible_is_lost() {
    let (_name, directory) = prefix();
    let factory = factory(&directory);
    recover_at(&factory, 1, None);
    let mut sink = open(&factory, 0, 1);
    write(&mut sink, 1);
    let files = sink.pre_commit(CheckpointId(1)).unwrap();
    drop(sink);
    let output = directory.place();
    let record = output.read(&files[0].temporary).unwrap().unwrap();
    output.discard(&files[0].temporary).unwrap();
    output.replace_record(&files[0].temporary, "", &record).unwrap();
    let error = try_recover_at(&factory, 2, Some((1, &files))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.message().contains("before it was ever visible"), "{error}");
}

/// The first request for a record of a commit arrives long after the last one.
#[test]
fn a_late_version_changes_nothing() {
    let (_name, directory) = prefix();
    let output = directory.place();
    for (version, newest) in [([1, 7], "1 7"), ([2, 3], "2 3"), ([1, 9], "2 3"), ([2, 4], "2 4")] {
        let content = format!("{} {}", version[0], version[1]);
        output.supersede(".record", version, "", content.as_bytes()).unwrap();
        assert_eq!(output.read_newest(".record").unwrap().unwrap(), newest.as_bytes());
    }
    output.remove_versions(".record").unwrap();
    assert_eq!(output.list().unwrap(), [""; 0]);
}

/// More than one part, cut anywhere.
#[test]
fn a_long_file_is_uploaded_in_parts() {
    let (_name, directory) = prefix();
    let output = directory.place();
    let text: Vec<u8> = (0..20_000_000_u32).map(|i| (i % 251) as u8).collect();
    let mut file = output.begin(".waiting-n1", "visible").unwrap();
    text.chunks(1_234_567).for_each(|chunk| file.write(chunk).unwrap());
    assert_eq!(output.len_waiting(".waiting-n1").unwrap(), Some(0));
    let waiting = file.finish().unwrap();
    assert_eq!(output.len_waiting(&waiting).unwrap(), Some(text.len() as u64));
    assert_eq!(output.len_visible("visible").unwrap(), None);
    let publish = || output.publish(&waiting, "visible", text.len() as u64).unwrap();
    assert_eq!(publish(), output::Published::Yes);
    assert!(output.read("visible").unwrap().unwrap() == text);
    assert_eq!(output.list().unwrap(), ["visible"]);
    assert_eq!(publish(), output::Published::Gone);
}

fn recover_at(factory: &FileSink<Row, CsvRows>, term: u64, restored: Option<(u64, &[PendingFile])>) {
    try_recover_at(factory, term, restored).unwrap();
}

fn try_recover_at(
    factory: &FileSink<Row, CsvRows>,
    term: u64,
    restored: Option<(u64, &[PendingFile])>,
) -> Result<()> {
    ownership::recover_as(factory, &job("job"), term, restored)
}
