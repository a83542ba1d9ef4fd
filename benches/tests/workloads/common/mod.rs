//! The checks that hold for every backend.

use std::fmt::Debug;
use std::sync::Arc;

use strandline_benches::keys::shuffled;
use strandline_benches::w2::kinds::{Kind, KindOp, Kinds};
use strandline_benches::w2::list::{ListOp, Lists, PlainLists};
use strandline_benches::w2::map::{MapOp, Maps, PlainMaps};
use strandline_benches::w2::timers::{PlainTimers, TimerOp, Timers};
use strandline_benches::w2::value::{PlainValues, ValueOp, Values};
use strandline_benches::w5::{Counting, Embedding, Floor, executor, stream};
use strandline_benches::{Effort, Subject, compare};
use strandline_connectors::keys::Distribution;
use strandline_state_api::backend::BackendFactory;

pub(crate) const DISTRIBUTIONS: [Distribution; 2] = [Distribution::Uniform, Distribution::Zipf];

/// Compares each operation after each other one: a difference of results fails, and so does one of the state
/// that an earlier operation left.
pub(crate) fn in_step<Op: Copy + Debug>(
    ops: &[Op],
    ours: &mut impl Subject<Op>,
    other: &mut impl Subject<Op>,
) {
    for first in ops {
        for second in ops {
            compare(*first, ours, other, Effort::ONCE).unwrap();
            compare(*second, ours, other, Effort::ONCE).unwrap();
        }
    }
}

/// All operations of W2, beside the plain ones.
pub(crate) fn states_keep_in_step<F: BackendFactory>(factory: &F) {
    let keys = shuffled(300);
    let mut values = Values::new(factory.clone(), Arc::clone(&keys)).unwrap();
    in_step(&ValueOp::ALL, &mut values, &mut PlainValues::new(Arc::clone(&keys)));
    in_step(&ListOp::ALL, &mut Lists::new(factory, &keys).unwrap(), &mut PlainLists::new(&keys));
    in_step(&MapOp::ALL, &mut Maps::new(factory.clone(), &keys).unwrap(), &mut PlainMaps::new(&keys));
    in_step(&TimerOp::ALL, &mut Timers::new(factory, &keys).unwrap(), &mut PlainTimers::new(&keys));
    for op in KindOp::ALL {
        let [mut ours, mut plain] =
            [op.kind(), Kind::Plain].map(|kind| Kinds::new(factory, &keys, kind).unwrap());
        compare(op, &mut ours, &mut plain, Effort::ONCE).unwrap();
    }
}

/// All ways to count of W5, in parts that are no multiples of a batch.
pub(crate) fn every_way_counts_the_same<F: BackendFactory>(factory: &F) {
    let (keys, records) = (1_000, 30_000);
    for distribution in DISTRIBUTIONS {
        let stream = stream(records, keys, distribution).unwrap();
        let (wanted, _) = Floor::whole(stream.clone(), records);
        for way in Embedding::ALL {
            let mut ours = Counting::new(factory, way, stream.clone(), 0).unwrap();
            let sum = [7, 10_001, 19_992].map(|part| ours.count(part).unwrap());
            assert_eq!(sum.into_iter().fold(0, u64::wrapping_add), wanted, "{way:?}");
        }
        for chained in [true, false] {
            assert_eq!(executor(factory.clone(), stream.clone(), chained).unwrap().0, wanted);
        }
    }
}
