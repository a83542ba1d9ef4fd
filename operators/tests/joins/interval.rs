//! The interval join.

use proptest::prelude::*;
use strandline_operators::join::{IntervalJoin, JoinKind, JoinOutput, Joined};
use strandline_state_api::backend::BackendFactory;

use crate::stream::{Record, Row, Stream, assert_same, check, kind};

type Settings = (i64, i64, JoinKind);

fn belongs((l, r): (&Row, &Row)) -> bool {
    (l.0 + r.0) % 3 != 0
}

/// When a row is known to stay alone.
fn known(row: &Record, to: i64) -> i64 {
    row.time.max(row.time + to)
}

fn expected(
    (lower, upper, kind): Settings,
    stream: &Stream,
) -> Vec<(JoinOutput<u64, Row, Row>, Option<i64>)> {
    let records = stream.records();
    let late = records.iter().filter(|record| record.is_late());
    let mut rows: Vec<_> =
        late.map(|record| (JoinOutput::Late(record.key, record.either()), Some(record.time))).collect();
    let side = |left| records.iter().filter(move |record| record.left == left && !record.is_late());
    let pairs = |l: &Record, r: &Record| {
        l.key == r.key && (l.time + lower..=l.time + upper).contains(&r.time) && belongs((&l.row, &r.row))
    };
    for l in side(true) {
        for r in side(false).filter(|r| pairs(l, r)) {
            rows.push((JoinOutput::Row(l.key, Joined::Both(l.row, r.row)), Some(l.time.max(r.time))));
        }
        if kind.keeps_left() && !side(false).any(|r| pairs(l, r)) {
            rows.push((JoinOutput::Row(l.key, Joined::Left(l.row)), Some(known(l, upper))));
        }
    }
    for r in side(false).filter(|r| kind.keeps_right() && !side(true).any(|l| pairs(l, r))) {
        rows.push((JoinOutput::Row(r.key, Joined::Right(r.row)), Some(known(r, -lower))));
    }
    rows
}

fn one<F: BackendFactory>(factory: F, settings: &Settings, stream: &Stream) {
    let (lower, upper, kind) = *settings;
    let join =
        IntervalJoin::between(lower, upper).on(|l: &Row, r: &Row| belongs((l, r))).kind(kind).emit_late();
    let (actual, left) = stream.run(factory, |ctx| join.open(ctx), |record| Some(record.either()));
    assert_same(actual, expected(*settings, stream));
    assert_eq!(left, 0, "rows are left after the end");
}

#[test]
fn interval_joins_are_nested_loops() {
    let bounds = (-12..12i64, 0..12i64).prop_map(|(lower, length)| (lower, lower + length));
    let settings = (bounds, kind()).prop_map(|((lower, upper), kind)| (lower, upper, kind));
    check(settings, one, one);
}
