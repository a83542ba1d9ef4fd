//! Chooses the types of a group: the smallest key and state that do.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use strandline_runtime::connectors::{Row, RowKey};
use strandline_runtime::{KeyedStream, Stream};
use strandline_state_api::BackendFactory;

use super::key::{GroupKey, is_integer};
use super::operators::{Counting, Running, Shape, Windowed};
use super::{Flow, counts_only};
use crate::jobfile::Group;

/// Adds the operator of `group` behind `flow`.
pub(super) fn group<F: BackendFactory>(
    flow: Flow<F>,
    group: &Group,
    late: &Arc<AtomicU64>,
) -> Stream<F, Row> {
    let shape = Arc::new(Shape::new(group, late));
    let id = group.id.as_str();
    match (flow, is_integer(&group.keys)) {
        (Flow::Keys(keys), true) if counts_only(group) => count(keys.key_by(|key| (key, ())), id, &shape),
        (flow, true) => by_key::<F, u64>(flow.rows(), group, &shape),
        (flow, false) => by_key::<F, RowKey>(flow.rows(), group, &shape),
    }
}

fn by_key<F: BackendFactory, K: GroupKey>(
    rows: Stream<F, Row>,
    group: &Group,
    shape: &Arc<Shape>,
) -> Stream<F, Row> {
    let (id, of) = (group.id.as_str(), Arc::clone(shape));
    if counts_only(group) {
        return count(rows.key_by(move |row| (K::of(&row, &of.keys), ())), id, shape);
    }
    let keyed = rows.key_by(move |row| (K::of(&row, &of.keys), of.aggregates.arguments(&row)));
    let shape = Arc::clone(shape);
    match group.window_ms {
        None => keyed.process(id, move |ctx| Running::open(&shape, ctx)),
        Some(_) => keyed.process(id, move |ctx| Windowed::open(&shape, ctx)),
    }
}

fn count<F: BackendFactory, K: GroupKey>(
    keyed: KeyedStream<F, K, ()>,
    id: &str,
    shape: &Arc<Shape>,
) -> Stream<F, Row> {
    let shape = Arc::clone(shape);
    keyed.process(id, move |ctx| Counting::open(&shape, ctx))
}
