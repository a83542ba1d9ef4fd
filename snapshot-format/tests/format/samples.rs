//! The contents of the golden files, for the program that writes them and the tests that read them.

use strandline_snapshot_format::{Compression, Op, SegmentKind, WriterOptions, list, timer_key};
use strandline_state_api::Result;
use strandline_state_api::schema::{StateKind, StateMeta};

use crate::common::{Entry, states, write};

/// The directory of the golden files in the crate.
pub(crate) const DIRECTORY: &str = "tests/format/golden";

/// One golden file.
#[derive(Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) name: &'static str,
    pub(crate) kind: SegmentKind,
    pub(crate) options: WriterOptions,
    /// The number of blocks.
    pub(crate) blocks: usize,
    pub(crate) states: fn() -> Vec<StateMeta>,
    pub(crate) entries: fn(SegmentKind) -> Vec<Entry>,
}

const ZSTD: WriterOptions = WriterOptions { block_bytes: 4_000, compression: Compression::Zstd(1) };
const PLAIN: WriterOptions = WriterOptions { block_bytes: 256, compression: Compression::None };

/// All golden files. Released files stay as they are; a new version of the format adds its own.
pub(crate) const SAMPLES: &[Sample] = &[
    Sample { name: "v1-base.seg", kind: SegmentKind::Base, options: ZSTD, blocks: 10, states, entries },
    Sample { name: "v1-delta.seg", kind: SegmentKind::Delta, options: ZSTD, blocks: 7, states, entries },
    Sample {
        name: "v1-plain-base.seg",
        kind: SegmentKind::Base,
        options: PLAIN,
        blocks: 18,
        states: accumulators,
        entries: sums,
    },
    Sample {
        name: "v1-plain-delta.seg",
        kind: SegmentKind::Delta,
        options: PLAIN,
        blocks: 9,
        states: accumulators,
        entries: sums,
    },
    Sample {
        name: "v1-plain-newer-delta.seg",
        kind: SegmentKind::Delta,
        options: PLAIN,
        blocks: 1,
        states: newer_accumulators,
        entries: newer_sums,
    },
    Sample {
        name: "v1-empty.seg",
        kind: SegmentKind::Base,
        options: PLAIN,
        blocks: 0,
        states: accumulators,
        entries: |_| Vec::new(),
    },
];

impl Sample {
    /// Encodes the sample as the writer does today.
    pub(crate) fn write(&self) -> Result<Vec<u8>> {
        Ok(write(&(self.states)(), self.kind, self.options, &(self.entries)(self.kind))?.bytes)
    }
}

/// Returns states with schema versions, and codecs with names of their own.
fn accumulators() -> Vec<StateMeta> {
    let state = |name: &str, kind, schema_version| StateMeta {
        key_codec: "str".into(),
        value_codec: "postcard:i64".into(),
        schema_version,
        ..StateMeta::new(name, kind)
    };
    vec![
        state("mean", StateKind::Aggregating, 3),
        state("sum", StateKind::Reducing, 1),
        StateMeta { namespace_codec: "window".into(), ..state("window-sum", StateKind::Reducing, 2) },
    ]
}

/// Returns the same states as a newer program stores two of them: in another version, and in another codec.
fn newer_accumulators() -> Vec<StateMeta> {
    let mut states = accumulators();
    states[0].schema_version += 1;
    states[1].value_codec = "postcard:i128".into();
    states
}

/// Returns some of the entries of a delta, with other values.
fn newer_sums(kind: SegmentKind) -> Vec<Entry> {
    let mut entries = sums(kind);
    entries.retain(|entry| entry.key != b"a\0");
    entries.iter_mut().filter(|entry| !entry.value.is_empty()).for_each(|entry| entry.value = vec![7; 40]);
    entries
}

/// Returns values of different lengths, from empty to longer than a block, and keys that start with each
/// other.
fn sums(kind: SegmentKind) -> Vec<Entry> {
    let mut entries = Vec::new();
    for group in [5, 16_384, 16_385] {
        for meta in accumulators() {
            for (number, key) in ["", "a", "a\0", "ab"].into_iter().enumerate() {
                let deleted = kind == SegmentKind::Delta && number % 2 == 1;
                let value = [group as u8 ^ number as u8; 300];
                entries.push(Entry {
                    group,
                    state: meta.name.clone(),
                    key: key.into(),
                    namespace: if meta.has_namespace() { b"1970".to_vec() } else { Vec::new() },
                    rank: true,
                    sub: Vec::new(),
                    op: if deleted { Op::Delete } else { Op::Put }.code(),
                    value: if deleted { Vec::new() } else { value[..number * number * 30].to_vec() },
                });
            }
        }
    }
    entries
}

/// Returns entries of all kinds of state and operation, enough for several blocks.
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
                    (SegmentKind::Delta, 2) if Op::Append.is_of(meta.kind) => Op::Append,
                    (SegmentKind::Delta, 2) if Op::Clear.is_of(meta.kind) => Op::Clear,
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
