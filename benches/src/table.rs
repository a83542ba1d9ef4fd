//! The table: one row for each thing measured, those with a budget first.

use std::fmt::Write;

use serde::Serialize;

use crate::compare::{Comparison, Spread};

/// The unit of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// One thing divided by another of the same run.
    Ratio,
    /// Milliseconds.
    Milliseconds,
    /// Millions of records a second.
    MillionsPerSecond,
}

/// The limit of a number.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Budget {
    /// No more than this.
    AtMost(f64),
    /// No less than this.
    AtLeast(f64),
}

impl Budget {
    /// Returns whether `value` keeps to it.
    pub fn holds(self, value: f64) -> bool {
        match self {
            Self::AtMost(limit) => value <= limit,
            Self::AtLeast(limit) => value >= limit,
        }
    }
}

/// A row.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The workload: `W1`, `W2` and so on.
    pub workload: &'static str,
    /// The state backend, where one took part.
    pub backend: &'static str,
    /// What was measured, and at which size.
    pub name: String,
    /// The measured number.
    #[serde(serialize_with = "spread")]
    pub value: Spread,
    /// Its unit.
    pub unit: Unit,
    /// Its limit, if there is a promise.
    pub budget: Option<Budget>,
    /// The figures behind the number, for people.
    pub notes: String,
}

fn spread<S: serde::Serializer>(spread: &Spread, serializer: S) -> Result<S::Ok, S::Error> {
    [spread.p5, spread.p50, spread.p95].serialize(serializer)
}

impl Row {
    /// A row without budget and notes.
    pub fn new(workload: &'static str, name: impl Into<String>, value: Spread, unit: Unit) -> Self {
        let (name, notes) = (name.into(), String::new());
        Self { workload, backend: "", name, value, unit, budget: None, notes }
    }

    /// The row of a comparison with `other`.
    pub fn compared(
        workload: &'static str,
        name: impl Into<String>,
        compared: &Comparison,
        other: &str,
    ) -> Self {
        let notes = format!(
            "{} beside {} of {other}",
            nanoseconds(compared.ours_ns.p50),
            nanoseconds(compared.plain_ns.p50)
        );
        Self::new(workload, name, compared.ratio, Unit::Ratio).notes(notes)
    }

    /// Of this backend.
    #[must_use]
    pub fn of(mut self, backend: &'static str) -> Self {
        self.backend = backend;
        self
    }

    /// With a promise.
    #[must_use]
    pub fn budget(mut self, budget: Option<Budget>) -> Self {
        self.budget = budget;
        self
    }

    /// With notes.
    #[must_use]
    pub fn notes(mut self, notes: impl Into<String>) -> Self {
        self.notes = notes.into();
        self
    }

    /// Whether it keeps to its budget, if it has one.
    pub fn holds(&self) -> Option<bool> {
        self.budget.map(|budget| budget.holds(self.value.p50))
    }

    fn number(&self, value: f64) -> String {
        match self.unit {
            Unit::Ratio if value >= 100.0 => format!("{value:.0}"),
            Unit::Ratio => format!("{value:.2}"),
            Unit::Milliseconds if value < 1.0 => format!("{value:.4} ms"),
            Unit::Milliseconds => format!("{value:.1} ms"),
            Unit::MillionsPerSecond => format!("{value:.2} M/s"),
        }
    }

    fn cells(&self) -> [String; 9] {
        let budget = self.budget.map_or(String::new(), |budget| match budget {
            Budget::AtMost(limit) => format!("<= {limit}"),
            Budget::AtLeast(limit) => format!(">= {limit}"),
        });
        let holds = self.holds().map_or("", |holds| if holds { "yes" } else { "NO" });
        let [p5, p50, p95] = [self.value.p5, self.value.p50, self.value.p95].map(|value| self.number(value));
        let [workload, backend, holds] = [self.workload, self.backend, holds].map(str::to_owned);
        [workload, backend, self.name.clone(), p50, p5, p95, budget, holds, self.notes.clone()]
    }
}

/// A time of some nanoseconds, for people.
pub fn nanoseconds(ns: f64) -> String {
    match ns {
        ns if ns < 10_000.0 => format!("{ns:.1} ns"),
        ns if ns < 10_000_000.0 => format!("{:.1} us", ns / 1e3),
        ns => format!("{:.1} ms", ns / 1e6),
    }
}

/// A number with its thousands apart.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3 + 1);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The table as Markdown, columns aligned: budgets first, otherwise in the order of `rows`.
pub fn render(rows: &[Row]) -> String {
    let header =
        ["", "backend", "what", "median", "p5", "p95", "budget", "holds", "made of"].map(str::to_owned);
    let (promised, rest): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.budget.is_some());
    let lines: Vec<_> = promised.into_iter().chain(rest).map(Row::cells).collect();
    let mut widths = [1; 9];
    for cells in lines.iter().chain([&header]) {
        for (width, cell) in widths.iter_mut().zip(cells) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    let mut line = |cells: &[String; 9]| {
        for (column, (cell, width)) in cells.iter().zip(widths).enumerate() {
            // Numbers to the right, words to the left.
            let _ = if (3..=6).contains(&column) {
                write!(text, "| {cell:>width$} ")
            } else {
                write!(text, "| {cell:<width$} ")
            };
        }
        text.push_str("|\n");
    };
    line(&header);
    line(&widths.map(|width| "-".repeat(width)));
    lines.iter().for_each(line);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, value: f64, budget: Option<Budget>) -> Row {
        Row::new("W2", name, Spread { p5: value, p50: value, p95: value }, Unit::Ratio).budget(budget)
    }

    #[test]
    fn budgets_come_first_with_whether_they_hold() {
        let rows = [
            row("free", 7.0, None),
            row("kept", 1.0, Some(Budget::AtMost(1.3))),
            row("missed", 0.5, Some(Budget::AtLeast(0.95))),
        ];
        let text = render(&rows);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 5);
        assert!(
            lines[2].contains("kept") && lines[2].contains("<= 1.3") && lines[2].contains("yes"),
            "{text}"
        );
        assert!(lines[3].contains("missed") && lines[3].contains("NO"), "{text}");
        assert!(lines[4].contains("free"), "{text}");
        assert!(lines.iter().all(|line| line.len() == lines[0].len()), "{text}");
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!(thousands(10_000_000), "10,000,000");
        assert_eq!(thousands(999), "999");
        assert_eq!(nanoseconds(12.34), "12.3 ns");
        assert_eq!(nanoseconds(2_500_000.0), "2500.0 us");
    }
}
