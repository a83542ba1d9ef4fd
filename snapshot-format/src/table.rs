//! Checks and encodes the state table of a segment.

use crate::entry::{self, EntryRef, Op};
use crate::segment_kind::SegmentKind;
use strandline_state_api::schema::{StateKind, StateMeta};

/// The parts that the entries of one state have, precomputed for the hot loops.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) name_hash: u64,
    pub(crate) namespace: bool,
    pub(crate) sub: bool,
    pub(crate) value: bool,
    pub(crate) min_key: usize,
    ops: u8,
}

impl Shape {
    fn new(meta: &StateMeta, kind: SegmentKind) -> Self {
        let legal = |op: &Op| *op == Op::Put || (kind == SegmentKind::Delta && op.is_of(meta.kind));
        let ops = [Op::Put, Op::Delete, Op::Append, Op::Clear].iter().filter(|op| legal(op));
        Self {
            name_hash: entry::name_hash(&meta.name),
            namespace: meta.has_namespace(),
            sub: meta.has_sub(),
            value: meta.has_value(),
            min_key: if meta.kind.is_timers() { 8 } else { 0 },
            ops: ops.fold(0, |mask, op| mask | 1 << op.code()),
        }
    }

    #[inline]
    pub(crate) const fn allows(&self, op: Op) -> bool {
        self.ops & 1 << op.code() != 0
    }

    /// Returns whether an entry may share the key of the previous one: entries with more parts than the key
    /// may, which takes a bit of the head.
    #[inline]
    pub(crate) const fn shares_keys(&self) -> bool {
        self.namespace || self.sub
    }

    /// Returns why `entry` cannot belong to the state, if it cannot.
    #[inline]
    pub(crate) fn objection(&self, entry: &EntryRef<'_>) -> Option<&'static str> {
        if !self.allows(entry.op) {
            Some("its kind of state or segment has no such operation")
        } else if !self.namespace && !entry.namespace.is_empty() {
            Some("the state has no namespaces, the entry has one")
        } else if !entry.sub.is_empty() && (!self.sub || entry.op == Op::Clear) {
            Some("the entry has a map key where there is none")
        } else if !(entry.value.is_empty() || self.value && entry.op.has_value()) {
            Some("the entry has a value where there is none")
        } else if entry.key.len() < self.min_key {
            Some("the key of a timer is shorter than its time")
        } else {
            None
        }
    }
}

/// The states of a segment, sorted by name.
#[derive(Clone, Debug)]
pub(crate) struct StateTable {
    metas: Vec<StateMeta>,
    shapes: Vec<Shape>,
}

impl StateTable {
    /// Checks what a segment requires of its states.
    pub(crate) fn new(metas: Vec<StateMeta>, kind: SegmentKind) -> Result<Self, String> {
        if metas.len() > usize::from(u16::MAX) {
            return Err(format!("{} states exceed the 65,535 that a segment can hold", metas.len()));
        }
        for meta in &metas {
            if meta.name.is_empty() {
                return Err("a state has no name".into());
            }
            if let Some(long) = texts(meta).into_iter().find(|text| text.len() > usize::from(u16::MAX)) {
                return Err(format!(
                    "state {:.40?} has a text of {} bytes (at most 65,535)",
                    meta.name,
                    long.len()
                ));
            }
            if meta.kind != StateKind::Map && !meta.sub_codec.is_empty() {
                return Err(format!("state {:?} ({}) has a codec for map keys", meta.name, meta.kind));
            }
        }
        if let Some(pair) = metas.windows(2).find(|pair| pair[0].name >= pair[1].name) {
            return Err(format!(
                "states are not sorted by name: {:?} before {:?}",
                pair[0].name, pair[1].name
            ));
        }
        let shapes = metas.iter().map(|meta| Shape::new(meta, kind)).collect();
        Ok(Self { metas, shapes })
    }

    pub(crate) fn metas(&self) -> &[StateMeta] {
        &self.metas
    }

    #[inline]
    pub(crate) fn shape(&self, state: u16) -> Option<&Shape> {
        self.shapes.get(usize::from(state))
    }

    /// Returns the name of a state, for messages.
    pub(crate) fn name(&self, state: u16) -> &str {
        self.metas.get(usize::from(state)).map_or("?", |meta| &meta.name)
    }

    pub(crate) fn len(&self) -> u16 {
        self.metas.len() as u16 // bounded by `new`
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        for meta in &self.metas {
            out.push(meta.kind.code());
            out.extend_from_slice(&meta.schema_version.to_le_bytes());
            for text in texts(meta) {
                out.extend_from_slice(&(text.len() as u16).to_le_bytes());
                out.extend_from_slice(text.as_bytes());
            }
        }
    }

    /// Reads `count` states from the front of `bytes` and moves `bytes` behind them.
    pub(crate) fn decode(bytes: &mut &[u8], count: u16, kind: SegmentKind) -> Result<Self, String> {
        const SMALLEST: usize = 1 + 4 + 5 * 2;
        let mut metas = Vec::with_capacity(usize::from(count).min(bytes.len() / SMALLEST));
        for _ in 0..count {
            metas.push(
                decode_meta(bytes)
                    .ok_or("the state table is cut short or holds an unknown kind or no UTF-8")?,
            );
        }
        Self::new(metas, kind)
    }
}

fn texts(meta: &StateMeta) -> [String; 5] {
    let StateMeta { name, key_codec, namespace_codec, sub_codec, .. } = meta.clone();
    [name, key_codec, namespace_codec, sub_codec, meta.stored_value_codec()]
}

fn decode_meta(bytes: &mut &[u8]) -> Option<StateMeta> {
    let kind = StateKind::from_code(*bytes.split_off_first()?)?;
    let schema_version = u32::from_le_bytes(*bytes.split_off(..4)?.first_chunk()?);
    let mut text = || {
        let len = u16::from_le_bytes(*bytes.split_off(..2)?.first_chunk()?);
        String::from_utf8(bytes.split_off(..usize::from(len))?.to_vec()).ok()
    };
    let (name, key_codec, namespace_codec, sub_codec, value_codec) =
        (text()?, text()?, text()?, text()?, text()?);
    let meta =
        StateMeta { key_codec, namespace_codec, sub_codec, schema_version, ..StateMeta::new(name, kind) };
    Some(meta.with_stored_value_codec(&value_codec))
}
