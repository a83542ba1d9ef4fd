//! Merges the changes of two steps into those of one, by the rules of the format's
//! [`Merge`](strandline_snapshot_format::Merge).

use std::cmp::Ordering;

use strandline_snapshot_format::{EntryRef, Op};

use crate::changes::Changes;
use crate::record::Layout;
use crate::records::{Records, StateDelta};
use crate::sorted::Sorted;

/// Returns what `older` and then `newer` do, each position once.
pub(crate) fn merge(older: &Changes, newer: &Changes) -> Changes {
    let mut states = Vec::new();
    let mut records = 0;
    // A full step holds whatever the older one had.
    let before = if newer.full { &[][..] } else { &older.states };
    let none = |of: &StateDelta| StateDelta {
        meta: of.meta.clone(),
        layout: of.layout,
        records: Records::default(),
    };
    for (index, old) in before.iter().enumerate() {
        let same = newer.states.iter().find(|new| new.meta == old.meta);
        let empty = none(old);
        // Under the later forms of an unclaimed state are the older ones: their appends remain.
        let is_later = before[..index].iter().any(|earlier| earlier.meta.name == old.meta.name);
        states.push(merge_state(old, same.unwrap_or(&empty), older.full && !is_later, &mut records));
    }
    for (index, new) in newer.states.iter().enumerate() {
        if !before.iter().any(|old| old.meta == new.meta) {
            let is_later = newer.states[..index].iter().any(|earlier| earlier.meta.name == new.meta.name);
            let full = (older.full || newer.full) && !is_later;
            states.push(merge_state(&none(new), new, full, &mut records));
        }
    }
    Changes::new(states, older.full || newer.full, records)
}

/// Merges the changes of one state. Into a `full` state nothing reaches, so it has neither tombstones nor
/// appends.
fn merge_state(older: &StateDelta, newer: &StateDelta, full: bool, records: &mut usize) -> StateDelta {
    let mut out = Output { layout: newer.layout, full, records: Records::default(), count: 0 };
    let (mut old, mut new) = (Sorted::new(older), Sorted::new(newer));
    // The map that the newer step has cleared last.
    let mut cleared: Option<EntryRef<'_>> = None;
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((a, _)), Some((b, _))) => a.cmp_position(&b),
        };
        let (a, b) = (old.peek(), new.peek());
        if order.is_le() {
            old.skip();
        }
        if order.is_ge() {
            new.skip();
        }
        match (a.filter(|_| order.is_le()), b.filter(|_| order.is_ge())) {
            (Some((a, _)), Some((b, _))) if b.op == Op::Append && a.op != Op::Clear => match a.op {
                Op::Put | Op::Append => out.push(&a, a.op, &[a.value, b.value]),
                _ => out.push(&b, Op::Put, &[b.value]),
            },
            (_, Some((b, bytes))) => {
                if b.op == Op::Clear {
                    cleared = Some(b);
                }
                out.push_record(&b, bytes);
            }
            (Some((a, bytes)), None) => {
                let map = cleared.is_some_and(|map| map.key == a.key && map.namespace == a.namespace);
                if !map {
                    out.push_record(&a, bytes);
                }
            }
            (None, None) => {}
        }
    }
    *records += out.count;
    StateDelta { meta: newer.meta.clone(), layout: newer.layout, records: out.records }
}

struct Output {
    layout: Layout,
    full: bool,
    records: Records,
    count: usize,
}

impl Output {
    fn buffer(&mut self, of: &EntryRef<'_>) -> &mut Vec<u8> {
        self.count += 1;
        self.records.buffer(of.group)
    }

    /// Adds a record as it is.
    fn push_record(&mut self, entry: &EntryRef<'_>, bytes: &[u8]) {
        match entry.op {
            Op::Delete | Op::Clear if self.full => {}
            Op::Append if self.full => self.push(entry, Op::Put, &[entry.value]),
            _ => self.buffer(entry).extend_from_slice(bytes),
        }
    }

    /// Adds a record at the position of `entry` with another value, which has these parts.
    fn push(&mut self, entry: &EntryRef<'_>, op: Op, value: &[&[u8]]) {
        let (layout, op) = (self.layout, if self.full { Op::Put } else { op });
        layout.write(&EntryRef { op, ..*entry }, value, self.buffer(entry));
    }
}
