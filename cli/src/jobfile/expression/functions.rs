//! The functions of expressions.

mod resolve;

use std::borrow::Cow;
use std::sync::Arc;

use compact_str::CompactString;
use jiff::tz::TimeZone;
use strandline_connectors::{ColumnType, Moment, Row, TimeFormat, Value};

use super::time::{self, Part};
use super::{Expression, Fault, Place, arithmetic, cast, compare};

pub(super) use resolve::resolve;

/// A function, with those of its arguments that are part of the job and not of a row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Function {
    Lower,
    Upper,
    Trim,
    TrimStart,
    TrimEnd,
    Length,
    Substring,
    Contains,
    StartsWith,
    EndsWith,
    Replace,
    Concat,
    Coalesce,
    If,
    NullIf,
    Abs,
    Round,
    Floor,
    Ceil,
    Truncate(Part, TimeZone),
    Extract(Part, TimeZone),
    ParseTimestamp(TimeFormat),
    FormatTimestamp(String, TimeZone),
    /// A point in time as a number of units since the epoch; how many nanoseconds one has.
    Epoch(i128),
    FromEpoch(i128),
}

/// An argument, as far as it is known before the job runs.
pub(super) struct Argument<'a> {
    pub(super) expression: &'a Expression,
    /// `None` for null.
    pub(super) kind: Option<ColumnType>,
    pub(super) nullable: bool,
}

/// A function that is called with fitting arguments.
pub(super) struct Resolved {
    pub(super) function: Function,
    pub(super) kind: Option<ColumnType>,
    pub(super) nullable: bool,
    /// How many of the arguments are values of a row; the others are part of the function.
    pub(super) values: usize,
}

/// A call that does not fit: which argument, and what is wrong.
pub(super) type Misfit = (usize, String);

/// All functions, as they are written.
pub(crate) const FUNCTIONS: [(&str, &str); 29] = [
    ("abs", "abs(number)"),
    ("ceil", "ceil(number)"),
    ("coalesce", "coalesce(value, value, …)"),
    ("concat", "concat(value, value, …)"),
    ("contains", "contains(text, part)"),
    ("ends_with", "ends_with(text, end)"),
    ("epoch_ms", "epoch_ms(timestamp)"),
    ("epoch_ns", "epoch_ns(timestamp)"),
    ("epoch_s", "epoch_s(timestamp)"),
    ("epoch_us", "epoch_us(timestamp)"),
    ("extract", "extract('part', timestamp, 'zone')"),
    ("floor", "floor(number)"),
    ("format_timestamp", "format_timestamp(timestamp, 'pattern', 'zone')"),
    ("from_epoch_ms", "from_epoch_ms(int)"),
    ("from_epoch_ns", "from_epoch_ns(int)"),
    ("from_epoch_s", "from_epoch_s(int)"),
    ("from_epoch_us", "from_epoch_us(int)"),
    ("if", "if(condition, value, otherwise)"),
    ("length", "length(text)"),
    ("lower", "lower(text)"),
    ("nullif", "nullif(value, value)"),
    ("parse_timestamp", "parse_timestamp(text, 'format', 'zone')"),
    ("replace", "replace(text, part, by)"),
    ("round", "round(number, digits)"),
    ("starts_with", "starts_with(text, begin)"),
    ("substring", "substring(text, first, length)"),
    ("trim", "trim(text)"),
    ("truncate", "truncate('part', timestamp, 'zone')"),
    ("upper", "upper(text)"),
];

/// Other names of them, and two that belong to one of the functions above.
const ALIASES: [(&str, &str); 5] = [
    ("ceiling", "ceil"),
    ("date_part", "extract"),
    ("date_trunc", "truncate"),
    ("ltrim", "trim_start"),
    ("rtrim", "trim_end"),
];

/// Whether there is a function with this name.
pub(super) fn is_known(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let alias = ALIASES.iter().any(|(alias, of)| *alias == name || *of == name);
    alias || FUNCTIONS.iter().any(|(known, _)| *known == name)
}

impl Function {
    /// Whether it may fail for some rows.
    pub(super) fn may_fail(&self) -> bool {
        matches!(
            self,
            Self::Abs
                | Self::Round
                | Self::Truncate(..)
                | Self::ParseTimestamp(_)
                | Self::FormatTimestamp(..)
                | Self::Epoch(_)
                | Self::FromEpoch(_)
        )
    }

    /// Its value for `row`: null where an argument is, unless the function is about nulls.
    pub(super) fn call<'a>(
        &'a self,
        arguments: &'a [Expression],
        row: &'a Row,
        place: &Arc<Place>,
    ) -> Result<Cow<'a, Value>, Fault> {
        let value = |index: usize| match arguments.get(index) {
            Some(argument) => argument.value(row),
            None => Ok(Cow::Owned(Value::Null)),
        };
        match self {
            Self::Coalesce => {
                for argument in arguments {
                    let value = argument.value(row)?;
                    if !value.is_null() {
                        return Ok(value);
                    }
                }
                return Ok(Cow::Owned(Value::Null));
            }
            Self::If => {
                let condition = arguments.first().map_or(Ok(false), |condition| condition.holds(row))?;
                return value(if condition { 1 } else { 2 });
            }
            Self::NullIf => {
                let (first, other) = (value(0)?, value(1)?);
                let same = compare(&first, &other).is_some_and(|ordering| ordering.is_eq());
                return Ok(if same { Cow::Owned(Value::Null) } else { first });
            }
            Self::Concat => {
                let mut all = CompactString::default();
                for argument in arguments {
                    let value = argument.value(row)?;
                    if value.is_null() {
                        return Ok(Cow::Owned(Value::Null));
                    }
                    all.push_str(&cast::text(&value));
                }
                return Ok(Cow::Owned(Value::Text(all)));
            }
            _ => {}
        }
        let (first, second, third) = (value(0)?, value(1)?, value(2)?);
        let given = [&first, &second, &third];
        if given.into_iter().take(arguments.len()).any(|value| value.is_null()) {
            return Ok(Cow::Owned(Value::Null));
        }
        let computed = match &*first {
            Value::Text(text) => self.of_text(text, &second, &third),
            Value::Timestamp(moment) => self.of_time(*moment),
            // The part of a time comes before the time.
            number => self.of_number(number, &second),
        };
        computed.map(Cow::Owned).map_err(|reason| Fault::new(place, reason))
    }

    fn of_text(&self, text: &str, second: &Value, third: &Value) -> Result<Value, String> {
        let part = second.as_text().unwrap_or_default();
        let of = |text: &str| Ok(Value::text(text));
        match self {
            Self::Lower => Ok(Value::Text(CompactString::from_str_to_lowercase(text))),
            Self::Upper => Ok(Value::Text(CompactString::from_str_to_uppercase(text))),
            Self::Trim => of(text.trim()),
            Self::TrimStart => of(text.trim_start()),
            Self::TrimEnd => of(text.trim_end()),
            Self::Length => Ok(Value::Int(text.chars().count() as i64)),
            Self::Substring => of(substring(text, second, third)),
            Self::Contains => Ok(Value::Bool(text.contains(part))),
            Self::StartsWith => Ok(Value::Bool(text.starts_with(part))),
            Self::EndsWith => Ok(Value::Bool(text.ends_with(part))),
            Self::Replace if part.is_empty() => of(text),
            Self::Replace => of(&text.replace(part, third.as_text().unwrap_or_default())),
            Self::ParseTimestamp(format) => {
                let parsed = format.parse(text).map(Value::Timestamp);
                parsed.map_err(|expected| format!("{expected}; found {text:?}"))
            }
            Self::Truncate(part, zone) => match second {
                Value::Timestamp(moment) => time::truncate(*part, *moment, zone).map(Value::Timestamp),
                _ => Ok(Value::Null),
            },
            Self::Extract(part, zone) => match second {
                Value::Timestamp(moment) => Ok(time::extract(*part, *moment, zone)),
                _ => Ok(Value::Null),
            },
            _ => Ok(Value::Null),
        }
    }

    fn of_time(&self, moment: Moment) -> Result<Value, String> {
        match self {
            Self::FormatTimestamp(pattern, zone) => time::format(moment, pattern, zone),
            Self::Epoch(unit) => {
                let number = moment.as_nanos().div_euclid(*unit);
                arithmetic::as_kind(number, ColumnType::Int)
                    .ok_or_else(|| format!("{number} is no int of 64 bits"))
            }
            _ => Ok(Value::Null),
        }
    }

    fn of_number(&self, number: &Value, digits: &Value) -> Result<Value, String> {
        if let Self::FromEpoch(unit) = self {
            let nanos = super::integer(number).and_then(|number| number.checked_mul(*unit));
            let moment = nanos.and_then(Moment::from_nanos).map(Value::Timestamp);
            return moment.ok_or_else(|| format!("{number} is out of the range of timestamps"));
        }
        match (self, number) {
            (Self::Abs, Value::Float(v)) => Ok(Value::Float(v.abs())),
            (Self::Abs, Value::Int(v)) => v
                .checked_abs()
                .map(Value::Int)
                .ok_or_else(|| format!("{} is no int of 64 bits", v.unsigned_abs())),
            (Self::Floor, Value::Float(v)) => Ok(Value::Float(v.floor())),
            (Self::Ceil, Value::Float(v)) => Ok(Value::Float(v.ceil())),
            (Self::Round, number) => round(number, digits.as_int().unwrap_or(0)),
            // An integer has no decimal places.
            _ => Ok(number.clone()),
        }
    }
}

/// The characters from `first` on, which counts from 1; as in SQL, characters before the text count, too.
fn substring<'a>(text: &'a str, first: &Value, length: &Value) -> &'a str {
    let first = super::integer(first).unwrap_or(1);
    let end = super::integer(length).map_or(i128::MAX, |length| first + length.max(0));
    let skipped = usize::try_from(first - 1).unwrap_or(0);
    let behind = usize::try_from(end - 1).unwrap_or(if end < 1 { 0 } else { usize::MAX });
    let at = |count: usize| text.char_indices().nth(count).map_or(text.len(), |(at, _)| at);
    let (from, to) = (at(skipped), at(behind));
    text.get(from..to.max(from)).unwrap_or_default()
}

/// Rounded to so many decimal places, halves away from zero.
fn round(number: &Value, digits: i64) -> Result<Value, String> {
    let digits = digits.clamp(-400, 400) as i32;
    match number {
        Value::Float(v) if digits == 0 => Ok(Value::Float(v.round())),
        Value::Float(v) => {
            let scale = 10f64.powi(digits.abs());
            let rounded = if digits > 0 { (v * scale).round() / scale } else { (v / scale).round() * scale };
            // With so many digits there is nothing to round, or nothing is left.
            let nothing = if digits > 0 { *v } else { 0.0 };
            Ok(Value::Float(if rounded.is_finite() || !v.is_finite() { rounded } else { nothing }))
        }
        integer if digits >= 0 => Ok(integer.clone()),
        integer => {
            let Some(v) = super::integer(integer) else { return Ok(Value::Null) };
            let kind = if matches!(integer, Value::UInt(_)) { ColumnType::UInt } else { ColumnType::Int };
            let scale = 10i128.checked_pow(digits.unsigned_abs()).unwrap_or(i128::MAX);
            let rest = v % scale;
            let up = if rest.abs() >= scale - rest.abs() { scale * rest.signum() } else { 0 };
            let rounded = v - rest + up;
            arithmetic::as_kind(rounded, kind).ok_or_else(|| format!("{rounded} is no {kind} of 64 bits"))
        }
    }
}
