//! The reader reads files of every released version, and `docs/format.md` shows what the writer writes.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use strandline_snapshot_format::{
    Compression, EntryRef, FORMAT_VERSION, MemorySegments, Op, SegmentIndex, SegmentKind, SegmentWriter,
    WriterOptions,
};
use strandline_state_api::schema::{StateKind, StateMeta};
use strandline_state_api::snapshot::{SegmentStore, SnapshotPart};
use strandline_state_api::{ErrorKind, KeyGroup, KeyGroupRange, KeyHash};

use crate::common::{now, read_bytes};
use crate::forms;
use crate::samples::{DIRECTORY, SAMPLES};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Writes the segment of the worked example.
fn example() -> Vec<u8> {
    let text = |name: &str, kind| StateMeta {
        key_codec: "str".into(),
        value_codec: "u8".into(),
        schema_version: 1,
        ..StateMeta::new(name, kind)
    };
    let states = vec![
        text("count", StateKind::Value),
        StateMeta { sub_codec: "str".into(), ..text("tags", StateKind::Map) },
    ];
    let options = WriterOptions { compression: Compression::None, ..WriterOptions::default() };
    let mut writer = SegmentWriter::new(states, SegmentKind::Delta, options).unwrap();
    let at =
        |key: &'static [u8], state, op| EntryRef::new(KeyGroup::of(KeyHash::of_encoded(key)), state, op, key);
    for entry in [
        at(b"bob", 0, Op::Delete),
        EntryRef { value: &[3], ..at(b"ada", 0, Op::Put) },
        at(b"ada", 1, Op::Clear),
        EntryRef { sub: b"x", value: &[1], ..at(b"ada", 1, Op::Put) },
        EntryRef { sub: b"y", value: &[2], ..at(b"ada", 1, Op::Put) },
    ] {
        writer.push(entry).unwrap();
    }
    writer.finish().unwrap().bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x} ");
        text
    })
}

/// Compares the lines `offset  bytes  what they are` of the example in the specification.
#[test]
fn the_writer_writes_the_worked_example() {
    let document = std::fs::read_to_string(path("../docs/format.md")).unwrap();
    let bytes = example();
    let mut documented = Vec::new();
    let (_, lines) = document.split_once("```hex\n").expect("the specification has an example");
    let (lines, _) = lines.split_once("```").unwrap();
    for line in lines.lines().filter(|line| !line.trim().is_empty()) {
        let mut columns = line.splitn(3, "  ");
        let (offset, text) = (columns.next().unwrap(), columns.next().unwrap());
        assert_eq!(
            usize::from_str_radix(offset, 16).unwrap(),
            documented.len(),
            "{line}\nactual: {}",
            hex(&bytes)
        );
        documented.extend(text.split(' ').map(|byte| u8::from_str_radix(byte, 16).unwrap()));
        let written = bytes.get(..documented.len());
        assert_eq!(written, Some(&documented[..]), "{line}\nactual: {}", hex(&bytes));
    }
    assert_eq!(documented, bytes);
    assert_eq!(read_bytes(&documented).unwrap().len(), 5);
}

fn golden(name: &str) -> Vec<u8> {
    let file = path(DIRECTORY).join(name);
    std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

#[test]
fn files_of_every_version_are_read() {
    for sample in SAMPLES {
        let bytes = golden(sample.name);
        let index = SegmentIndex::parse(&bytes).unwrap();
        assert_eq!((index.kind(), index.states()), (sample.kind, &(sample.states)()[..]), "{}", sample.name);
        assert_eq!(index.blocks().len(), sample.blocks, "{}", sample.name);
        assert_eq!(read_bytes(&bytes).unwrap(), (sample.entries)(sample.kind), "{}", sample.name);
    }
}

/// Released files that store a state in different forms are one chain: each value has the form of its file.
#[test]
fn a_chain_in_two_forms_is_read() {
    let (store, mut parts, mut model) = (MemorySegments::new(), Vec::new(), forms::Model::new());
    for name in ["v1-plain-base.seg", "v1-plain-delta.seg", "v1-plain-newer-delta.seg"] {
        let sample = SAMPLES.iter().find(|sample| sample.name == name).unwrap();
        let segment = now(store.put(golden(name))).unwrap();
        parts.push(SnapshotPart::portable(segment, KeyGroupRange::ALL));
        forms::apply(&mut model, &(sample.entries)(sample.kind), &(sample.states)());
    }
    assert_eq!(forms::merged(&store, &parts).unwrap(), model);
    let versions: BTreeSet<u32> =
        model.values().flat_map(|values| values.values().flatten().map(|(version, _)| *version)).collect();
    assert_eq!(versions, BTreeSet::from([1, 2, 3, 4]));
}

/// A sample written today holds the same entries; its bytes may differ, since another version of zstd may
/// compress otherwise.
#[test]
fn samples_written_today_hold_the_same_entries() {
    for sample in SAMPLES {
        let (old, new) = (golden(sample.name), sample.write().unwrap());
        assert_eq!(read_bytes(&new).unwrap(), read_bytes(&old).unwrap(), "{}", sample.name);
        let (old, new) = (SegmentIndex::parse(&old).unwrap(), SegmentIndex::parse(&new).unwrap());
        assert_eq!((new.fingerprint(), new.states()), (old.fingerprint(), old.states()), "{}", sample.name);
        if sample.options.compression == Compression::None {
            assert_eq!(sample.write().unwrap(), golden(sample.name), "{}", sample.name);
        }
    }
}

/// Every file in the directory is a sample, and every sample is a file.
#[test]
fn no_file_goes_untested() {
    let mut found: Vec<String> = std::fs::read_dir(path(DIRECTORY))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".seg"))
        .collect();
    found.sort();
    let mut named: Vec<_> = SAMPLES.iter().map(|sample| sample.name).collect();
    named.sort_unstable();
    assert_eq!(found, named);
}

/// Returns a segment with another version in its header or its footer.
fn with_version(mut bytes: Vec<u8>, version: u32, in_footer: bool) -> Vec<u8> {
    let at = if in_footer { bytes.len() - 12 } else { 8 };
    bytes[at..at + 4].copy_from_slice(&version.to_le_bytes());
    bytes
}

#[test]
fn files_of_a_later_version_are_refused_and_those_of_version_0_too() {
    let later = FORMAT_VERSION + 1;
    for sample in SAMPLES {
        for in_footer in [false, true] {
            let newer = with_version(golden(sample.name), later, in_footer);
            for error in [read_bytes(&newer).unwrap_err(), SegmentIndex::parse(&newer).unwrap_err()] {
                assert_eq!(error.kind(), ErrorKind::Incompatible, "{}: {error}", sample.name);
                for part in
                    [&format!("version {later}"), &format!("up to {FORMAT_VERSION}"), "use a newer one"]
                {
                    assert!(error.message().contains(part), "{part:?} is not in: {error}");
                }
            }
            assert!(read_bytes(&newer).unwrap_err().context("segment").is_some());
            let error = read_bytes(&with_version(golden(sample.name), 0, in_footer)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{}: {error}", sample.name);
            assert!(error.message().contains("version 0"), "{error}");
        }
    }
}
