//! The windows of groups and joins.

use super::problem::Problem;
use super::section::{self, Section};
use super::tree::Node;

/// Windows of time or of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Windows {
    pub(crate) shape: Shape,
    /// How much later than at multiples of their length or slide they begin, in milliseconds.
    pub(crate) offset: i64,
}

/// The shape of windows; times are in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Tumbling(i64),
    Sliding {
        size: i64,
        slide: i64,
    },
    Session {
        gap: i64,
    },
    /// Each row has its gap in this column.
    SessionBy {
        column: usize,
    },
    Rows {
        size: u64,
        slide: u64,
    },
}

/// The greatest gap of a session that a row may have, in milliseconds: about a hundred years.
pub(crate) const GREATEST_GAP: i64 = 100 * 366 * 24 * 3600 * 1000;

/// The length of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    Millis(i64),
    Rows(u64),
}

impl Windows {
    /// Whether they are windows of time, with borders.
    pub(crate) fn are_of_time(self) -> bool {
        !matches!(self.shape, Shape::Rows { .. })
    }

    /// How far their borders may be from the time of a row, in milliseconds.
    pub(crate) fn reach(self) -> i64 {
        match self.shape {
            Shape::Tumbling(size) | Shape::Sliding { size, .. } => size.saturating_add(self.offset),
            Shape::Session { gap } => gap,
            Shape::SessionBy { .. } => GREATEST_GAP,
            Shape::Rows { .. } => 0,
        }
    }
}

impl std::fmt::Display for Windows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.shape {
            Shape::Tumbling(size) => write!(f, "{size} ms")?,
            Shape::Sliding { size, slide } => write!(f, "{size} ms each {slide} ms")?,
            Shape::Session { gap } => write!(f, "sessions of {gap} ms")?,
            Shape::SessionBy { column } => write!(f, "sessions by column {column}")?,
            Shape::Rows { size, slide } => write!(f, "{size} rows each {slide} rows")?,
        }
        if self.offset > 0 {
            write!(f, " from {} ms", self.offset)?;
        }
        Ok(())
    }
}

/// Whether a section has windows, right or wrong.
pub(super) fn are_in(section: &Section<'_>) -> bool {
    section.has("window") || section.has("session") || has_gaps(section)
}

/// Whether rows have the gaps of sessions themselves; joins have no such key.
fn has_gaps(section: &Section<'_>) -> bool {
    section.declares_and_has("session_by")
}

/// Reads the windows of a section. `why_not` is advice where rows have no times by which there could be windows,
/// `gaps` the column of `session_by`.
pub(super) fn parse(section: &Section<'_>, why_not: Option<&str>, gaps: Option<usize>) -> Option<Windows> {
    let problems = section.problems;
    let length = |key| section.get(key).and_then(|node| problems.ok(length(node, key, why_not)));
    let (size, slide) = (length("window"), length("slide"));
    let gap =
        section.get("session").and_then(|node| problems.ok(time(node, "the gap of a session", why_not)));
    let wrong = |key: &str, message: &str, label: &str| {
        problems.add(Problem::new(section.location_of(key), message, label));
    };
    let has = |key| section.declares_and_has(key);
    for [session, other] in [["session", "window"], ["session_by", "window"], ["session", "session_by"]] {
        if has(session) && has(other) {
            let label = format!("leave out either `{session}` or `{other}`");
            wrong(session, "a session lasts as long as rows come", &label);
        }
    }
    if !has("window") {
        check_alone(section);
    }
    let shape = match (size, slide, gap) {
        _ if has("session") => Shape::Session { gap: gap? },
        _ if has("session_by") => {
            let (node, column) = (section.get("session_by")?, gaps?);
            if let Some(why_not) = why_not {
                problems.add(Problem::new(&node.location, "a window needs event times", why_not));
            }
            Shape::SessionBy { column }
        }
        (Some(Length::Millis(size)), None, _) if !has("slide") => Shape::Tumbling(size),
        (Some(Length::Millis(size)), Some(Length::Millis(slide)), _) if slide == size => {
            Shape::Tumbling(size)
        }
        (Some(Length::Millis(size)), Some(Length::Millis(slide)), _) if slide < size => {
            Shape::Sliding { size, slide }
        }
        (Some(Length::Rows(size)), None, _) if !has("slide") => Shape::Rows { size, slide: size },
        (Some(Length::Rows(size)), Some(Length::Rows(slide)), _) if slide <= size => {
            Shape::Rows { size, slide }
        }
        (Some(Length::Millis(_)), Some(Length::Rows(_)), _)
        | (Some(Length::Rows(_)), Some(Length::Millis(_)), _) => {
            wrong("slide", "windows and their slide are both times or both rows", "expected the other one");
            return None;
        }
        (Some(_), Some(_), _) => {
            let label = "expected at most the length of `window`; a filter leaves out rows between windows";
            wrong("slide", "windows that slide by more than their length would lose rows", label);
            return None;
        }
        _ => return None,
    };
    let offset = offset(section, shape)?;
    Some(Windows { shape, offset })
}

/// Notes what belongs to a `window` that is not there.
pub(super) fn check_alone(section: &Section<'_>) {
    for key in ["slide", "offset"] {
        let Some(node) = section.get(key) else { continue };
        if key == "offset"
            && (section.has("session")
                || has_gaps(section)
                || section.duration(key).is_none_or(|offset| offset.is_zero()))
        {
            continue;
        }
        let label = "expected `window = \"…\"` beside it";
        section.problems.add(Problem::new(
            &node.location,
            format!("`{key}` is for windows of some length"),
            label,
        ));
    }
}

fn offset(section: &Section<'_>, shape: Shape) -> Option<i64> {
    let Some(node) = section.get("offset") else { return Some(0) };
    let offset = i64::try_from(section.duration("offset")?.as_millis()).unwrap_or(i64::MAX);
    match shape {
        _ if offset == 0 => Some(0),
        Shape::Tumbling(step) | Shape::Sliding { slide: step, .. } if offset < step => Some(offset),
        Shape::Tumbling(_) | Shape::Sliding { .. } => {
            let label = "expected less than the time from one window to the next";
            section.problems.add(Problem::new(&node.location, "this offset leaves out a window", label));
            None
        }
        Shape::Session { .. } | Shape::SessionBy { .. } | Shape::Rows { .. } => {
            let label = "leave this out: they begin with their first row";
            let message = "sessions and windows of rows have no offset";
            section.problems.add(Problem::new(&node.location, message, label));
            None
        }
    }
}

/// A time, or a number of rows.
fn length(node: &Node, key: &str, why_not: Option<&str>) -> Result<Length, Problem> {
    let text = section::text(node).unwrap_or_default().trim_end();
    let number = text.strip_suffix("rows").or_else(|| text.strip_suffix("row"));
    let Some(number) = number else {
        return time(node, if key == "slide" { "a slide" } else { "a window" }, why_not).map(Length::Millis);
    };
    match number.trim().parse() {
        Ok(rows @ 1..) => Ok(Length::Rows(rows)),
        _ => Err(node.unexpected("a number of rows, for example \"100 rows\"")),
    }
}

fn time(node: &Node, what: &str, why_not: Option<&str>) -> Result<i64, Problem> {
    let millis = section::millis(node, what)?;
    match why_not {
        None => Ok(millis),
        Some(why_not) => Err(Problem::new(&node.location, "a window needs event times", why_not)),
    }
}
