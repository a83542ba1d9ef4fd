//! The regular join.

use std::cell::RefCell;
use std::time::Duration;

use proptest::prelude::*;
use strandline_operators::join::{JoinKind, Joined, RegularJoin};
use strandline_operators::{Change, Either};
use strandline_state_api::Ttl;
use strandline_state_api::backend::BackendFactory;

use crate::stream::{Record, Row, Stream, assert_same, check, kind};

/// The rows of a table of which nothing is removed, before each record; what a record removes is one of them.
#[derive(Clone, Debug, Default)]
struct Tables {
    left: Vec<(u64, i64)>,
    right: Vec<(u64, i64)>,
}

impl Tables {
    /// Applies a record; returns the change, if the record has one.
    fn apply(&mut self, record: &Record) -> Option<Either<Change<i64>, Change<i64>>> {
        let table = if record.left { &mut self.left } else { &mut self.right };
        let row = (record.key, record.row.0);
        let change = if record.removes {
            let index = table.iter().position(|other| *other == row)?;
            table.remove(index);
            // Both words for a row that goes.
            if record.row.1 % 2 == 0 { Change::Delete(row.1) } else { Change::UpdateBefore(row.1) }
        } else {
            table.push(row);
            if record.row.1 % 2 == 0 { Change::Insert(row.1) } else { Change::UpdateAfter(row.1) }
        };
        Some(if record.left { Either::Left(change) } else { Either::Right(change) })
    }

    fn joined(&self, kind: JoinKind) -> Vec<(u64, Joined<i64, i64>)> {
        let mut rows = Vec::new();
        for l in &self.left {
            let partners: Vec<_> = self.right.iter().filter(|r| r.0 == l.0).collect();
            rows.extend(partners.iter().map(|r| (l.0, Joined::Both(l.1, r.1))));
            if partners.is_empty() && kind.keeps_left() {
                rows.push((l.0, Joined::Left(l.1)));
            }
        }
        let alone = self.right.iter().filter(|r| kind.keeps_right() && !self.left.iter().any(|l| l.0 == r.0));
        rows.extend(alone.map(|r| (r.0, Joined::Right(r.1))));
        rows
    }
}

fn one<F: BackendFactory>(factory: F, kind: &JoinKind, stream: &Stream) {
    let inputs: RefCell<Vec<(i64, Option<Either<_, _>>)>> = RefCell::default();
    let mut tables = Tables::default();
    for record in stream.records() {
        inputs.borrow_mut().push((record.row.1, tables.apply(&record)));
    }
    let input = |record: &Record| {
        inputs.borrow().iter().find(|(number, _)| *number == record.row.1).and_then(|(_, input)| *input)
    };
    let join = RegularJoin::<i64, i64>::new(*kind);
    let (changes, entries) = stream.run(factory, |ctx| join.open(ctx), input);
    // Who applies the changes has the join of both tables, and never deletes what is not there.
    let mut result = Vec::new();
    for (change, _) in changes {
        if change.is_addition() {
            result.push(change.into_row());
        } else {
            let row = change.into_row();
            let index = result.iter().position(|other| *other == row);
            result.remove(index.unwrap_or_else(|| panic!("{row:?} is deleted and was not there")));
        }
    }
    assert_same(result, tables.joined(*kind));
    if tables.left.is_empty() && tables.right.is_empty() {
        assert_eq!(entries, 0, "state is left of rows that have gone");
    }
}

#[test]
fn regular_joins_follow_their_tables() {
    check(kind(), one, one);
}

const TTL: [i64; 2] = [15, 6];

fn with_time_to_live<F: BackendFactory>(factory: F, (): &(), stream: &Stream) {
    let ttl = |millis: i64| Ttl::event_time(Duration::from_millis(millis as u64));
    let join = RegularJoin::<Row, Row>::new(JoinKind::Inner)
        .left_time_to_live(ttl(TTL[0]))
        .right_time_to_live(ttl(TTL[1]));
    let input = |record: &Record| {
        Some(if record.left {
            Either::Left(Change::Insert(record.row))
        } else {
            Either::Right(Change::Insert(record.row))
        })
    };
    let (changes, _) = stream.run(factory, |ctx| join.open(ctx), input);
    let records = stream.records();
    let mut expected = Vec::new();
    for (index, record) in records.iter().enumerate() {
        for other in records[..index].iter().filter(|o| o.left != record.left && o.key == record.key) {
            let ttl = TTL[usize::from(!other.left)];
            if Some(other.time + ttl) > record.watermark {
                let (l, r) = if record.left { (record, other) } else { (other, record) };
                expected.push(Change::Insert((record.key, Joined::Both(l.row, r.row))));
            }
        }
    }
    assert_same(changes.into_iter().map(|(change, _)| change), expected);
}

#[test]
fn rows_that_have_expired_join_nothing() {
    check(Just(()), with_time_to_live, with_time_to_live);
}
