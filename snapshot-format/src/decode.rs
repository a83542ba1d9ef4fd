//! Walks over the entries in the payload of a block and trusts none of its bytes.

use crate::entry::{EntryRef, Op, chained};
use crate::index::{BlockInfo, SegmentIndex};
use crate::varint::{read, read_bytes, take};
use strandline_state_api::KeyGroup;

/// An entry as positions in the payload of its block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) group: KeyGroup,
    state: u16,
    op: Op,
    key: (usize, usize),
    namespace: (usize, usize),
    sub: (usize, usize),
    value: (usize, usize),
}

impl Span {
    #[inline(always)]
    pub(crate) fn entry<'a>(&self, raw: &'a [u8]) -> EntryRef<'a> {
        let at = |(from, to): (usize, usize)| &raw[from..to];
        EntryRef {
            group: self.group,
            state: self.state,
            op: self.op,
            key: at(self.key),
            namespace: at(self.namespace),
            sub: at(self.sub),
            value: at(self.value),
        }
    }
}

/// What is wrong with a payload.
pub(crate) type Fault = &'static str;

const CUT: Fault = "an entry is cut short";

/// The progress of the walk. The caller passes the payload at each step, so that the decoder can live beside
/// it.
#[derive(Debug)]
pub(crate) struct Decoder {
    pos: usize,
    group: u16,
    state: u16,
    left: u64,
    in_run: bool,
    value_len: usize,
    entries: u32,
    fingerprint: u64,
    previous: Option<Span>,
}

impl Decoder {
    pub(crate) fn new() -> Self {
        Self {
            pos: 0,
            group: 0,
            state: 0,
            left: 0,
            in_run: false,
            value_len: 0,
            entries: 0,
            fingerprint: 0,
            previous: None,
        }
    }

    /// Returns the newest entry.
    pub(crate) fn previous(&self) -> Option<&Span> {
        self.previous.as_ref()
    }

    /// Returns the next entry of `raw`, or `None` after the last one if the block matches the index.
    #[inline(always)]
    pub(crate) fn next(
        &mut self,
        raw: &[u8],
        index: &SegmentIndex,
        info: &BlockInfo,
    ) -> Result<Option<Span>, Fault> {
        if self.left == 0 {
            if self.pos == raw.len() {
                return self.end(info);
            }
            self.start_run(raw, index, info)?;
        }
        let shape = index.states.shape(self.state).ok_or("an entry of no state")?;
        let head = read(raw, &mut self.pos).ok_or(CUT)?;
        let op = Op::from_bits(head);
        let same_value_len = head & 4 != 0;
        let (same_key, key_len) = match shape.shares_keys() {
            true => (head & 8 != 0, head >> 4),
            false => (false, head >> 3),
        };
        let key = match (same_key, &self.previous) {
            (false, _) => take(raw, &mut self.pos, usize::try_from(key_len).map_err(|_| CUT)?).ok_or(CUT)?,
            (true, Some(previous)) if self.in_run && key_len == 0 => previous.key,
            (true, _) => return Err("an entry shares the key of no entry"),
        };
        let mut part = |present: bool| match present {
            true => read_bytes(raw, &mut self.pos).ok_or(CUT),
            false => Ok((0, 0)),
        };
        let namespace = part(shape.namespace)?;
        let sub = part(shape.sub && op != Op::Clear)?;
        let value = match (shape.value && op.has_value(), same_value_len) {
            (true, false) => part(true)?,
            (true, true) => take(raw, &mut self.pos, self.value_len).ok_or(CUT)?,
            (false, false) => (0, 0),
            (false, true) => return Err("an entry without value has the length of one"),
        };
        if shape.value && op.has_value() {
            self.value_len = value.1 - value.0;
        }
        let group = KeyGroup::new(self.group).ok_or("no such key group")?;
        let span = Span { group, state: self.state, op, key, namespace, sub, value };
        let entry = span.entry(raw);
        if let Some(why) = shape.objection(&entry) {
            return Err(why);
        }
        if self.in_run && self.previous.is_some_and(|previous| previous.entry(raw).cmp_in_run(&entry).is_ge())
        {
            return Err("entries are not in order");
        }
        self.fingerprint = self.fingerprint.wrapping_add(chained(shape.name_hash, &entry));
        self.previous = Some(span);
        self.in_run = true;
        self.left -= 1;
        self.entries = self.entries.saturating_add(1);
        Ok(Some(span))
    }

    #[inline(never)]
    fn start_run(&mut self, raw: &[u8], index: &SegmentIndex, info: &BlockInfo) -> Result<(), Fault> {
        const RUN_CUT: Fault = "a run is cut short";
        let before = (self.group, self.state);
        let head = read(raw, &mut self.pos).ok_or(RUN_CUT)?;
        let group = u64::from(self.group)
            .checked_add(head >> 2)
            .filter(|group| *group <= u64::from(info.last.index()));
        self.group = group.ok_or("a key group lies behind the last one of the block")? as u16;
        if head & 2 != 0 {
            let state = read(raw, &mut self.pos).ok_or(RUN_CUT)?;
            self.state = u16::try_from(state).map_err(|_| "an entry of no state")?;
        }
        if index.states.shape(self.state).is_none() {
            return Err("an entry of no state");
        }
        self.left = if head & 1 == 0 { 1 } else { read(raw, &mut self.pos).ok_or(RUN_CUT)? };
        if self.left == 0 || self.left > (raw.len() - self.pos) as u64 {
            return Err("a run has no or too many entries");
        }
        match self.previous {
            None if self.group != info.first.index() => {
                return Err("the first key group is not that of the index");
            }
            Some(_) if (self.group, self.state) <= before => return Err("runs are not in order"),
            _ => {}
        }
        self.in_run = false;
        Ok(())
    }

    fn end(&self, info: &BlockInfo) -> Result<Option<Span>, Fault> {
        if self.entries != info.entries {
            Err("the number of entries is not that of the index")
        } else if self.previous.is_none_or(|last| last.group != info.last) {
            Err("the last key group is not that of the index")
        } else if self.fingerprint != info.fingerprint {
            Err("the fingerprint is not that of the index")
        } else {
            Ok(None)
        }
    }
}
