//! The steps between sources and sinks, and the columns that each of them leaves.

use std::path::Path;
use std::time::Duration;

use strandline_connectors::{Column, ColumnType};

use super::call::Call;
use super::coalesce::Coalesce;
use super::columns::Columns;
use super::deduplicate::Deduplicate;
use super::expression::{self, Expression, Tokens, parse_alias};
use super::group::Group;
use super::join::{Join, Matching, Union};
use super::problem::{Problem, Problems};
use super::scope::Scope;
use super::section::Section;
use super::stream::Stream;
use super::tree::{Node, TreeValue};
use super::windows::Windows;

/// One step, on columns by their index.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Keeps the rows for which it holds.
    Filter(Expression),
    /// Keeps these columns, in this order.
    Project(Vec<usize>),
    /// Makes rows of these values.
    Select(Vec<Expression>),
    /// Adds a value to each row, or replaces that of a column.
    Compute(Vec<(Option<usize>, Expression)>),
    /// Each word of this text column becomes a row.
    Words(usize),
    /// Groups rows by key and computes something of each group.
    Group(Group),
    /// Keeps one row of each key.
    Deduplicate(Deduplicate),
    /// Takes the changes of each key that come within a time together.
    Coalesce(Coalesce),
    /// Asks a program about each row.
    Call(Box<Call>),
    /// Takes several inputs together.
    Union(Union),
    /// Joins two inputs.
    Join(Join),
}

impl Step {
    /// How far from the times of its rows the times are that it computes with, in milliseconds.
    pub(crate) fn reach(&self) -> i64 {
        match self {
            Self::Group(group) => {
                let windows = group.windows.map_or(0, Windows::reach);
                windows.saturating_add(group.firing.lateness).saturating_add(group.firing.every.unwrap_or(0))
            }
            Self::Deduplicate(of) => of.ttl.map_or(0, millis),
            Self::Coalesce(of) => of.every,
            Self::Join(join) => match join.matching {
                Matching::Window(windows) => windows.reach(),
                Matching::Interval { lower, upper } => lower.saturating_abs().max(upper.saturating_abs()),
                Matching::All { ttl } => ttl.map_or(0, |(ttl, _)| millis(ttl)),
                Matching::Versioned => 0,
            },
            _ => 0,
        }
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Reads a step with one input.
pub(super) struct StepParser<'a> {
    /// That of the job file.
    pub(super) folder: &'a Path,
    pub(super) scope: &'a Scope<'a>,
    /// The rows that it takes.
    pub(super) stream: &'a Stream,
    pub(super) problems: &'a Problems,
}

impl StepParser<'_> {
    pub(super) fn columns(&self) -> &[Column] {
        &self.stream.columns.known
    }

    /// A step without state: the step, and the rows behind it.
    pub(super) fn row_step(&self, kind: &str, value: &Node, section: &Section<'_>) -> (Option<Step>, Stream) {
        match kind {
            "filter" => {
                let condition = section.text("filter");
                let condition = condition.map(|text| expression::parse(value, text, self.scope));
                let condition = condition.and_then(|condition| self.problems.ok(condition));
                (condition.map(Step::Filter), self.stream.clone())
            }
            "project" => self.project(section),
            "compute" => self.compute(section),
            _ => {
                let words = section.text("words").and_then(|text| self.problems.ok(self.words(value, text)));
                let columns = words.as_ref().map(|(_, column)| column.clone());
                let columns = Columns { others: columns.is_none(), known: columns.into_iter().collect() };
                (words.map(|(index, _)| Step::Words(index)), self.stream.with_columns(columns))
            }
        }
    }

    fn project(&self, section: &Section<'_>) -> (Option<Step>, Stream) {
        let (columns, values) = self.computed(section, "project", "this projection keeps nothing");
        let column = |value: &Expression| match value {
            Expression::Column(index) => Some(*index),
            _ => None,
        };
        let mut after = self.stream.with_columns(columns);
        let changes = self.stream.changes.and_then(|changes| {
            let at = values.iter().position(|value| column(value) == Some(changes))?;
            let name =
                |columns: &[Column], index: usize| columns.get(index).map(|column| column.name.clone());
            (name(&after.columns.known, at) == name(self.columns(), changes)).then_some(at)
        });
        after.changes = changes;
        let step = match values.iter().map(column).collect() {
            Some(indexes) => Step::Project(indexes),
            None => Step::Select(values),
        };
        (Some(step), after)
    }

    /// `column` or `column as name`.
    pub(super) fn column(&self, node: &Node, text: &str) -> Result<(usize, Column), Problem> {
        let mut tokens = Tokens::new(node, text)?;
        let (name, span) = tokens.name("a column")?;
        let (index, column) = self.scope.find_column(&name, &tokens.location(span))?;
        let alias = parse_alias(&mut tokens)?;
        Ok((index, Column { name: alias.unwrap_or(name), ..column }))
    }

    /// `column`, for steps whose rows keep their columns.
    pub(super) fn kept_column(&self, node: &Node, text: &str) -> Result<((usize, Column), Column), Problem> {
        let mut tokens = Tokens::new(node, text)?;
        let (name, span) = tokens.name("a column")?;
        let (index, column) = self.scope.find_column(&name, &tokens.location(span))?;
        tokens.end("the end: the rows keep their columns")?;
        Ok(((index, column.clone()), column))
    }

    /// What `parse` makes of each text of a key; adds the columns to `columns`. `none` are the message and the
    /// label for an empty list.
    pub(super) fn each<T>(
        &self,
        section: &Section<'_>,
        key: &str,
        none: (&str, &str),
        columns: &mut Columns,
        parse: impl Fn(&Node, &str) -> Result<(T, Column), Problem>,
    ) -> Vec<T> {
        let texts = section.texts(key);
        if let Some(Node { location, value: TreeValue::Array(items), .. }) = section.get(key)
            && items.is_empty()
        {
            self.problems.add(Problem::new(location, none.0, none.1));
        }
        columns.others |= texts.is_empty();
        let mut parsed = Vec::new();
        for (text, item) in texts {
            match self.problems.ok(parse(item, text)) {
                Some((value, column)) => {
                    self.push(columns, column, item);
                    parsed.push(value);
                }
                None => columns.others = true,
            }
        }
        parsed
    }

    /// The values that a key computes, and the columns of them.
    fn computed(&self, section: &Section<'_>, key: &str, none: &str) -> (Columns, Vec<Expression>) {
        let mut columns = Columns::default();
        let none = (none, "expected at least one, for example \"amount * 2 as double\"");
        let values = self.each(section, key, none, &mut columns, |item, text| {
            let computed = expression::parse_computed(item, text, self.scope)?;
            Ok((computed.expression, computed.column))
        });
        (columns, values)
    }

    /// The expressions see the columns before the step.
    fn compute(&self, section: &Section<'_>) -> (Option<Step>, Stream) {
        let (computed, expressions) = self.computed(section, "compute", "this step computes nothing");
        let mut after = self.stream.clone();
        after.columns.others |= computed.others;
        let mut values = Vec::new();
        for (column, expression) in computed.known.into_iter().zip(expressions) {
            let index = after.columns.known.iter().position(|other| other.name == column.name);
            after.compute(index.unwrap_or(after.columns.known.len()), column);
            values.push((index, expression));
        }
        (Some(Step::Compute(values)), after)
    }

    fn words(&self, node: &Node, text: &str) -> Result<(usize, Column), Problem> {
        let (index, column) = self.column(node, text)?;
        if column.kind != ColumnType::Text {
            let label = format!("this column is {}", column.kind);
            return Err(Problem::new(&node.location, "words are in text only", label));
        }
        let renamed = self.scope.column(index).is_some_and(|before| before.name != column.name);
        let name = if renamed { column.name } else { "word".to_owned() };
        Ok((index, Column::new(name, ColumnType::Text)))
    }

    /// Adds a column unless its name is taken, which is noted.
    pub(super) fn push(&self, columns: &mut Columns, column: Column, node: &Node) {
        if columns.known.iter().any(|other| other.name == column.name) {
            let message = format!("two columns would be named `{}`", column.name);
            self.problems.add(Problem::new(&node.location, message, "expected another name, with `as`"));
        } else {
            columns.known.push(column);
        }
    }
}
