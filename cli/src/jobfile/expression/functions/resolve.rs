//! Which function a call means, and whether its arguments fit.

use jiff::tz::TimeZone;
use strandline_connectors::{ColumnType, Moment, TimeFormat, Value};

use super::super::Expression;
use super::super::time::{self, PARTS, Part};
use super::{ALIASES, Argument, FUNCTIONS, Function, Misfit, Resolved};

const TEXT: Option<ColumnType> = Some(ColumnType::Text);
const TIMESTAMP: Option<ColumnType> = Some(ColumnType::Timestamp);
const BOOL: Option<ColumnType> = Some(ColumnType::Bool);
const INT: Option<ColumnType> = Some(ColumnType::Int);

/// The function `name` with these arguments.
pub(in super::super) fn resolve(name: &str, arguments: &[Argument<'_>]) -> Result<Resolved, Misfit> {
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
