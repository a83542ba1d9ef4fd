//! Expressions on rows: conditions, arithmetic, functions.
//!
//! They follow SQL where SQL is of one mind: with a null as operand the result is null, `and` and `or` know
//! three values of truth, and a filter keeps the rows for which its condition is true. Types are known before
//! the job runs. What can only go wrong with the values of a row (an overflow, a division by zero, a text
//! that is no number) is a [`Fault`] of that row.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use strandline_connectors::{ColumnType, Row, Value};

mod arithmetic;
mod cast;
mod functions;
mod parse;
mod time;
mod token;

#[cfg(test)]
use parse::Computed;
pub(super) use parse::{parse, parse_computed};
pub(super) use token::{Token, Tokens, parse_alias};

use arithmetic::Arithmetic;
use functions::Function;

pub(crate) use functions::FUNCTIONS;

/// A form that an expression may have.
#[derive(Debug)]
pub(crate) struct Form {
    /// How it is written, over the values `a`, `b` and `c`, the conditions `x` and `y` and a text.
    pub(crate) forms: &'static [&'static str],
    /// What its value is.
    pub(crate) is: &'static str,
}

/// All forms of expressions but for calls, for the documentation.
pub(crate) const FORMS: [Form; 14] = [
    Form { forms: &["a = b", "a == b"], is: "whether both are equal" },
    Form { forms: &["a != b", "a <> b"], is: "whether they differ" },
    Form {
        forms: &["a < b", "a <= b", "a > b", "a >= b"],
        is: "whether one is less: numbers and timestamps by their value, text by its bytes",
    },
    Form { forms: &["a between b and c"], is: "the same as `a >= b and a <= c`" },
    Form { forms: &["a in (1, 2)", "a not in (1, 2)"], is: "whether it is one of the values, or none" },
    Form {
        forms: &["a is null", "a is not null"],
        is: "whether the value is missing, or is there; never null",
    },
    Form { forms: &["x"], is: "a column" },
    Form { forms: &["not x"], is: "whether the condition does not hold" },
    Form { forms: &["x and y"], is: "whether both hold" },
    Form { forms: &["x or y"], is: "whether one of them holds, or both" },
    Form {
        forms: &["a + b", "a - b", "a * b", "a / b", "a % b"],
        is: "arithmetic, in the type of the operands",
    },
    Form { forms: &["-a"], is: "the number with the other sign" },
    Form {
        forms: &["cast(a as float)", "try_cast(a as text)"],
        is: "the value as another type; what does not fit is a bad record, or null with `try_cast`",
    },
    Form { forms: &["(a)"], is: "the expression within, of at most 100 levels" },
];

/// An expression on a row, whose types were checked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Expression {
    /// The column with this index.
    Column(usize),
    /// This value.
    Literal(Value),
    /// Two values compared.
    Compare { left: Box<Self>, operator: Operator, right: Box<Self> },
    /// Whether a value is missing (or is not).
    IsNull { operand: Box<Self>, negated: bool },
    /// Whether a value is one of these (or is none).
    In { operand: Box<Self>, list: Vec<Self>, negated: bool },
    /// All of them.
    And(Vec<Self>),
    /// Any of them.
    Or(Vec<Self>),
    /// Not it.
    Not(Box<Self>),
    /// Two numbers, with a result of this type.
    Arithmetic {
        left: Box<Self>,
        operator: Arithmetic,
        right: Box<Self>,
        kind: ColumnType,
        place: Arc<Place>,
    },
    /// The number with the other sign.
    Negate(Box<Self>, Arc<Place>),
    /// A function of values.
    Call { function: Function, arguments: Vec<Self>, place: Arc<Place> },
    /// The value as one of this type; where it is none null, if that is asked for, and otherwise a fault.
    Cast { operand: Box<Self>, kind: ColumnType, or_null: bool, place: Arc<Place> },
}

/// Where a fault comes from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The part of the expression, as the job file has it.
    text: String,
    /// The first column in it.
    column: Option<String>,
}

/// Why an expression has no value for a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault(Box<(String, Arc<Place>)>);

impl Fault {
    #[cold]
    fn new(place: &Arc<Place>, reason: impl Into<String>) -> Self {
        Self(Box::new((reason.into(), Arc::clone(place))))
    }

    /// The first column of the part of the expression that failed.
    pub(crate) fn column(&self) -> Option<&str> {
        self.0.1.column.as_deref()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` failed: {}", self.0.1.text, self.0.0)
    }
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

impl Expression {
    /// Whether it is true for `row`, and neither false nor null.
    #[inline]
    pub(crate) fn holds(&self, row: &Row) -> Result<bool, Fault> {
        Ok(self.truth(row)? == Some(true))
    }

    /// Whether it may fail for some rows.
    pub(crate) fn may_fail(&self) -> bool {
        match self {
            Self::Column(_) | Self::Literal(_) => false,
            Self::Compare { left, right, .. } => left.may_fail() || right.may_fail(),
            Self::IsNull { operand, .. } | Self::Not(operand) => operand.may_fail(),
            Self::In { operand, list, .. } => operand.may_fail() || list.iter().any(Self::may_fail),
            Self::And(parts) | Self::Or(parts) => parts.iter().any(Self::may_fail),
            Self::Arithmetic { .. } | Self::Negate(..) => true,
            Self::Call { function, arguments, .. } => {
                function.may_fail() || arguments.iter().any(Self::may_fail)
            }
            Self::Cast { operand, kind, or_null, .. } => {
                (!or_null && *kind != ColumnType::Text) || operand.may_fail()
            }
        }
    }

    /// Its value; `None` is null.
    fn truth(&self, row: &Row) -> Result<Option<bool>, Fault> {
        Ok(match self {
            Self::Compare { left, operator, right } => {
                let (left, right) = (left.value(row)?, right.value(row)?);
                if left.is_null() || right.is_null() {
                    return Ok(None);
                }
                // With NaN no comparison is true, but that it is not equal.
                let ordering = compare(&left, &right);
                Some(ordering.map_or(*operator == Operator::NotEqual, |ordering| operator.holds(ordering)))
            }
            Self::IsNull { operand, negated } => Some(operand.value(row)?.is_null() != *negated),
            Self::In { operand, list, negated } => {
                let value = operand.value(row)?;
                let mut found = if value.is_null() { None } else { Some(false) };
                for item in list {
                    let item = item.value(row)?;
                    if item.is_null() || value.is_null() {
                        found = None;
                    } else if compare(&value, &item) == Some(Ordering::Equal) {
                        return Ok(Some(!negated));
                    }
                }
                found.map(|found| found != *negated)
            }
            Self::And(all) => {
                let mut truth = Some(true);
                for part in all {
                    match part.truth(row)? {
                        Some(true) => {}
                        Some(false) => return Ok(Some(false)),
                        None => truth = None,
                    }
                }
                truth
            }
            Self::Or(any) => {
                let mut truth = Some(false);
                for part in any {
                    match part.truth(row)? {
                        Some(false) => {}
                        Some(true) => return Ok(Some(true)),
                        None => truth = None,
                    }
                }
                truth
            }
            Self::Not(part) => part.truth(row)?.map(|truth| !truth),
            other => match *other.value(row)? {
                Value::Bool(truth) => Some(truth),
                _ => None,
            },
        })
    }

    /// Its value for `row`.
    #[inline]
    pub(crate) fn value<'a>(&'a self, row: &'a Row) -> Result<Cow<'a, Value>, Fault> {
        match self {
            Self::Column(index) => Ok(Cow::Borrowed(row.get(*index))),
            Self::Literal(value) => Ok(Cow::Borrowed(value)),
            other => other.compute(row),
        }
    }

    fn compute<'a>(&'a self, row: &'a Row) -> Result<Cow<'a, Value>, Fault> {
        Ok(Cow::Owned(match self {
            Self::Arithmetic { left, operator, right, kind, place } => {
                let (left, right) = (left.value(row)?, right.value(row)?);
                if left.is_null() || right.is_null() {
                    return Ok(Cow::Owned(Value::Null));
                }
                let result = operator.apply(&left, &right, *kind);
                result.map_err(|reason| Fault::new(place, reason))?
            }
            Self::Negate(operand, place) => {
                let value = operand.value(row)?;
                arithmetic::negate(&value).map_err(|reason| Fault::new(place, reason))?
            }
            Self::Call { function, arguments, place } => return function.call(arguments, row, place),
            Self::Cast { operand, kind, or_null, place } => {
                let value = operand.value(row)?;
                match cast::cast(&value, *kind) {
                    Ok(value) => value,
                    Err(_) if *or_null => Value::Null,
                    Err(reason) => return Err(Fault::new(place, reason)),
                }
            }
            condition => condition.truth(row)?.map_or(Value::Null, Value::Bool),
        }))
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

/// An integer, whatever its type.
fn integer(value: &Value) -> Option<i128> {
    match value {
        Value::Int(v) => Some(i128::from(*v)),
        Value::UInt(v) => Some(i128::from(*v)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
