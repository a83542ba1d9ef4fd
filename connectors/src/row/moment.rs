//! Points in time, and the forms in which inputs have them.

use std::fmt;

use jiff::fmt::strtime::BrokenDownTime;
use jiff::fmt::temporal::DateTimeParser;
use jiff::tz::TimeZone;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use strandline_state_api::Timestamp;

/// A point in time, with nanoseconds, from the year -9999 to 9999. It prints as RFC 3339 has it, in UTC
/// (`2026-01-02T03:04:05.5Z`), with as many digits of the second as it needs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Moment(jiff::Timestamp);

impl Moment {
    /// So many nanoseconds since the Unix epoch; `None` out of its range.
    pub fn from_nanos(nanos: i128) -> Option<Self> {
        jiff::Timestamp::from_nanosecond(nanos).ok().map(Self)
    }

    /// Nanoseconds since the Unix epoch.
    pub fn as_nanos(self) -> i128 {
        self.0.as_nanosecond()
    }

    /// Milliseconds since the Unix epoch, rounded down, as event times are.
    #[inline]
    pub fn as_millis(self) -> i64 {
        // In range: the years 9999 in milliseconds are less than 48 bits.
        self.as_nanos().div_euclid(1_000_000) as i64
    }

    /// The event time.
    #[inline]
    pub fn timestamp(self) -> Option<Timestamp> {
        Timestamp::from_stored(self.as_millis())
    }

    /// The same point in time, for calculations with calendars.
    pub fn to_jiff(self) -> jiff::Timestamp {
        self.0
    }
}

impl From<jiff::Timestamp> for Moment {
    fn from(moment: jiff::Timestamp) -> Self {
        Self(moment)
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The stored form: whole seconds since the epoch and nanoseconds, both with the sign of the whole.
impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.0.as_second(), self.0.subsec_nanosecond()).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (seconds, nanos) = Deserialize::deserialize(deserializer)?;
        jiff::Timestamp::new(seconds, nanos).map(Self).map_err(de::Error::custom)
    }
}

/// How an input writes points in time.
#[derive(Clone, Debug, PartialEq)]
pub struct TimeFormat(Form);

#[derive(Clone, Debug, PartialEq)]
enum Form {
    /// ISO 8601, in this zone where the text has none.
    Iso(TimeZone),
    /// So many of these since the Unix epoch: how many nanoseconds one has.
    Unix { unit: &'static str, nanos: i128, digits: usize },
    /// A pattern of `strftime`, in this zone where it has none.
    Pattern(String, TimeZone),
}

impl Default for TimeFormat {
    /// ISO 8601, in UTC where the text has no zone.
    fn default() -> Self {
        Self(Form::Iso(TimeZone::UTC))
    }
}

/// The units of numbers: the name, the nanoseconds of one, and the decimal places of it.
const UNITS: [(&str, i128, usize); 4] =
    [("s", 1_000_000_000, 9), ("ms", 1_000_000, 6), ("us", 1_000, 3), ("ns", 1, 0)];

impl TimeFormat {
    /// The format with this name: `iso`; `s`, `ms`, `us` or `ns` since the Unix epoch; or a pattern of
    /// `strftime` with `%`, such as `%d/%b/%Y:%H:%M:%S %z`.
    ///
    /// `zone` (an IANA name, such as `Europe/Berlin`) is that of texts without an offset of their own; it is
    /// UTC otherwise. Where clocks are set back and a local time occurs twice, it is the first one; where
    /// they are put forward and it does not occur, it counts on from before.
    ///
    /// # Errors
    /// What is wrong with the name or the zone, as one sentence.
    pub fn new(format: &str, zone: Option<&str>) -> Result<Self, String> {
        let numbers = UNITS.iter().find(|(unit, ..)| *unit == format);
        if let Some(&(unit, nanos, digits)) = numbers {
            return match zone {
                None => Ok(Self(Form::Unix { unit, nanos, digits })),
                Some(_) => Err(format!("a number of {unit} since the epoch has no time zone")),
            };
        }
        let zone = match zone {
            None => TimeZone::UTC,
            Some(name) => {
                TimeZone::get(name).map_err(|e| format!("the time zone {name:?} is not known: {e}"))?
            }
        };
        match format {
            "iso" => Ok(Self(Form::Iso(zone))),
            pattern if pattern.contains('%') => {
                // A wrong directive is found without a text that fits.
                if let Err(e) = jiff::fmt::strtime::format(pattern, &jiff::Zoned::default()) {
                    return Err(format!("the pattern {pattern:?} is none of strftime: {e}"));
                }
                Ok(Self(Form::Pattern(pattern.to_owned(), zone)))
            }
            other => Err(format!(
                "{other:?} is no format of time: expected iso, s, ms, us, ns, or a pattern with %, such as \
                 %Y-%m-%d %H:%M:%S"
            )),
        }
    }

    /// Reads a text.
    ///
    /// # Errors
    /// What was expected, in words.
    pub fn parse(&self, text: &str) -> Result<Moment, String> {
        let parsed = match &self.0 {
            Form::Iso(zone) => iso(text, zone),
            Form::Unix { nanos, digits, .. } => {
                return decimal(text, *nanos, *digits)
                    .and_then(Moment::from_nanos)
                    .ok_or_else(|| self.expected());
            }
            Form::Pattern(pattern, zone) => by_pattern(pattern, text, zone),
        };
        parsed.map(Moment).map_err(|e| format!("{}: {e}", self.expected()))
    }

    /// Reads a number; `None` where the format is one of text, or the time out of range.
    pub fn parse_number(&self, number: i128) -> Option<Moment> {
        match &self.0 {
            Form::Unix { nanos, .. } => number.checked_mul(*nanos).and_then(Moment::from_nanos),
            Form::Iso(_) | Form::Pattern(..) => None,
        }
    }

    /// Whether the format is one of numbers.
    pub fn is_number(&self) -> bool {
        matches!(self.0, Form::Unix { .. })
    }

    /// What a text must be.
    pub fn expected(&self) -> String {
        match &self.0 {
            Form::Iso(_) => "expected a timestamp as ISO 8601, such as 2026-01-02T03:04:05Z".to_owned(),
            Form::Unix { unit, .. } => format!("expected a timestamp as a number of {unit} since 1970"),
            Form::Pattern(pattern, _) => format!("expected a timestamp as {pattern}"),
        }
    }
}

fn iso(text: &str, zone: &TimeZone) -> Result<jiff::Timestamp, jiff::Error> {
    static PARSER: DateTimeParser = DateTimeParser::new();
    if let Ok(timestamp) = PARSER.parse_timestamp(text) {
        return Ok(timestamp);
    }
    // Without an offset, or a date alone.
    zone.to_timestamp(PARSER.parse_datetime(text)?)
}

fn by_pattern(pattern: &str, text: &str, zone: &TimeZone) -> Result<jiff::Timestamp, jiff::Error> {
    let parsed = BrokenDownTime::parse(pattern, text)?;
    if let Ok(timestamp) = parsed.to_timestamp() {
        return Ok(timestamp);
    }
    match parsed.to_datetime() {
        Ok(datetime) => zone.to_timestamp(datetime),
        // A date alone is its midnight.
        Err(_) => zone.to_timestamp(parsed.to_date()?.at(0, 0, 0, 0)),
    }
}

/// A decimal number in units of `nanos` nanoseconds, which has at most `digits` decimal places.
fn decimal(text: &str, nanos: i128, digits: usize) -> Option<i128> {
    let (negative, number) = match text.strip_prefix('-') {
        Some(number) => (true, number),
        None => (false, text),
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let all_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let part = if digits == 0 { part } else { part.trim_end_matches('0') };
    let part_fits = part.len() <= digits && (part.is_empty() || all_digits(part));
    if !all_digits(whole) || !(part_fits || part == "0") {
        return None;
    }
    let scale = 10i128.checked_pow(part.len() as u32)?;
    let part = if part.is_empty() { 0 } else { part.parse::<i128>().ok()?.checked_mul(nanos)? / scale };
    let sum = whole.parse::<i128>().ok()?.checked_mul(nanos)?.checked_add(part)?;
    Some(if negative { -sum } else { sum })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(format: &str, zone: Option<&str>, text: &str) -> Result<String, String> {
        TimeFormat::new(format, zone)?.parse(text).map(|moment| moment.to_string())
    }

    #[test]
    fn forms_of_time_are_read() {
        for (format, zone, text, wanted) in [
            ("iso", None, "2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z"),
            ("iso", None, "2026-01-02 03:04:05.120+02:00", "2026-01-02T01:04:05.12Z"),
            ("iso", None, "2026-01-02T03:04", "2026-01-02T03:04:00Z"),
            ("iso", None, "20260102T030405Z", "2026-01-02T03:04:05Z"),
            ("iso", None, "2026-01-02", "2026-01-02T00:00:00Z"),
            ("iso", Some("Europe/Berlin"), "2026-07-02T03:04:05", "2026-07-02T01:04:05Z"),
            ("iso", Some("Europe/Berlin"), "2026-10-25T02:30:00", "2026-10-25T00:30:00Z"),
            ("iso", Some("Europe/Berlin"), "2026-07-02T03:04:05Z", "2026-07-02T03:04:05Z"),
            ("s", None, "1767322800", "2026-01-02T03:00:00Z"),
            ("s", None, "-0.5", "1969-12-31T23:59:59.5Z"),
            ("s", None, "1.000000001", "1970-01-01T00:00:01.000000001Z"),
            ("ms", None, "1767322800123", "2026-01-02T03:00:00.123Z"),
            ("us", None, "1767322800123456", "2026-01-02T03:00:00.123456Z"),
            ("ns", None, "1767322800123456789", "2026-01-02T03:00:00.123456789Z"),
            ("%d/%b/%Y:%H:%M:%S %z", None, "02/Jan/2026:03:04:05 +0100", "2026-01-02T02:04:05Z"),
            ("%d.%m.%Y %H:%M", Some("Europe/Berlin"), "02.01.2026 03:04", "2026-01-02T02:04:00Z"),
            ("%d.%m.%Y", None, "02.01.2026", "2026-01-02T00:00:00Z"),
            ("%Y-%m-%d %H:%M:%S%.f", None, "2026-01-02 03:04:05.25", "2026-01-02T03:04:05.25Z"),
        ] {
            assert_eq!(read(format, zone, text).as_deref(), Ok(wanted), "{format} {text}");
        }
        for (format, text) in [
            ("iso", "2026-13-02T03:04:05Z"),
            ("iso", "2026-02-30"),
            ("iso", "1767322800"),
            ("iso", ""),
            ("s", "1e9"),
            ("s", "99999999999999"),
            ("s", "1.0000000001"),
            ("ms", "x"),
            ("ns", "1.5"),
            ("%d.%m.%Y", "2026-01-02"),
        ] {
            let error = read(format, None, text).unwrap_err();
            assert!(error.starts_with("expected a timestamp as"), "{format} {text}: {error}");
        }
        for (format, zone) in
            [("iso8601", None), ("%!", None), ("iso", Some("Mars/Base")), ("ms", Some("UTC"))]
        {
            assert!(TimeFormat::new(format, zone).is_err(), "{format}");
        }
    }

    proptest! {
        #[test]
        fn a_moment_comes_back_from_its_text_and_its_stored_form(
            nanos in -377_705_023_201_000_000_000i128..=253_402_207_200_999_999_999,
        ) {
            let moment = Moment::from_nanos(nanos).unwrap();
            prop_assert_eq!(moment.as_nanos(), nanos);
            prop_assert_eq!(TimeFormat::default().parse(&moment.to_string()), Ok(moment));
            let ns = TimeFormat::new("ns", None).unwrap();
            prop_assert_eq!(ns.parse(&nanos.to_string()), Ok(moment));
            let seconds = TimeFormat::new("s", None).unwrap();
            let text = format!("{}{}.{:09}", if nanos < 0 { "-" } else { "" },
                nanos.abs() / 1_000_000_000, nanos.abs() % 1_000_000_000);
            prop_assert_eq!(seconds.parse(&text), Ok(moment));
            prop_assert_eq!(moment.as_millis(), nanos.div_euclid(1_000_000) as i64);
        }
    }
}
