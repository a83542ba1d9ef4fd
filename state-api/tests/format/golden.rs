//! Files of every released version are read as they were meant, and `docs/format.md` shows what is written.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use strandline_state_api::format::{
    Compression, EntryRef, Op, SegmentIndex, SegmentKind, SegmentWriter, StateKind, StateMeta, WriterOptions,
    list, timer_key,
};
use strandline_state_api::{KeyGroup, KeyHash};

use crate::common::{Entry, read_bytes, states, write};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The segment of the worked example.
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

/// The lines `offset  bytes  what they are` of the example in the specification.
#[test]
fn the_worked_example_is_what_is_written() {
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

/// Entries of all kinds of state and operation, enough for several blocks.
fn entries(kind: SegmentKind) -> Vec<Entry> {
    let mut entries = Vec::new();
    for group in [0, 1, 77, 20_000, 32_767] {
        for meta in states() {
            for key in 0u8..4 {
                let mut packed = Vec::new();
                if meta.kind.is_timers() {
                    timer_key::pack(i64::from(key) - 2, b"user", &mut packed);
                } else {
                    packed.extend([b'k', key]);
                }
                let op = match (kind, key) {
                    (SegmentKind::Delta, 1) => Op::Delete,
                    (SegmentKind::Delta, 2) if meta.kind.allows(Op::Append) => Op::Append,
                    (SegmentKind::Delta, 2) if meta.kind.allows(Op::Clear) => Op::Clear,
                    _ => Op::Put,
                };
                let mut value = Vec::new();
                if meta.kind == StateKind::List {
                    list::push(&mut value, b"one");
                    list::push(&mut value, &[key; 200]);
                } else {
                    value.extend([group as u8; 300]);
                }
                let when = |present: bool, bytes: &[u8]| if present { bytes.to_vec() } else { Vec::new() };
                entries.push(Entry {
                    group,
                    state: meta.name.clone(),
                    key: packed,
                    namespace: when(meta.has_namespace(), b"window"),
                    rank: op != Op::Clear,
                    sub: when(meta.has_sub() && op != Op::Clear, b"map key"),
                    op: op.code(),
                    value: when(meta.has_value() && op.has_value(), &value),
                });
            }
        }
    }
    entries
}

/// Each released version has its files, which are never written again: `STRANDLINE_WRITE_GOLDEN=1` only adds those that
/// are missing.
#[test]
fn files_of_every_version_are_read() {
    for (name, kind) in [("v1-base.seg", SegmentKind::Base), ("v1-delta.seg", SegmentKind::Delta)] {
        let file = path("tests/format/golden").join(name);
        if std::env::var_os("STRANDLINE_WRITE_GOLDEN").is_some() && !file.exists() {
            let options = WriterOptions { block_bytes: 4_000, ..WriterOptions::default() };
            std::fs::write(&file, write(&states(), kind, options, &entries(kind)).unwrap().bytes).unwrap();
        }
        let bytes = std::fs::read(&file).unwrap();
        let index = SegmentIndex::parse(&bytes).unwrap();
        assert_eq!((index.kind(), index.states()), (kind, &states()[..]));
        assert!(index.blocks().len() > 3);
        assert_eq!(read_bytes(&bytes).unwrap(), entries(kind));
    }
}
