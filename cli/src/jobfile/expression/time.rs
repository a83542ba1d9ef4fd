//! Functions of points in time.

use compact_str::CompactString;
use jiff::Zoned;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use strandline_connectors::{Moment, Value};

/// What a time is cut to, or which part of it is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Year,
    Quarter,
    Month,
    /// The week of ISO 8601, which begins on Monday.
    Week,
    Day,
    /// 1 for Monday to 7 for Sunday.
    DayOfWeek,
    DayOfYear,
    Hour,
    Minute,
    Second,
    Millisecond,
}

/// All parts by name; those with `true` are units to which a time can be cut.
pub(super) const PARTS: [(&str, Part, bool); 11] = [
    ("year", Part::Year, true),
    ("quarter", Part::Quarter, true),
    ("month", Part::Month, true),
    ("week", Part::Week, true),
    ("day", Part::Day, true),
    ("day_of_week", Part::DayOfWeek, false),
    ("day_of_year", Part::DayOfYear, false),
    ("hour", Part::Hour, true),
    ("minute", Part::Minute, true),
    ("second", Part::Second, true),
    ("millisecond", Part::Millisecond, true),
];

/// The zone with this name.
pub(super) fn zone(name: &str) -> Result<TimeZone, String> {
    TimeZone::get(name).map_err(|e| format!("the time zone {name:?} is not known: {e}"))
}

fn in_zone(moment: Moment, zone: &TimeZone) -> Zoned {
    moment.to_jiff().to_zoned(zone.clone())
}

/// The beginning of the year, day, hour, … in which `moment` lies.
pub(super) fn truncate(part: Part, moment: Moment, zone: &TimeZone) -> Result<Moment, String> {
    let nanos = |unit: i128| Moment::from_nanos(moment.as_nanos().div_euclid(unit) * unit);
    // All zones of today have whole minutes; within an hour a zone changes nothing.
    let cut = match part {
        Part::Millisecond => nanos(1_000_000),
        Part::Second => nanos(1_000_000_000),
        Part::Minute => nanos(60_000_000_000),
        Part::Hour if *zone == TimeZone::UTC => nanos(3_600_000_000_000),
        Part::Day if *zone == TimeZone::UTC => nanos(86_400_000_000_000),
        _ => calendar(part, moment, zone),
    };
    cut.ok_or_else(|| format!("{moment} is too near to the end of time"))
}

fn calendar(part: Part, moment: Moment, zone: &TimeZone) -> Option<Moment> {
    let local = in_zone(moment, zone);
    if part == Part::Hour {
        // The offset stays: an hour that occurs twice is two hours.
        let past = i128::from(local.minute()) * 60 + i128::from(local.second());
        let past = past * 1_000_000_000 + i128::from(local.subsec_nanosecond());
        return Moment::from_nanos(moment.as_nanos() - past);
    }
    let date = local.date();
    let first = match part {
        Part::Year => Date::new(date.year(), 1, 1).ok()?,
        Part::Quarter => Date::new(date.year(), (date.month() - 1) / 3 * 3 + 1, 1).ok()?,
        Part::Month => date.first_of_month(),
        Part::Week => {
            let past = i64::from(date.weekday().to_monday_zero_offset());
            date.checked_sub(jiff::Span::new().days(past)).ok()?
        }
        _ => date,
    };
    let begin = zone.to_zoned(first.at(0, 0, 0, 0)).ok()?;
    Some(Moment::from(begin.timestamp()))
}

/// A part of the time that clocks in `zone` show at `moment`.
pub(super) fn extract(part: Part, moment: Moment, zone: &TimeZone) -> Value {
    let local = in_zone(moment, zone);
    Value::Int(match part {
        Part::Year => i64::from(local.year()),
        Part::Quarter => i64::from((local.month() - 1) / 3 + 1),
        Part::Month => i64::from(local.month()),
        Part::Week => i64::from(local.date().iso_week_date().week()),
        Part::Day => i64::from(local.day()),
        Part::DayOfWeek => i64::from(local.weekday().to_monday_one_offset()),
        Part::DayOfYear => i64::from(local.day_of_year()),
        Part::Hour => i64::from(local.hour()),
        Part::Minute => i64::from(local.minute()),
        Part::Second => i64::from(local.second()),
        Part::Millisecond => i64::from(local.subsec_nanosecond() / 1_000_000),
    })
}

/// `moment` by a pattern of `strftime`.
pub(super) fn format(moment: Moment, pattern: &str, zone: &TimeZone) -> Result<Value, String> {
    let text = jiff::fmt::strtime::format(pattern, &in_zone(moment, zone));
    text.map(|text| Value::Text(CompactString::from(text))).map_err(|e| e.to_string())
}
