//! The step `key_by`: groups of rows, and what is computed of each.

use strandline_connectors::{Column, ColumnType};

use super::aggregate::{self, Aggregate, Function};
use super::columns::Columns;
use super::expression::Tokens;
use super::problem::Problem;
use super::section::{self, Section};
use super::step::{Step, StepParser};
use super::stream::Stream;
use super::tree::Node;
use super::windows::{self, Windows};

/// Rows grouped by key, and perhaps by windows.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    /// The operator id, by which a resumed job finds its state.
    pub(crate) id: String,
    /// The key columns.
    pub(crate) keys: Vec<(usize, Column)>,
    /// Whether the borders of windows are timestamps, as the event time is, and not milliseconds.
    pub(crate) moments: bool,
    /// The columns of the rows that it groups.
    pub(crate) input: Vec<Column>,
    /// Whether rows that come after their window has closed go to a sink of their own.
    pub(crate) keeps_late: bool,
    pub(crate) computes: Computes,
    pub(crate) windows: Option<Windows>,
    pub(crate) firing: Firing,
    pub(crate) emit: Emit,
}

/// What is computed of a group.
#[derive(Clone, Debug)]
pub(crate) enum Computes {
    Aggregates(Vec<Aggregate>),
    Top(Top),
}

/// The rows with the greatest values.
#[derive(Clone, Debug)]
pub(crate) struct Top {
    pub(crate) n: usize,
    /// The columns that decide, each with whether the least counts as the greatest.
    pub(crate) by: Vec<(usize, Column, bool)>,
    /// The columns that are no key, which stand behind those of the key.
    pub(crate) rest: Vec<usize>,
}

/// When groups emit besides at their end, and which time counts. Times are in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Firing {
    pub(crate) in_processing_time: bool,
    pub(crate) lateness: i64,
    pub(crate) every: Option<i64>,
    pub(crate) rows: Option<u64>,
    /// Whether a window forgets its rows when it emits.
    pub(crate) purging: bool,
}

/// When a group emits its results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Emit {
    /// After each change.
    Changes,
    /// When the input ends, or the window closes.
    End,
}

impl Firing {
    pub(crate) fn is_early(&self) -> bool {
        self.every.is_some() || self.rows.is_some()
    }

    /// Whether a window may emit several times.
    pub(crate) fn is_repeated(&self) -> bool {
        self.is_early() || self.lateness > 0
    }
}

impl Group {
    /// Its aggregates; none where it keeps the top rows.
    pub(crate) fn aggregates(&self) -> &[Aggregate] {
        match &self.computes {
            Computes::Aggregates(aggregates) => aggregates,
            Computes::Top(_) => &[],
        }
    }

    /// Whether the group counts rows, and computes nothing else and has no windows.
    pub(crate) fn counts_only(&self) -> bool {
        let [only] = self.aggregates() else { return false };
        self.is_plain() && self.windows.is_none() && only.function == Function::Count && only.column.is_none()
    }

    /// Whether it aggregates all rows of a key, or those of tumbling windows, and emits once or after each
    /// row. Such groups have an operator of their own: they were first, and checkpoints have their state.
    pub(crate) fn is_plain(&self) -> bool {
        let plain = |windows: &Windows| windows.offset == 0 && self.tumbling_ms().is_some();
        matches!(self.computes, Computes::Aggregates(_))
            && self.firing == Firing::default()
            && self.windows.as_ref().is_none_or(plain)
    }

    /// The size of tumbling windows in milliseconds.
    pub(crate) fn tumbling_ms(&self) -> Option<i64> {
        match self.windows?.shape {
            windows::Shape::Tumbling(size) => Some(size),
            _ => None,
        }
    }

    /// Whether rows may come after their window has closed.
    pub(crate) fn may_be_late(&self) -> bool {
        self.windows.is_some_and(Windows::are_of_time) && !self.firing.in_processing_time
    }
}

/// The keys that make a group emit before its end.
const EARLY: [&str; 2] = ["emit_every", "emit_rows"];

/// Whether a section has one of these keys, right or wrong.
fn early_keys(section: &Section<'_>) -> bool {
    EARLY.into_iter().any(|key| section.has(key))
}

impl StepParser<'_> {
    pub(super) fn group(&self, section: &Section<'_>, id: Option<String>) -> (Option<Step>, Stream) {
        let mut columns = Columns::default();
        let none = ("this group has no key", "expected at least one column");
        let keys = self.each(section, "key_by", none, &mut columns, |item, text| {
            let (index, column) = self.column(item, text)?;
            Ok(((index, column.clone()), column))
        });
        let in_processing_time = section.word("time") == Some("processing");
        let timeless = !self.stream.timed && !in_processing_time;
        let why_not = timeless.then_some(
            "expected `event_time = \"column\"` in [source], and no earlier step that emits at the end",
        );
        let windows = windows::parse(section, why_not, self.gaps(section));
        let firing = self.firing(section, windows.as_ref(), in_processing_time);
        if let (true, Some(node)) = (windows::are_in(section), section.get("key_by"))
            && windows.is_none_or(Windows::are_of_time)
        {
            let kind = if self.stream.moments { ColumnType::Timestamp } else { ColumnType::Int };
            for name in ["window_start", "window_end"] {
                self.push(&mut columns, Column::new(name, kind), node);
            }
        }
        if let (true, Some(node)) = (firing.is_repeated(), section.get("key_by")) {
            self.push(&mut columns, Column::new("firing", ColumnType::Text), node);
        }
        let emit = self.emit(section);
        let computes = self.computes(section, &keys, emit, &mut columns);
        let mut after = self.stream.with_columns(columns);
        if emit == Emit::Changes && matches!(computes, Some(Computes::Top(_))) {
            after.changes = Some(after.columns.known.len().saturating_sub(1));
        }
        // What is emitted at the end of the input has no time.
        after.timed &= match windows {
            Some(windows) => windows.are_of_time() && !in_processing_time,
            None => windows::are_in(section) || emit == Emit::Changes,
        };
        let (input, moments) = (self.columns().to_vec(), self.stream.moments);
        let group = id.zip(computes).map(|(id, computes)| {
            let keeps_late = false;
            Step::Group(Group { id, keys, moments, input, keeps_late, computes, windows, firing, emit })
        });
        (group, after)
    }

    fn computes(
        &self,
        section: &Section<'_>,
        keys: &[(usize, Column)],
        emit: Emit,
        columns: &mut Columns,
    ) -> Option<Computes> {
        let wrong = |key: &str, message: &str, label: &str| {
            self.problems.add(Problem::new(section.location_of(key), message, label));
        };
        match (section.has("aggregate"), section.has("top")) {
            (_, false) if section.has("by") => {
                wrong("by", "`by` is for `top` rows", "expected `top` beside it");
            }
            (false, false) => {
                let label = "expected a key `aggregate` here, or `top` and `by`";
                self.problems
                    .add(Problem::new(section.location(), "a group has no `aggregate`", label).structural());
                columns.others = true;
                return None;
            }
            (true, true) => {
                wrong("top", "a group computes aggregates or keeps its top rows", "leave out one of them");
            }
            _ => {}
        }
        if section.has("top") {
            return self.top(section, keys, emit, columns).map(Computes::Top);
        }
        let none = ("this group has no aggregate", "expected at least one, for example \"count\"");
        let parse = |item: &Node, text: &str| aggregate::parse(item, text, self.scope);
        Some(Computes::Aggregates(self.each(section, "aggregate", none, columns, parse)))
    }

    fn top(
        &self,
        section: &Section<'_>,
        keys: &[(usize, Column)],
        emit: Emit,
        columns: &mut Columns,
    ) -> Option<Top> {
        let n = section.integer("top").map(|n| usize::try_from(n).unwrap_or(usize::MAX));
        if !section.has("by") {
            let label = "expected `by = \"column\"` beside it";
            self.problems.add(Problem::new(section.location_of("top"), "top rows by what?", label));
        }
        let none = ("nothing decides which rows are the top", "expected at least one column");
        let by = self.each(section, "by", none, &mut Columns::default(), |item, text| {
            let mut tokens = Tokens::new(item, text)?;
            let (name, span) = tokens.name("a column")?;
            let (index, column) = self.scope.find_column(&name, &tokens.location(span))?;
            let least = tokens.accept("asc");
            if !least {
                tokens.accept("desc");
            }
            tokens.end("`asc`, `desc` or the end")?;
            Ok(((index, column.clone(), least), column))
        });
        let place = section.get("top")?;
        let rest = (0..self.columns().len()).filter(|index| keys.iter().all(|(key, _)| key != index));
        let rest: Vec<usize> = rest.collect();
        if emit == Emit::End {
            self.push(columns, Column::new("rank", ColumnType::UInt), place);
        }
        for index in &rest {
            self.push(columns, self.columns().get(*index)?.clone(), place);
        }
        if emit == Emit::Changes {
            self.push(columns, Column::new("change", ColumnType::Text), place);
        }
        columns.others |= self.scope.has_others();
        Some(Top { n: n?, by, rest })
    }

    fn emit(&self, section: &Section<'_>) -> Emit {
        let emit = if section.word("emit") == Some("changes") { Emit::Changes } else { Emit::End };
        let Some(node) = section.get("emit") else { return emit };
        let wrong = |message, label| self.problems.add(Problem::new(&node.location, message, label));
        if windows::are_in(section) {
            wrong("`emit` is for groups without a window", "a window emits when it closes; leave this out");
            return Emit::End;
        }
        if emit == Emit::Changes && early_keys(section) {
            let label = "leave out either this, or `emit_every` and `emit_rows`";
            wrong("a group emits after each change or now and then", label);
        }
        emit
    }

    /// The column that has the gap of each row.
    fn gaps(&self, section: &Section<'_>) -> Option<usize> {
        let (node, text) = (section.get("session_by")?, section.text("session_by")?);
        let column = || {
            let mut tokens = Tokens::new(node, text)?;
            let (name, span) = tokens.name("a column")?;
            let (index, column) = self.scope.find_column(&name, &tokens.location(span))?;
            tokens.end("the end")?;
            if matches!(column.kind, ColumnType::Int | ColumnType::UInt) {
                return Ok(index);
            }
            let label = format!("this column is {}", column.kind);
            Err(Problem::new(&node.location, "a gap is a number of milliseconds", label))
        };
        self.problems.ok(column())
    }

    /// When a group emits besides at its end.
    fn firing(&self, section: &Section<'_>, windows: Option<&Windows>, in_processing_time: bool) -> Firing {
        let wrong = |key: &str, message: &str, label: &str| {
            self.problems.add(Problem::new(section.location_of(key), message, label));
        };
        let millis =
            |key, what| section.get(key).and_then(|node| self.problems.ok(section::millis(node, what)));
        let lateness = section.duration("lateness").unwrap_or_default();
        let firing = Firing {
            in_processing_time,
            lateness: i64::try_from(lateness.as_millis()).unwrap_or(i64::MAX),
            every: millis("emit_every", "the time from one result to the next"),
            rows: section.integer("emit_rows"),
            purging: section.bool("purge").unwrap_or_default(),
        };
        let has_windows = windows::are_in(section);
        let of_rows = windows.is_some_and(|windows| !windows.are_of_time());
        if firing.lateness > 0 && (!has_windows || of_rows || in_processing_time) {
            let label = "leave this out, or give the group windows of event time";
            wrong("lateness", "only windows of event time have late rows", label);
        }
        for key in EARLY.into_iter().filter(|key| section.has(key)) {
            match windows.map(|windows| windows.shape) {
                Some(windows::Shape::Sliding { .. }) => {
                    let label = "leave this out, or choose a shorter `slide`";
                    wrong(key, "windows that slide emit when they close", label);
                }
                Some(windows::Shape::Rows { .. }) => {
                    let label = "leave this out, or choose a smaller `slide`";
                    wrong(key, "windows of rows emit when they have their rows", label);
                }
                _ if key == "emit_every" && !has_windows && !self.stream.timed && !in_processing_time => {
                    let label = "expected `event_time = \"column\"` in [source], or `time = \"processing\"`";
                    wrong(key, "results at times need event times", label);
                }
                _ => {}
            }
        }
        let slide = matches!(windows.map(|windows| windows.shape), Some(windows::Shape::Sliding { .. }));
        if firing.purging && (slide || !(firing.is_repeated() || early_keys(section))) {
            let (message, label) = match slide {
                true => ("windows that slide share their rows", "leave this out"),
                false => {
                    ("this group emits once", "expected `emit_every`, `emit_rows` or `lateness` beside it")
                }
            };
            wrong("purge", message, label);
        }
        if in_processing_time && !has_windows && !section.has("emit_every") {
            let label = "leave this out, or give the group `window`, `session` or `emit_every`";
            wrong("time", "nothing in this group has a time", label);
        }
        firing
    }
}
