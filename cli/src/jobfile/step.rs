//! The steps between source and sink, and the columns that each of them leaves.

use std::time::Duration;

use strandline_connectors::{Column, ColumnType};
use strandline_state_api::OperatorId;

use super::aggregate::{self, Aggregate, Function};
use super::expression::{self, Expression, Tokens, parse_alias};
use super::problem::Problem;
use super::scope::Scope;
use super::section::{self, Section};
use super::source::SourceSpec;
use super::tree::{Node, TreeValue};

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
    /// Groups rows by key and aggregates them.
    Group(Group),
}

/// Rows grouped by key, and perhaps by windows of time.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    /// The operator id, by which a resumed job finds its state.
    pub(crate) id: String,
    /// The key columns.
    pub(crate) keys: Vec<(usize, Column)>,
    /// The size of tumbling windows in milliseconds.
    pub(crate) window_ms: Option<i64>,
    /// Whether the borders of windows are timestamps, as the event time is, and not milliseconds.
    pub(crate) moments: bool,
    /// The columns of the rows that it groups.
    pub(crate) input: Vec<Column>,
    /// Whether rows that come after their window has closed go to a sink of their own.
    pub(crate) keeps_late: bool,
    pub(crate) aggregates: Vec<Aggregate>,
    pub(crate) emit: Emit,
}

impl Group {
    /// Whether the group counts rows, and computes nothing else and has no windows.
    pub(crate) fn counts_only(&self) -> bool {
        let [only] = self.aggregates.as_slice() else { return false };
        self.window_ms.is_none() && only.function == Function::Count && only.column.is_none()
    }
}

/// When a group emits its results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Emit {
    /// After each change.
    Changes,
    /// When the input ends, or the window closes.
    End,
}

/// Reads all steps, and narrows `source` to the columns that they need; where late rows have a sink, that is
/// all of them.
pub(super) fn parse_all(
    node: Option<&Node>,
    source: &mut SourceSpec,
    keeps_late: bool,
) -> Result<(Vec<Step>, Vec<Column>), Problem> {
    let items = match node.map(|node| (&node.value, node)) {
        None => &[],
        Some((TreeValue::Array(items), _)) => items.as_slice(),
        Some((_, node)) => return Err(node.unexpected("steps as `[[step]]` tables")),
    };
    // The first pass finds every mistake, and which columns of the source are needed; the second numbers
    // those anew.
    let (_, _, needed) = pass(items, source)?;
    if let Some(needed) = needed.filter(|_| !keeps_late) {
        source.keep(&needed);
    }
    let (mut steps, columns, _) = pass(items, source)?;
    for step in &mut steps {
        if let Step::Group(group) = step {
            group.keeps_late = keeps_late && group.window_ms.is_some();
        }
    }
    Ok((steps, columns))
}

/// The columns of the rows that come late to the one window among `steps`, for the sink at `node`.
pub(super) fn late_columns(steps: &[Step], node: &Node) -> Result<Vec<Column>, Problem> {
    let groups = steps.iter().filter_map(|step| match step {
        Step::Group(group) if group.keeps_late => Some(group),
        _ => None,
    });
    match groups.collect::<Vec<_>>().as_slice() {
        [group] => Ok(group.input.clone()),
        windows => {
            let label = format!("the job has {} steps with a `window`", windows.len());
            let message = "a sink for late rows needs one step with a window, whose rows it takes";
            Err(Problem::new(&node.location, message, label))
        }
    }
}

type Pass = (Vec<Step>, Vec<Column>, Option<Vec<usize>>);

fn pass(items: &[Node], source: &SourceSpec) -> Result<Pass, Problem> {
    let mut columns = source.columns.clone();
    // The column of the source that each column still is.
    let mut origins: Vec<Option<usize>> = (0..columns.len()).map(Some).collect();
    let (mut needed, mut replaced) = (Vec::new(), false);
    let mut steps = Vec::new();
    let time = source.event_time.and_then(|index| source.columns.get(index));
    let moments = time.is_some_and(|column| column.kind == ColumnType::Timestamp);
    let (mut groups, mut timed) = (0, source.event_time.is_some());
    for item in items {
        let scope = Scope::new(&columns);
        let mut parser = StepParser { scope: &scope, columns: &columns, timed, moments, groups: &mut groups };
        let (step, after) = parser.step(item)?;
        let used = scope.used.into_inner();
        needed.extend(used.into_iter().filter_map(|index| origins.get(index).copied().flatten()));
        match &step {
            Step::Filter(_) => {}
            Step::Compute(computed) => {
                for (index, _) in computed {
                    match index.and_then(|index| origins.get_mut(index)) {
                        Some(origin) => *origin = None,
                        None => origins.push(None),
                    }
                }
            }
            Step::Project(_) | Step::Select(_) | Step::Words(_) | Step::Group(_) => {
                (replaced, origins) = (true, Vec::new());
            }
        }
        // What is emitted at the end of the input has no time.
        timed &= !matches!(&step, Step::Group(Group { window_ms: None, emit: Emit::End, .. }));
        columns = after.unwrap_or(columns);
        steps.push(step);
    }
    Ok((steps, columns, replaced.then_some(needed)))
}

struct StepParser<'a> {
    scope: &'a Scope<'a>,
    columns: &'a [Column],
    /// Whether the rows have event times.
    timed: bool,
    /// Whether these are timestamps.
    moments: bool,
    groups: &'a mut usize,
}

const STEPS: [&str; 5] = ["filter", "project", "compute", "words", "key_by"];

impl StepParser<'_> {
    /// The step, and the columns after it where they are others.
    fn step(&mut self, node: &Node) -> Result<(Step, Option<Vec<Column>>), Problem> {
        let any = Section::open(node, "a step")?;
        let kind = any.members().iter().find(|member| STEPS.contains(&member.key.as_str()));
        match kind.map(|member| (member.key.as_str(), &member.node)) {
            Some(("filter", value)) => {
                Section::new(node, "a filter", &["filter"])?;
                Ok((Step::Filter(expression::parse(value, section::text(value)?, self.scope)?), None))
            }
            Some(("project", value)) => {
                Section::new(node, "a projection", &["project"])?;
                self.project(value)
            }
            Some(("compute", value)) => {
                Section::new(node, "a computation", &["compute"])?;
                self.compute(value)
            }
            Some(("words", value)) => {
                Section::new(node, "a step that splits words", &["words"])?;
                self.words(value)
            }
            Some((_, keys)) => self.group(node, keys),
            None => Err(match any.members().first() {
                Some(member) => Problem::unknown(&member.location, "step", &member.key, &STEPS),
                None => Problem::new(
                    any.location(),
                    "this step does nothing",
                    format!("expected {}", super::problem::one_of(&STEPS)),
                ),
            }),
        }
    }

    /// `column` or `column as name`.
    fn column(&self, node: &Node, text: &str) -> Result<(usize, Column), Problem> {
        let mut tokens = Tokens::new(node, text)?;
        let (name, span) = tokens.name("a column")?;
        let (index, column) = self.scope.find_column(&name, &tokens.location(span))?;
        let alias = parse_alias(&mut tokens)?;
        Ok((index, Column { name: alias.unwrap_or(name), ..column }))
    }

    fn project(&self, node: &Node) -> Result<(Step, Option<Vec<Column>>), Problem> {
        let (mut values, mut columns) = (Vec::new(), Vec::new());
        for (text, item) in section::texts(node)? {
            let computed = expression::parse_computed(item, text, self.scope)?;
            push_unique(&mut columns, computed.column, item)?;
            values.push(computed.expression);
        }
        if columns.is_empty() {
            return Err(Problem::new(
                &node.location,
                "this projection keeps nothing",
                "expected at least one column",
            ));
        }
        let column = |value: &Expression| match value {
            Expression::Column(index) => Some(*index),
            _ => None,
        };
        let step = match values.iter().map(column).collect() {
            Some(indexes) => Step::Project(indexes),
            None => Step::Select(values),
        };
        Ok((step, Some(columns)))
    }

    /// The expressions see the columns before the step.
    fn compute(&self, node: &Node) -> Result<(Step, Option<Vec<Column>>), Problem> {
        let (mut values, mut names) = (Vec::new(), Vec::new());
        let mut columns = self.columns.to_vec();
        for (text, item) in section::texts(node)? {
            let expression::Computed { expression, column } =
                expression::parse_computed(item, text, self.scope)?;
            push_unique(&mut names, column.clone(), item)?;
            let index = columns.iter().position(|other| other.name == column.name);
            match index.and_then(|index| columns.get_mut(index)) {
                Some(before) => *before = column,
                None => columns.push(column),
            }
            values.push((index, expression));
        }
        if values.is_empty() {
            let label = "expected at least one, for example \"amount * 2 as double\"";
            return Err(Problem::new(&node.location, "this step computes nothing", label));
        }
        Ok((Step::Compute(values), Some(columns)))
    }

    fn words(&self, node: &Node) -> Result<(Step, Option<Vec<Column>>), Problem> {
        let text = section::text(node)?;
        let (index, column) = self.column(node, text)?;
        if column.kind != ColumnType::Text {
            let label = format!("this column is {}", column.kind);
            return Err(Problem::new(&node.location, "words are in text only", label));
        }
        let renamed = self.scope.column(index).is_some_and(|before| before.name != column.name);
        let name = if renamed { column.name } else { "word".to_owned() };
        Ok((Step::Words(index), Some(vec![Column::new(name, ColumnType::Text)])))
    }

    fn group(&mut self, node: &Node, keys: &Node) -> Result<(Step, Option<Vec<Column>>), Problem> {
        let known = &["key_by", "aggregate", "window", "emit", "id"];
        let section = Section::new(node, "a group", known)?;
        *self.groups += 1;
        let id = match section.optional("id") {
            None => format!("group-{}", self.groups),
            Some(node) => operator_id(node)?,
        };
        let mut columns = Vec::new();
        let mut key_columns = Vec::new();
        for (text, item) in section::texts(keys)? {
            let (index, column) = self.column(item, text)?;
            push_unique(&mut columns, column.clone(), item)?;
            key_columns.push((index, column));
        }
        if key_columns.is_empty() {
            return Err(Problem::new(
                &keys.location,
                "this group has no key",
                "expected at least one column",
            ));
        }
        let window_ms = section.optional("window").map(|node| self.window(node)).transpose()?;
        if window_ms.is_some() {
            for name in ["window_start", "window_end"] {
                let kind = if self.moments { ColumnType::Timestamp } else { ColumnType::Int };
                push_unique(&mut columns, Column::new(name, kind), keys)?;
            }
        }
        let mut aggregates = Vec::new();
        for (text, item) in section::texts(section.required("aggregate")?)? {
            let (aggregate, column) = aggregate::parse(item, text, self.scope)?;
            push_unique(&mut columns, column, item)?;
            aggregates.push(aggregate);
        }
        if aggregates.is_empty() {
            let label = "expected at least one, for example \"count\"";
            return Err(Problem::new(
                &section.required("aggregate")?.location,
                "this group has no aggregate",
                label,
            ));
        }
        let emit = emit(&section, window_ms.is_some())?;
        let (input, keeps_late, moments) = (self.columns.to_vec(), false, self.moments);
        let keys = key_columns;
        let group = Group { id, keys, window_ms, moments, input, keeps_late, aggregates, emit };
        Ok((Step::Group(group), Some(columns)))
    }

    fn window(&self, node: &Node) -> Result<i64, Problem> {
        let size = section::duration(node)?;
        let wrong = |message: &str, label: &str| Err(Problem::new(&node.location, message, label));
        match i64::try_from(size.as_millis()) {
            Ok(0) => wrong("a window is at least 1 ms long", "this is less"),
            Err(_) => wrong("this window is longer than time", "expected a shorter one"),
            Ok(_) if Duration::from_millis(size.as_millis() as u64) != size => {
                wrong("a window is a whole number of milliseconds long", "this is not")
            }
            Ok(_) if !self.timed => wrong(
                "a window needs event times",
                "expected `event_time = \"column\"` in [source], and no earlier group that emits at the end",
            ),
            Ok(ms) => Ok(ms),
        }
    }
}

fn emit(section: &Section<'_>, windowed: bool) -> Result<Emit, Problem> {
    let Some(node) = section.optional("emit") else { return Ok(Emit::End) };
    let emit = match section::text(node)? {
        "changes" => Emit::Changes,
        "end" => Emit::End,
        other => return Err(Problem::unknown(&node.location, "time to emit", other, &["changes", "end"])),
    };
    if windowed {
        let label = "a window emits when it closes; leave this out";
        return Err(Problem::new(&node.location, "`emit` is for groups without a window", label));
    }
    Ok(emit)
}

fn operator_id(node: &Node) -> Result<String, Problem> {
    let text = section::text(node)?;
    let label = "expected 1 to 120 letters, digits, `-`, `_` or `.`";
    match OperatorId::new(text) {
        Ok(_) if ["source", "sink", "late", super::DEAD_LETTERS].contains(&text) => {
            Err(Problem::new(&node.location, format!("the id {text:?} is taken"), "expected another one"))
        }
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(Problem::new(&node.location, format!("{text:?} is no operator id"), label)),
    }
}

fn push_unique(columns: &mut Vec<Column>, column: Column, node: &Node) -> Result<(), Problem> {
    if columns.iter().any(|other| other.name == column.name) {
        let message = format!("two columns would be named `{}`", column.name);
        return Err(Problem::new(&node.location, message, "expected another name, with `as`"));
    }
    columns.push(column);
    Ok(())
}
