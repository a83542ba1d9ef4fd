//! Adds the operator of a group to a pipeline.

use std::sync::Arc;

use strandline_connectors::{Row, RowKey};
use strandline_runtime::Stream;
use strandline_state_api::SerdeCodec;
use strandline_state_api::backend::BackendFactory;

use super::key::{GroupKey, is_integer};
use super::operators::{Counting, Emitted, Grouping, Shape};
use super::{Counters, Flow, change, windows};
use crate::jobfile::{Computes, Emit, Group};

/// Adds the operator of `group` behind `flow`, and returns its results and, where the group keeps them, the
/// rows that came late.
///
/// The type of the key is part of every checkpoint: 64 bits where the key is one integer, which are small and
/// fast, and the values of the key columns otherwise.
///
/// `skip` is whether results are left out that their columns cannot hold.
pub(super) fn group<F: BackendFactory>(
    flow: Flow<F>,
    group: &Group,
    counters: &mut Counters,
    skip: bool,
) -> (Flow<F>, Option<Stream<F, Row>>) {
    match &group.computes {
        Computes::Top(top) if group.emit == Emit::Changes => {
            return (Flow::Rows(change::top(flow.rows(), group, top)), None);
        }
        _ if !group.is_plain() => {
            let (results, late) = windows::group(flow, group, counters, skip);
            return (Flow::Rows(results), late);
        }
        _ => {}
    }
    let shape = Arc::new(Shape::new(group, counters, skip));
    let emitted = match flow {
        Flow::Keys(keys) if group.counts_only() && is_integer(&group.keys) => {
            let of = Arc::clone(&shape);
            let keys = keys.key_by(|key| (key, ())).codec(SerdeCodec);
            let counts = keys.process(&group.id, move |ctx| Counting::open(&of, ctx));
            return (Flow::Counts(counts, shape), None);
        }
        flow if is_integer(&group.keys) => aggregate::<F, u64>(flow.rows(), &group.id, shape),
        flow => aggregate::<F, RowKey>(flow.rows(), &group.id, shape),
    };
    let (results, late) = if group.keeps_late {
        let (results, late) = emitted.partition(|emitted| match emitted {
            Emitted::Late(row) => Err(row),
            emitted => Ok(emitted),
        });
        (results, Some(late))
    } else {
        (emitted, None)
    };
    let results = results.flat_map(|emitted, out| match emitted {
        Emitted::Result(row) => out.emit(row),
        Emitted::Late(_) => {}
        Emitted::LeftOut => out.count_left_out(),
    });
    (Flow::Rows(results), late)
}

fn aggregate<F: BackendFactory, K: GroupKey>(
    rows: Stream<F, Row>,
    id: &str,
    shape: Arc<Shape>,
) -> Stream<F, Emitted> {
    let of = Arc::clone(&shape);
    rows.key_by(move |row| (K::of(&row, &of.keys), of.value(row)))
        .codec(SerdeCodec)
        .process(id, move |ctx| Grouping::open(&shape, ctx))
}
