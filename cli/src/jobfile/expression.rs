//! Conditions on rows: comparisons, joined by `and`, `or` and `not`.

use std::cmp::Ordering;

use strandline_connectors::{Row, Value};

mod parse;
mod token;

pub(super) use parse::parse;
pub(super) use token::{Token, Tokens, parse_alias};

/// A condition on a row. A comparison with null is false, and so is its opposite; `is null` asks for it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Expression {
    /// Two values compared.
    Compare { left: Operand, operator: Operator, right: Operand },
    /// Whether a value is missing (or is not).
    IsNull { operand: Operand, negated: bool },
    /// All of them.
    And(Vec<Self>),
    /// Any of them.
    Or(Vec<Self>),
    /// Not it.
    Not(Box<Self>),
}

/// One side of a comparison.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Operand {
    /// The column with this index.
    Column(usize),
    /// This value.
    Literal(Value),
}

/// A comparison of two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Operator {
    fn holds(self, ordering: Ordering) -> bool {
        match self {
            Self::Equal => ordering.is_eq(),
            Self::NotEqual => ordering.is_ne(),
            Self::Less => ordering.is_lt(),
            Self::LessOrEqual => ordering.is_le(),
            Self::Greater => ordering.is_gt(),
            Self::GreaterOrEqual => ordering.is_ge(),
        }
    }
}

impl Operand {
    fn value<'a>(&'a self, row: &'a Row) -> &'a Value {
        match self {
            Self::Column(index) => row.get(*index),
            Self::Literal(value) => value,
        }
    }
}

impl Expression {
    /// Whether it holds for `row`.
    pub(crate) fn holds(&self, row: &Row) -> bool {
        match self {
            Self::Compare { left, operator, right } => {
                compare(left.value(row), right.value(row)).is_some_and(|ordering| operator.holds(ordering))
            }
            Self::IsNull { operand, negated } => operand.value(row).is_null() != *negated,
            Self::And(all) => all.iter().all(|part| part.holds(row)),
            Self::Or(any) => any.iter().any(|part| part.holds(row)),
            Self::Not(part) => !part.holds(row),
        }
    }
}

/// How two values compare; integers exactly, whatever their types. `None` when one is null or not a number,
/// or when they have nothing in common.
pub(crate) fn compare(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::Text(a), Value::Text(b)) => Some(a.cmp(b)),
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        (Value::Timestamp(a), Value::Timestamp(b)) => Some(a.cmp(b)),
        (Value::Float(_), _) | (_, Value::Float(_)) => a.as_float()?.partial_cmp(&b.as_float()?),
        _ => Some(integer(a)?.cmp(&integer(b)?)),
    }
}

fn integer(value: &Value) -> Option<i128> {
    match value {
        Value::Int(v) => Some(i128::from(*v)),
        Value::UInt(v) => Some(i128::from(*v)),
        _ => None,
    }
}
