//! The join with the version that was valid.

use proptest::prelude::*;
use strandline_operators::Either;
use strandline_operators::join::{JoinOutput, Joined, VersionedJoin};
use strandline_state_api::backend::BackendFactory;

use crate::stream::{Record, Row, Stream, assert_same, check};

/// A right record, which ends its row where the record removes.
fn input(record: &Record) -> Either<Row, Option<Row>> {
    match record.left {
        true => Either::Left(record.row),
        false => Either::Right((!record.removes).then_some(record.row)),
    }
}

fn one<F: BackendFactory>(factory: F, keeps_left: &bool, stream: &Stream) {
    let join = VersionedJoin::new().emit_late();
    let join = if *keeps_left { join.left() } else { join };
    let (actual, entries) = stream.run(factory, |ctx| join.open(ctx), |record| Some(input(record)));

    let records = stream.records();
    let mut expected = Vec::new();
    for record in &records {
        let (key, time) = (record.key, Some(record.time));
        if record.is_late() {
            if record.left || !record.removes {
                expected.push((JoinOutput::Late(key, record.either()), time));
            }
        } else if record.left {
            // Of versions with one time the one that came last counts.
            let versions = records.iter().filter(|version| {
                !version.left && !version.is_late() && version.key == key && version.time <= record.time
            });
            let version = versions.max_by_key(|version| (version.time, version.row.1));
            match version.filter(|version| !version.removes) {
                Some(version) => {
                    expected.push((JoinOutput::Row(key, Joined::Both(record.row, version.row)), time));
                }
                None if *keeps_left => {
                    expected.push((JoinOutput::Row(key, Joined::Left(record.row)), time));
                }
                None => {}
            }
        }
    }
    assert_same(actual, expected);
    assert!(entries <= 3, "{entries} entries: more than one version of a key is left");
}

#[test]
fn versioned_joins_find_what_was_valid() {
    check(any::<bool>(), one, one);
}
