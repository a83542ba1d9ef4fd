//! The functions of expressions.

use std::borrow::Cow;
use std::sync::Arc;

use compact_str::CompactString;
use jiff::tz::TimeZone;
use strandline_connectors::{ColumnType, Moment, Row, TimeFormat, Value};

use super::time::{self, PARTS, Part};
use super::{Expression, Fault, Place, arithmetic, cast, compare};

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
pub(super) const FUNCTIONS: [(&str, &str); 29] = [
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

const TEXT: Option<ColumnType> = Some(ColumnType::Text);
const TIMESTAMP: Option<ColumnType> = Some(ColumnType::Timestamp);
const BOOL: Option<ColumnType> = Some(ColumnType::Bool);
const INT: Option<ColumnType> = Some(ColumnType::Int);

/// Whether there is a function with this name.
pub(super) fn is_known(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let alias = ALIASES.iter().any(|(alias, of)| *alias == name || *of == name);
    alias || FUNCTIONS.iter().any(|(known, _)| *known == name)
}

/// The function `name` with these arguments.
pub(super) fn resolve(name: &str, arguments: &[Argument<'_>]) -> Result<Resolved, Misfit> {
    let lower = name.to_ascii_lowercase();
    let name = ALIASES.iter().find(|(alias, _)| *alias == lower).map_or(lower.as_str(), |(_, of)| of);
    let call = Call { name, arguments };
    let nullable = arguments.iter().any(|argument| argument.nullable);
    let done = |function, kind| Ok(Resolved { function, kind, nullable, values: arguments.len() });
    let texts = |count: usize, function, kind| {
        call.count(count, count)?;
        (0..count).try_for_each(|i| call.is(i, ColumnType::Text))?;
        done(function, kind)
    };
    match name {
        "lower" => texts(1, Function::Lower, TEXT),
        "upper" => texts(1, Function::Upper, TEXT),
        "trim" => texts(1, Function::Trim, TEXT),
        "trim_start" => texts(1, Function::TrimStart, TEXT),
        "trim_end" => texts(1, Function::TrimEnd, TEXT),
        "length" => texts(1, Function::Length, INT),
        "contains" => texts(2, Function::Contains, BOOL),
        "starts_with" => texts(2, Function::StartsWith, BOOL),
        "ends_with" => texts(2, Function::EndsWith, BOOL),
        "replace" => texts(3, Function::Replace, TEXT),
        "substring" => {
            call.count(2, 3)?;
            call.is(0, ColumnType::Text)?;
            (1..arguments.len()).try_for_each(|i| call.is_integer(i))?;
            done(Function::Substring, TEXT)
        }
        "concat" => {
            call.count(1, usize::MAX)?;
            done(Function::Concat, TEXT)
        }
        "coalesce" => {
            call.count(1, usize::MAX)?;
            let kind = call.common(0)?;
            let nullable = arguments.iter().all(|argument| argument.nullable);
            Ok(Resolved { function: Function::Coalesce, kind, nullable, values: arguments.len() })
        }
        "if" => {
            call.count(3, 3)?;
            call.is(0, ColumnType::Bool)?;
            let kind = call.common(1)?;
            let nullable = arguments.iter().skip(1).any(|argument| argument.nullable);
            Ok(Resolved { function: Function::If, kind, nullable, values: 3 })
        }
        "nullif" => {
            call.count(2, 2)?;
            let kind = call.common(0)?;
            Ok(Resolved { function: Function::NullIf, kind, nullable: true, values: 2 })
        }
        "abs" | "floor" | "ceil" => {
            call.count(1, 1)?;
            call.is_number(0)?;
            let function = match name {
                "abs" => Function::Abs,
                "floor" => Function::Floor,
                _ => Function::Ceil,
            };
            done(function, call.kind(0))
        }
        "round" => {
            call.count(1, 2)?;
            call.is_number(0)?;
            if arguments.len() == 2 {
                call.is_integer(1)?;
            }
            done(Function::Round, call.kind(0))
        }
        "truncate" | "extract" => {
            call.count(2, 3)?;
            let cuts = name == "truncate";
            let part = call.part(cuts)?;
            call.is(1, ColumnType::Timestamp)?;
            let zone = call.zone(2)?;
            let function = if cuts { Function::Truncate(part, zone) } else { Function::Extract(part, zone) };
            let kind = if cuts { TIMESTAMP } else { INT };
            Ok(Resolved { function, kind, nullable: call.nullable(1), values: 2 })
        }
        "parse_timestamp" => {
            call.count(1, 3)?;
            call.is(0, ColumnType::Text)?;
            let format = if arguments.len() > 1 { call.literal(1)? } else { "iso" };
            let zone = if arguments.len() > 2 { Some(call.literal(2)?) } else { None };
            let format = TimeFormat::new(format, zone).map_err(|wrong| (1, wrong))?;
            let function = Function::ParseTimestamp(format);
            Ok(Resolved { function, kind: TIMESTAMP, nullable: call.nullable(0), values: 1 })
        }
        "format_timestamp" => {
            call.count(2, 3)?;
            call.is(0, ColumnType::Timestamp)?;
            let (pattern, zone) = (call.literal(1)?, call.zone(2)?);
            time::format(Moment::default(), pattern, &zone)
                .map_err(|wrong| (1, format!("{pattern:?} is no pattern of strftime: {wrong}")))?;
            let function = Function::FormatTimestamp(pattern.to_owned(), zone);
            Ok(Resolved { function, kind: TEXT, nullable: call.nullable(0), values: 1 })
        }
        epoch => {
            call.count(1, 1)?;
            let unit = match epoch.rsplit_once('_').map_or("", |(_, unit)| unit) {
                "s" => 1_000_000_000,
                "ms" => 1_000_000,
                "us" => 1_000,
                _ => 1,
            };
            if epoch.starts_with("from_") {
                call.is_integer(0)?;
                return done(Function::FromEpoch(unit), TIMESTAMP);
            }
            call.is(0, ColumnType::Timestamp)?;
            done(Function::Epoch(unit), INT)
        }
    }
}

/// A call that is being checked.
struct Call<'a> {
    name: &'a str,
    arguments: &'a [Argument<'a>],
}

impl Call<'_> {
    fn kind(&self, index: usize) -> Option<ColumnType> {
        self.arguments.get(index).and_then(|argument| argument.kind)
    }

    fn nullable(&self, index: usize) -> bool {
        self.arguments.get(index).is_none_or(|argument| argument.nullable)
    }

    fn count(&self, least: usize, most: usize) -> Result<(), Misfit> {
        let found = self.arguments.len();
        if (least..=most).contains(&found) {
            return Ok(());
        }
        let usage =
            FUNCTIONS.iter().find(|(name, _)| *name == self.name).map_or(self.name, |(_, usage)| usage);
        Err((most.min(found), format!("expected `{usage}`, found {found} arguments")))
    }

    /// Null fits everywhere.
    fn fits(&self, index: usize, what: &str, fits: impl Fn(ColumnType) -> bool) -> Result<(), Misfit> {
        match self.kind(index) {
            Some(kind) if !fits(kind) => {
                Err((index, format!("`{}` needs {what} here, and this is {kind}", self.name)))
            }
            _ => Ok(()),
        }
    }

    fn is(&self, index: usize, wanted: ColumnType) -> Result<(), Misfit> {
        self.fits(index, wanted.name(), |kind| kind == wanted)
    }

    fn is_integer(&self, index: usize) -> Result<(), Misfit> {
        self.fits(index, "an integer", |kind| matches!(kind, ColumnType::Int | ColumnType::UInt))
    }

    fn is_number(&self, index: usize) -> Result<(), Misfit> {
        self.fits(index, "a number", ColumnType::is_number)
    }

    /// The one type of the arguments from `first` on.
    fn common(&self, first: usize) -> Result<Option<ColumnType>, Misfit> {
        let mut common = None;
        for index in first..self.arguments.len() {
            match (common, self.kind(index)) {
                (None, kind) => common = kind,
                (Some(before), Some(kind)) if before != kind => {
                    let message = format!(
                        "the values of `{}` are of one type: {before} before, and this is {kind}",
                        self.name
                    );
                    return Err((index, message));
                }
                _ => {}
            }
        }
        Ok(common)
    }

    /// A text that is part of the job.
    fn literal(&self, index: usize) -> Result<&str, Misfit> {
        match self.arguments.get(index).map(|argument| argument.expression) {
            Some(Expression::Literal(Value::Text(text))) => Ok(text),
            _ => Err((index, format!("`{}` needs a 'text' here that is the same for all rows", self.name))),
        }
    }

    fn zone(&self, index: usize) -> Result<TimeZone, Misfit> {
        if self.arguments.len() <= index {
            return Ok(TimeZone::UTC);
        }
        time::zone(self.literal(index)?).map_err(|wrong| (index, wrong))
    }

    fn part(&self, cuts: bool) -> Result<Part, Misfit> {
        let name = self.literal(0)?;
        let mut parts = PARTS.iter().filter(|(.., unit)| *unit || !cuts);
        match parts.clone().find(|(known, ..)| known.eq_ignore_ascii_case(name)) {
            Some((_, part, _)) => Ok(*part),
            None => {
                let first = parts.next().map_or("", |(name, ..)| name);
                let known = parts.fold(first.to_owned(), |known, (name, ..)| known + ", " + name);
                Err((0, format!("a time has no part {name:?} for `{}`; its parts are {known}", self.name)))
            }
        }
    }
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
