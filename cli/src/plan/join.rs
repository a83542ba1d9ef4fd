//! Unions and joins.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use strandline_connectors::{Column, Row, RowKey, Value};
use strandline_operators::Either;
use strandline_operators::join::{IntervalJoin, JoinOutput, Joined, RegularJoin, VersionedJoin};
use strandline_runtime::{KeyedStream, Stream};
use strandline_state_api::backend::BackendFactory;
use strandline_state_api::{SerdeCodec, TimeDomain, Ttl};

use super::change::{of_row, with_change};
use super::fold::Fold;
use super::layout::Layout;
use super::windows::{borders, windows};
use super::{Counters, Flow};
use crate::jobfile::{Firing, Join, Matching, Part, Side, Union};

/// The rows of all inputs, with their columns in the order of the first one's.
pub(super) fn union<F: BackendFactory>(
    inputs: impl Iterator<Item = Flow<F>>,
    union: &Union,
) -> Option<Stream<F, Row>> {
    let ordered = inputs.zip(&union.orders).map(|(input, order)| match order.clone() {
        None => input.rows(),
        Some(order) => {
            input.rows().map(move |row| order.iter().map(|index| row.get(*index).clone()).collect())
        }
    });
    ordered.reduce(Stream::union).map(|rows| rows.codec(SerdeCodec))
}

/// Joins two inputs.
pub(super) fn join<F: BackendFactory>(
    left: Stream<F, Row>,
    right: Stream<F, Row>,
    join: &Join,
    counters: &mut Counters,
) -> Stream<F, Row> {
    let late = counters.late_of(&join.id);
    let result = ResultOf::new(join);
    let id = join.id.as_str();
    let layout = layout(join);
    match join.matching {
        Matching::Window(of) => {
            let fold = Fold::of_join(join, layout);
            let records = keyed(left, right, join, |row| row, |row| row);
            let moments = join.moments;
            let output = windows(records, id, Some(of), Firing::default(), fold);
            output.flat_map(move |closed, out| match closed {
                Err(_) => count(&late),
                Ok(closed) => {
                    let Some((window, rows)) = closed.joined() else { return };
                    for joined in rows {
                        let mut row = result.row(joined);
                        row.0.extend(borders(window, moments));
                        out.emit(row);
                    }
                }
            })
        }
        Matching::Interval { lower, upper } => {
            let joining = IntervalJoin::<Row, Row>::between(lower, upper).kind(join.kind).emit_late();
            let records = keyed(left, right, join, |row| row, |row| row);
            let output = records.process(id, move |ctx| {
                layout.register(ctx)?;
                joining.open(ctx)
            });
            of_time(output, result, late)
        }
        Matching::Versioned => {
            let joining = VersionedJoin::<Row, Row>::new().emit_late();
            let joining = if join.kind.keeps_left() { joining.left() } else { joining };
            let records = keyed(left, right, join, |row| row, Some);
            let output = records.process(id, move |ctx| {
                layout.register(ctx)?;
                joining.open(ctx)
            });
            of_time(output, result, late)
        }
        Matching::All { ttl } => {
            let mut joining = RegularJoin::<Row, Row>::new(join.kind);
            if let Some((ttl, domain)) = ttl {
                joining = joining.time_to_live(match domain {
                    TimeDomain::Event => Ttl::event_time(ttl),
                    TimeDomain::Processing => Ttl::processing_time(ttl),
                });
            }
            let (of_left, of_right) = (join.left.changes, join.right.changes);
            let changes = (move |row| of_row(row, of_left), move |row| of_row(row, of_right));
            let output = keyed(left, right, join, changes.0, changes.1).process(id, move |ctx| {
                layout.register(ctx)?;
                joining.open(ctx)
            });
            output.map(move |change| with_change(change.map(|(_, joined)| result.row(joined))))
        }
    }
}

/// The rows of a join by time; late records are counted.
fn of_time<F: BackendFactory>(
    output: Stream<F, JoinOutput<RowKey, Row, Row>>,
    result: ResultOf,
    late: Arc<AtomicU64>,
) -> Stream<F, Row> {
    output.flat_map(move |output, out| match output {
        JoinOutput::Row(_, joined) => out.emit(result.row(joined)),
        JoinOutput::Late(..) => count(&late),
    })
}

fn count(late: &AtomicU64) {
    late.fetch_add(1, Ordering::Relaxed);
}

/// Brings the rows of both inputs with one key together. Rows with a missing key belong to none.
fn keyed<F, L, R>(
    left: Stream<F, Row>,
    right: Stream<F, Row>,
    join: &Join,
    of_left: impl Fn(Row) -> L + Clone + Send + Sync + 'static,
    of_right: impl Fn(Row) -> R + Clone + Send + Sync + 'static,
) -> KeyedStream<F, RowKey, Either<L, R>>
where
    F: BackendFactory,
    L: serde::Serialize + serde::de::DeserializeOwned + Send + 'static,
    R: serde::Serialize + serde::de::DeserializeOwned + Send + 'static,
{
    let key = |keys: &[(usize, Column)]| {
        let indexes: Arc<[usize]> = keys.iter().map(|(index, _)| *index).collect();
        move |row: &Row| {
            let values = || indexes.iter().map(|index| row.get(*index));
            (!values().any(Value::is_null)).then(|| RowKey::new(values().cloned()))
        }
    };
    let (key_of_left, key_of_right) = (key(&join.left.keys), key(&join.right.keys));
    let left = left.flat_map(move |row, out| {
        if let Some(key) = key_of_left(&row) {
            out.emit((key, Either::Left(of_left(row))));
        }
    });
    let right = right.flat_map(move |row, out| {
        if let Some(key) = key_of_right(&row) {
            out.emit((key, Either::Right(of_right(row))));
        }
    });
    left.union(right).key_by(|record| record).codec(SerdeCodec)
}

/// What a join keeps: the rows of both inputs.
fn layout(join: &Join) -> Layout {
    let kind = format!("{:?} join", join.kind).to_lowercase();
    let how = match join.matching {
        Matching::Window(windows) => format!("{kind} in {windows}"),
        Matching::Interval { lower, upper } => format!("{kind} from {lower} to {upper} ms"),
        Matching::Versioned => format!("{kind} with versions"),
        Matching::All { .. } => kind,
    };
    let side = |layout: Layout, name: &str, side: &Side| {
        layout.columns(name, &side.input).columns("by", side.keys.iter().map(|(_, column)| column))
    };
    side(side(Layout::new(how), "of", &join.left), "with", &join.right)
}

/// What makes the rows of a join's result.
#[derive(Clone, Debug)]
struct ResultOf(Arc<[Part]>);

impl ResultOf {
    fn new(join: &Join) -> Self {
        Self(join.columns.as_slice().into())
    }

    fn row(&self, joined: Joined<Row, Row>) -> Row {
        let (left, right) = joined.into_sides();
        let value = |row: &Option<Row>, index: usize| row.as_ref().map(|row| row.get(index).clone());
        let part = |part: &Part| match *part {
            Part::Left(index) => value(&left, index),
            Part::Right(index) => value(&right, index),
            Part::Both(in_left, in_right) => value(&left, in_left).or_else(|| value(&right, in_right)),
        };
        self.0.iter().map(|of| part(of).unwrap_or_default()).collect()
    }
}
