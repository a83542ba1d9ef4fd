//! Chooses the types of a group: the smallest key and state that do.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use strandline_connectors::{Row, RowKey};
use strandline_runtime::{KeyedStream, Stream};
use strandline_state_api::BackendFactory;

use super::key::{GroupKey, is_integer};
use super::operators::{Counting, Running, Shape, Windowed};
use super::{Flow, counts_only};
use crate::jobfile::Group;

/// Adds the operator of `group` behind `flow`.
pub(super) fn group<F: BackendFactory>(flow: Flow<F>, group: &Group, late: &Arc<AtomicU64>) -> Flow<F> {
    let shape = Arc::new(Shape::new(group, late));
    let (integer, counts) = (is_integer(&group.keys), counts_only(group));
    match flow {
        Flow::Keys(keys) if integer && counts => {
            let counts = count(keys.key_by(|key| (key, ())), &group.id, &shape);
            Flow::Counts(counts, shape)
        }
        flow if integer && counts => Flow::Counts(count_rows(flow.rows(), &group.id, &shape), shape),
        flow if integer => Flow::Rows(aggregate::<F, u64>(flow.rows(), group, shape)),
        flow if counts => {
            let counts = count_rows::<F, RowKey>(flow.rows(), &group.id, &shape);
            Flow::Rows(counts.map(move |(key, count)| shape.count(&key, count)))
        }
        flow => Flow::Rows(aggregate::<F, RowKey>(flow.rows(), group, shape)),
    }
}

fn aggregate<F: BackendFactory, K: GroupKey>(
    rows: Stream<F, Row>,
    group: &Group,
    shape: Arc<Shape>,
) -> Stream<F, Row> {
    let of = Arc::clone(&shape);
    let keyed = rows.key_by(move |row| (K::of(&row, &of.keys), of.aggregates.arguments(&row)));
    match group.window_ms {
        None => keyed.process(&group.id, move |ctx| Running::open(&shape, ctx)),
        Some(_) => keyed.process(&group.id, move |ctx| Windowed::open(&shape, ctx)),
    }
}

fn count_rows<F: BackendFactory, K: GroupKey>(
    rows: Stream<F, Row>,
    id: &str,
    shape: &Arc<Shape>,
) -> Stream<F, (K, u64)> {
    let of = Arc::clone(shape);
    count(rows.key_by(move |row| (K::of(&row, &of.keys), ())), id, shape)
}

fn count<F: BackendFactory, K: GroupKey>(
    keyed: KeyedStream<F, K, ()>,
    id: &str,
    shape: &Arc<Shape>,
) -> Stream<F, (K, u64)> {
    let shape = Arc::clone(shape);
    keyed.process(id, move |ctx| Counting::open(&shape, ctx))
}
