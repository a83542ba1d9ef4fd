//! Adds the operator of a group to a pipeline.

use std::sync::Arc;

use strandline_connectors::{Row, RowKey};
use strandline_runtime::Stream;
use strandline_state_api::backend::BackendFactory;

use super::key::{GroupKey, is_integer};
use super::operators::{Counting, Grouping, Shape};
use super::{Counters, Flow};
use crate::jobfile::Group;

/// Adds the operator of `group` behind `flow`.
///
/// The type of the key is part of every checkpoint: 64 bits where the key is one integer, which are small and
/// fast, and the values of the key columns otherwise.
///
/// `skip` is whether results are left out that their columns cannot hold.
pub(super) fn group<F: BackendFactory>(
    flow: Flow<F>,
    group: &Group,
    counters: &Counters,
    skip: bool,
) -> Flow<F> {
    let shape = Arc::new(Shape::new(group, counters, skip));
    match flow {
        Flow::Keys(keys) if group.counts_only() && is_integer(&group.keys) => {
            let of = Arc::clone(&shape);
            let counts = keys.key_by(|key| (key, ())).process(&group.id, move |ctx| Counting::open(&of, ctx));
            Flow::Counts(counts, shape)
        }
        flow if is_integer(&group.keys) => Flow::Rows(aggregate::<F, u64>(flow.rows(), &group.id, shape)),
        flow => Flow::Rows(aggregate::<F, RowKey>(flow.rows(), &group.id, shape)),
    }
}

fn aggregate<F: BackendFactory, K: GroupKey>(
    rows: Stream<F, Row>,
    id: &str,
    shape: Arc<Shape>,
) -> Stream<F, Row> {
    let of = Arc::clone(&shape);
    rows.key_by(move |row| (K::of(&row, &of.keys), of.aggregates.arguments(&row)))
        .process(id, move |ctx| Grouping::open(&shape, ctx))
}
