//! The window join.

use std::time::Duration;

use strandline_operators::join::{JoinKind, Joined, WindowJoin};
use strandline_operators::window::{TimeWindows, Windows};
use strandline_state_api::TimeWindow;
use strandline_state_api::backend::BackendFactory;

use crate::stream::{Record, Row, Stream, assert_same, check, kind};

const SIZE: i64 = 9;
const SLIDE: i64 = 3;

fn windows(record: &Record) -> impl Iterator<Item = TimeWindow> + use<> {
    let (time, watermark) = (record.time, record.watermark);
    let starts = (0..SIZE / SLIDE).map(move |n| time.div_euclid(SLIDE) * SLIDE - n * SLIDE);
    starts
        .map(|start| TimeWindow { start, end: start + SIZE })
        .filter(move |window| Some(window.end - 1) > watermark)
}

fn one<F: BackendFactory>(factory: F, kind: &JoinKind, stream: &Stream) {
    let sliding =
        TimeWindows::sliding(Duration::from_millis(SIZE as u64), Duration::from_millis(SLIDE as u64));
    let join = WindowJoin::<Row, Row>::new(*kind).on(|l: &Row, r: &Row| l.0 <= r.0);
    let (actual, left) = stream.run(factory, |ctx| sliding.open(&join, ctx), |record| Some(record.either()));
    let actual = actual.into_iter().flat_map(|(output, _)| {
        let result = output.result().unwrap();
        result.value.into_iter().map(move |row| (result.key, result.window, row))
    });

    let records = stream.records();
    let in_windows: Vec<_> =
        records.iter().flat_map(|record| windows(record).map(move |window| (window, record))).collect();
    let side = |left| in_windows.iter().filter(move |(_, record)| record.left == left);
    let pairs = |l: &(TimeWindow, &Record), r: &(TimeWindow, &Record)| {
        l.0 == r.0 && l.1.key == r.1.key && l.1.row.0 <= r.1.row.0
    };
    let mut expected = Vec::new();
    for l in side(true) {
        let partners: Vec<_> = side(false).filter(|r| pairs(l, r)).collect();
        expected.extend(partners.iter().map(|r| (l.1.key, l.0, Joined::Both(l.1.row, r.1.row))));
        if partners.is_empty() && kind.keeps_left() {
            expected.push((l.1.key, l.0, Joined::Left(l.1.row)));
        }
    }
    let alone = side(false).filter(|r| kind.keeps_right() && !side(true).any(|l| pairs(l, r)));
    expected.extend(alone.map(|r| (r.1.key, r.0, Joined::Right(r.1.row))));
    assert_same(actual, expected);
    assert_eq!(left, 0, "rows are left after the end");
}

#[test]
fn window_joins_are_nested_loops() {
    check(kind(), one, one);
}
