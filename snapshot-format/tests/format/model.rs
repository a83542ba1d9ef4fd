//! Random chains of parts, and a naive model of what they hold.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use strandline_snapshot_format::{Op, SegmentKind};

use crate::common::{Entry, states};

/// An address: key group, state, key, namespace.
pub(crate) type Place = (u16, String, Vec<u8>, Vec<u8>);
/// The contents of each address: values by map key (`""` unless the state is a map).
pub(crate) type Model = BTreeMap<Place, BTreeMap<Vec<u8>, Vec<u8>>>;

/// Generates entries from few groups, keys, namespaces and map keys, so that parts meet often; half of the
/// groups are far apart.
pub(crate) fn part(kind: SegmentKind) -> impl Strategy<Value = Vec<Entry>> {
    let one = (0u16..4, 0..states().len(), 0u8..4, 0u8..2, 0u8..2, 0usize..3, vec(any::<u8>(), 0..6));
    vec(one, 0..60).prop_map(move |drawn| {
        let states = states();
        let mut unique = BTreeMap::new();
        for (group, state, op, key, namespace, sub, value) in drawn {
            let meta = &states[state];
            let op = [Op::Put, Op::Delete, Op::Append, Op::Clear][usize::from(op)];
            let op = if kind == SegmentKind::Delta && op.is_of(meta.kind) { op } else { Op::Put };
            let entry = Entry {
                group: if group < 2 { group } else { 10_000 * (group - 1) },
                state: meta.name.clone(),
                key: if meta.kind.is_timers() { vec![key; 9] } else { vec![key] },
                namespace: if meta.has_namespace() { vec![namespace] } else { Vec::new() },
                rank: op != Op::Clear,
                sub: if meta.has_sub() && op != Op::Clear { vec![7; sub] } else { Vec::new() },
                op: 0,
                value: Vec::new(),
            };
            let value = if meta.has_value() && op.has_value() { value } else { Vec::new() };
            unique.insert(entry, (op.code(), value));
        }
        unique.into_iter().map(|(entry, (op, value))| Entry { op, value, ..entry }).collect()
    })
}

/// Generates a base, then deltas; or deltas only.
pub(crate) fn chain() -> impl Strategy<Value = Vec<(SegmentKind, Vec<Entry>)>> {
    let of = |kind| part(kind).prop_map(move |entries| (kind, entries));
    (proptest::option::of(of(SegmentKind::Base)), vec(of(SegmentKind::Delta), 0..6))
        .prop_map(|(base, deltas)| base.into_iter().chain(deltas).collect())
}

/// Applies `entries` to `model`, one after the other.
pub(crate) fn apply(model: &mut Model, entries: &[Entry]) {
    for entry in entries {
        let place = (entry.group, entry.state.clone(), entry.key.clone(), entry.namespace.clone());
        let at = model.entry(place.clone()).or_default();
        match entry.op() {
            Op::Put => drop(at.insert(entry.sub.clone(), entry.value.clone())),
            Op::Delete => drop(at.remove(&entry.sub)),
            Op::Append => at.entry(Vec::new()).or_default().extend_from_slice(&entry.value),
            Op::Clear => at.clear(),
        }
        if at.is_empty() {
            model.remove(&place);
        }
    }
}

/// Returns the entries of a base that holds the contents of `model`.
pub(crate) fn as_base(model: &Model) -> Vec<Entry> {
    let mut entries = Vec::new();
    for ((group, state, key, namespace), values) in model {
        for (sub, value) in values {
            entries.push(Entry {
                group: *group,
                state: state.clone(),
                key: key.clone(),
                namespace: namespace.clone(),
                rank: true,
                sub: sub.clone(),
                op: Op::Put.code(),
                value: value.clone(),
            });
        }
    }
    entries
}
