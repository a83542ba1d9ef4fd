//! Deduplication, top N, running aggregates.

use std::collections::BTreeMap;

use proptest::prelude::*;
use strandline_operators::window::{TimeWindows, Windows};
use strandline_operators::{Change, Deduplicate, Fold, Running, TopN};
use strandline_state_api::backend::BackendFactory;

use crate::stream::{Record, Row, Stream, assert_same, check};

/// Applies changes to a table; panics where one does not fit.
fn table<T: PartialEq + std::fmt::Debug>(changes: impl IntoIterator<Item = Change<T>>) -> Vec<T> {
    let mut table = Vec::new();
    for change in changes {
        if change.is_addition() {
            table.push(change.into_row());
        } else {
            let row = change.into_row();
            let index = table.iter().position(|other| *other == row);
            table.remove(index.unwrap_or_else(|| panic!("{row:?} goes and was not there")));
        }
    }
    table
}

fn by_key(stream: &Stream) -> BTreeMap<u64, Vec<Record>> {
    let mut keys: BTreeMap<u64, Vec<Record>> = BTreeMap::new();
    stream.records().into_iter().for_each(|record| keys.entry(record.key).or_default().push(record));
    keys
}

fn deduplicated<F: BackendFactory>(factory: F, (first, finals): &(bool, bool), stream: &Stream) {
    let one = if *first { Deduplicate::first() } else { Deduplicate::last() };
    let one = if *finals { one.only_final() } else { one };
    // A late first row may come before or after it is final.
    let counts = |record: &Record| !(*first && *finals && record.is_late());
    let input = |record: &Record| counts(record).then_some(record.row);
    let (changes, entries) = stream.run(factory, |ctx| one.open(ctx), input);
    if *finals {
        assert!(changes.iter().all(|(change, _)| matches!(change, Change::Insert(_))));
    }
    let mut expected = Vec::new();
    for (key, records) in by_key(stream) {
        let found = match (first, finals) {
            (false, _) => records.iter().max_by_key(|record| (record.time, record.row.1)),
            (true, false) => records.iter().min_by_key(|record| (record.time, record.row.1)),
            (true, true) => {
                // The candidate is final as soon as the watermark reaches its time.
                let mut candidate: Option<&Record> = None;
                for record in records.iter().filter(|record| counts(record)) {
                    if candidate.is_some_and(|candidate| Some(candidate.time) <= record.watermark) {
                        break;
                    }
                    if candidate.is_none_or(|candidate| record.time < candidate.time) {
                        candidate = Some(record);
                    }
                }
                candidate
            }
        };
        expected.extend(found.map(|record| (key, record.row)));
    }
    assert_same(table(changes.into_iter().map(|(change, _)| change)), expected);
    if *finals && !*first {
        assert_eq!(entries, 0, "rows are left after the end");
    }
}

#[test]
fn one_row_of_each_key_is_kept() {
    check((any::<bool>(), any::<bool>()), deduplicated, deduplicated);
}

fn top<F: BackendFactory>(factory: F, n: &usize, stream: &Stream) {
    let top = TopN::new(*n, |row: &Row| row.0);
    let (changes, _) = stream.run(factory.clone(), |ctx| top.open(ctx), |record| Some(record.row));
    let global = TimeWindows::global();
    let (finals, left) = stream.run(factory, |ctx| global.open(&top, ctx), |record| Some(record.row));
    let mut expected = BTreeMap::new();
    for (key, mut records) in by_key(stream) {
        records.sort_by_key(|record| (std::cmp::Reverse(record.row.0), record.row.1));
        expected.insert(key, records.iter().take(*n).map(|record| record.row).collect::<Vec<_>>());
    }
    let rows = expected.iter().flat_map(|(key, rows)| rows.iter().map(|row| (*key, *row)));
    assert_same(table(changes.into_iter().map(|(change, _)| change)), rows);
    let finals = finals.into_iter().map(|(output, _)| output.result().unwrap());
    assert_same(finals.map(|result| (result.key, result.value)), expected);
    assert_eq!(left, 0, "rows are left after the end");
}

#[test]
fn the_greatest_rows_are_kept_in_order() {
    check(1..4usize, top, top);
}

fn running<F: BackendFactory>(factory: F, (): &(), stream: &Stream) {
    let sum = Running::new(Fold::new(0, |sum: &mut i64, n: i64| *sum += n, |sum, other| *sum += other));
    let (changes, _) = stream.run(factory, |ctx| sum.open(ctx), |record| Some(record.row.0));
    let updates = changes.iter().filter(|(change, _)| change.is_addition()).count();
    let nothing_new = |records: &Vec<Record>| records.iter().skip(1).filter(|r| r.row.0 == 0).count();
    let keys = by_key(stream);
    let skipped: usize = keys.values().map(nothing_new).sum();
    assert_eq!(updates, stream.records().len() - skipped, "a result that stays is no change");
    let sums = keys.into_iter().map(|(key, records)| (key, records.iter().map(|r| r.row.0).sum()));
    assert_same(table(changes.into_iter().map(|(change, _)| change)), sums);
}

#[test]
fn running_aggregates_follow_their_records() {
    check(Just(()), running, running);
}
