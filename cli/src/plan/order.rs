//! Which of two rows is greater.

use std::cmp::Ordering;
use std::sync::Arc;

use smallvec::SmallVec;
use strandline_connectors::{Row, Value};

use super::slot::order_of_floats;
use crate::jobfile::{Top, compare};

/// The columns that decide which rows are the top.
#[derive(Clone, Debug)]
pub(super) struct Order(Arc<[(usize, bool)]>);

/// What decides where a row stands.
#[derive(Clone, Debug)]
pub(super) struct Score {
    values: SmallVec<[Value; 1]>,
    order: Order,
}

impl Order {
    pub(super) fn new(top: &Top) -> Self {
        Self(top.by.iter().map(|(index, _, least)| (*index, *least)).collect())
    }

    pub(super) fn score(&self, row: &Row) -> Score {
        let values = self.0.iter().map(|(index, _)| row.get(*index).clone()).collect();
        Score { values, order: self.clone() }
    }

    pub(super) fn compare(&self, a: &Row, b: &Row) -> Ordering {
        let pairs = self.0.iter().map(|(index, least)| (a.get(*index), b.get(*index), *least));
        of_values(pairs)
    }
}

fn of_values<'a>(pairs: impl Iterator<Item = (&'a Value, &'a Value, bool)>) -> Ordering {
    let mut orderings = pairs.map(|(a, b, least)| match (a.is_null(), b.is_null()) {
        (false, false) if least => of_two(b, a),
        (false, false) => of_two(a, b),
        // A missing value is less than any other, either way.
        (a, b) => b.cmp(&a),
    });
    orderings.find(|ordering| ordering.is_ne()).unwrap_or(Ordering::Equal)
}

fn of_two(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Float(a), Value::Float(b)) => order_of_floats(*a, *b),
        (a, b) => compare(a, b).unwrap_or(Ordering::Equal),
    }
}

impl Ord for Score {
    fn cmp(&self, other: &Self) -> Ordering {
        let columns = self.order.0.iter().zip(self.values.iter().zip(&other.values));
        of_values(columns.map(|((_, least), (a, b))| (a, b, *least)))
    }
}

impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Score {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Score {}
