//! `+`, `-`, `*`, `/` and `%` of numbers.

use strandline_connectors::{ColumnType, Value};

use super::integer;

/// An operator on two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    /// Of integers the quotient towards zero.
    Divide,
    /// What remains of that division; it has the sign of the left number.
    Remainder,
}

impl Arithmetic {
    /// The result of two numbers, of the type `kind`: a float if one of them is, otherwise an integer.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn apply(self, left: &Value, right: &Value, kind: ColumnType) -> Result<Value, String> {
        if kind == ColumnType::Float {
            return self.floats(left.as_float().unwrap_or(f64::NAN), right.as_float().unwrap_or(f64::NAN));
        }
        let (Some(a), Some(b)) = (integer(left), integer(right)) else { return Ok(Value::Null) };
        if b == 0 && matches!(self, Self::Divide | Self::Remainder) {
            return Err(format!("{left} is divided by zero"));
        }
        // Two numbers of 64 bits and a sign: 128 bits hold every result, the product included.
        let result = match self {
            Self::Add => a.checked_add(b),
            Self::Subtract => a.checked_sub(b),
            Self::Multiply => a.checked_mul(b),
            Self::Divide => a.checked_div(b),
            Self::Remainder => a.checked_rem(b),
        };
        result
            .and_then(|result| as_kind(result, kind))
            .ok_or_else(|| format!("{left} {} {right} is no {kind} of 64 bits", self.symbol()))
    }

    fn floats(self, a: f64, b: f64) -> Result<Value, String> {
        if b == 0.0 && matches!(self, Self::Divide | Self::Remainder) {
            return Err(format!("{a} is divided by zero"));
        }
        let result = match self {
            Self::Add => a + b,
            Self::Subtract => a - b,
            Self::Multiply => a * b,
            Self::Divide => a / b,
            Self::Remainder => a % b,
        };
        match result.is_infinite() && a.is_finite() && b.is_finite() {
            true => Err(format!("{a} {} {b} is greater than a float can be", self.symbol())),
            false => Ok(Value::Float(result)),
        }
    }

    pub(super) fn symbol(self) -> char {
        match self {
            Self::Add => '+',
            Self::Subtract => '-',
            Self::Multiply => '*',
            Self::Divide => '/',
            Self::Remainder => '%',
        }
    }
}

/// An integer as a value of this type.
pub(super) fn as_kind(number: i128, kind: ColumnType) -> Option<Value> {
    match kind {
        ColumnType::UInt => u64::try_from(number).ok().map(Value::UInt),
        _ => i64::try_from(number).ok().map(Value::Int),
    }
}

/// The number with the other sign: an `int` for integers.
pub(super) fn negate(value: &Value) -> Result<Value, String> {
    match value {
        Value::Float(v) => Ok(Value::Float(-v)),
        other => match integer(other) {
            None => Ok(Value::Null),
            Some(v) => as_kind(-v, ColumnType::Int).ok_or_else(|| format!("-({other}) is no int of 64 bits")),
        },
    }
}
