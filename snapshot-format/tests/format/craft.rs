//! A second writer of the format, after `docs/format.md`, that writes any contents with checksums that match.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// A segment in pieces.
#[derive(Clone, Debug)]
pub(crate) struct Craft {
    pub(crate) header: Vec<u8>,
    pub(crate) blocks: Vec<CraftBlock>,
    pub(crate) kind: u8,
    pub(crate) reserved: u8,
    pub(crate) state_count: u16,
    pub(crate) block_count: u32,
    pub(crate) states: Vec<u8>,
    pub(crate) version: u32,
}

/// A block, and its record in the index.
#[derive(Clone, Debug)]
pub(crate) struct CraftBlock {
    pub(crate) method: [u8; 4],
    pub(crate) lens: [u32; 3],
    pub(crate) stored: Vec<u8>,
    /// Stored length, raw length, entries.
    pub(crate) record: [u32; 3],
    pub(crate) groups: [u16; 2],
    pub(crate) fingerprint: u64,
}

impl CraftBlock {
    pub(crate) fn plain(payload: &[u8], entries: u32, groups: [u16; 2], fingerprint: u64) -> Self {
        let len = payload.len() as u32;
        Self {
            method: [0; 4],
            lens: [len, len, entries],
            stored: payload.to_vec(),
            record: [len + 24, len, entries],
            groups,
            fingerprint,
        }
    }

    /// Sets the length of the payload to `len` in every field that holds it.
    pub(crate) fn claim_raw_len(&mut self, len: u32) {
        (self.lens[0], self.record[1]) = (len, len);
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = self.method.to_vec();
        self.lens.iter().for_each(|len| out.extend(len.to_le_bytes()));
        out.extend(&self.stored);
        out.extend(xxh3_64(&out).to_le_bytes());
        out
    }
}

/// Encodes a state without namespaces; `codecs` are those of keys, namespaces, map keys and values.
pub(crate) fn state(name: &str, kind: u8, codecs: [&str; 4]) -> Vec<u8> {
    let mut out = vec![kind, 0, 0, 0, 0];
    for text in [&[name][..], &codecs].concat() {
        out.extend((text.len() as u16).to_le_bytes());
        out.extend(text.as_bytes());
    }
    out
}

/// Computes the fingerprint of a `Put` in the state "n".
pub(crate) fn put(group: u16, key: &[u8], value: &[u8]) -> u64 {
    let name = xxh3_64(b"n").wrapping_add(256 * u64::from(group));
    xxh3_64_with_seed(value, xxh3_64_with_seed(key, name).wrapping_add(3 << 32))
}

impl Craft {
    /// Creates a base with the value state "n" and three entries in two blocks: `a`, `b` in group 5, `a` in
    /// group 6.
    pub(crate) fn new() -> Self {
        // Run: group 5, two entries. Entry: key length 1, value length 1, then the same value length.
        let first = [5 << 2 | 1, 2, 1 << 3, b'a', 1, b'x', 1 << 3 | 4, b'b', b'y'];
        let second = [6 << 2, 1 << 3, b'a', 1, b'z'];
        let sum = put(5, b"a", b"x").wrapping_add(put(5, b"b", b"y"));
        Self::of(vec![
            CraftBlock::plain(&first, 2, [5, 5], sum),
            CraftBlock::plain(&second, 1, [6, 6], put(6, b"a", b"z")),
        ])
    }

    pub(crate) fn of(blocks: Vec<CraftBlock>) -> Self {
        Self {
            header: [&b"\x89SLSEG\r\n"[..], &[1, 0, 0, 0]].concat(),
            kind: 1,
            reserved: 0,
            state_count: 1,
            block_count: blocks.len() as u32,
            states: state("n", 1, ["bytes", "", "", "bytes"]),
            version: 1,
            blocks,
        }
    }

    pub(crate) fn index(&self) -> Vec<u8> {
        let mut out = vec![self.kind, self.reserved];
        out.extend(self.state_count.to_le_bytes());
        out.extend(self.block_count.to_le_bytes());
        out.extend(&self.states);
        for block in &self.blocks {
            block.record.iter().for_each(|field| out.extend(field.to_le_bytes()));
            block.groups.iter().for_each(|group| out.extend(group.to_le_bytes()));
            out.extend(block.fingerprint.to_le_bytes());
        }
        out
    }

    pub(crate) fn build(&self) -> Vec<u8> {
        self.build_with_index(&self.index())
    }

    pub(crate) fn build_with_index(&self, index: &[u8]) -> Vec<u8> {
        let mut out = self.header.clone();
        self.blocks.iter().for_each(|block| out.extend(block.bytes()));
        let offset = out.len();
        out.extend(index);
        self.with_footer(out, offset as u64, index.len() as u64)
    }

    /// Appends a footer with this offset and length, and a checksum that matches if they are right.
    pub(crate) fn with_footer(&self, mut out: Vec<u8>, offset: u64, len: u64) -> Vec<u8> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(out.len());
        out.extend(offset.to_le_bytes());
        out.extend(len.to_le_bytes());
        out.extend(xxh3_64(&out[from..]).to_le_bytes());
        out.extend(self.version.to_le_bytes());
        out.extend(b"SLSEGEND");
        out
    }
}
