//! The steps between source and sink, and the columns that each of them leaves.

use std::time::Duration;

use strandline_connectors::{Column, ColumnType};
use strandline_state_api::OperatorId;

use super::aggregate::{self, Aggregate, Function};
use super::expression::{self, Expression, Tokens, parse_alias};
use super::keys;
use super::problem::{Problem, Problems};
use super::scope::Scope;
use super::section::{self, Section};
use super::source::{Columns, Input, SourceSpec};
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
/// all of them. Returns the columns behind the last step, too.
pub(super) fn parse_all(
    node: Option<&Node>,
    source: Option<&mut SourceSpec>,
    input: &Input,
    keeps_late: bool,
    problems: &Problems,
) -> (Vec<Step>, Columns) {
    let items = match node.map(|node| (&node.value, node)) {
        None => &[],
        Some((TreeValue::Array(items), _)) => items.as_slice(),
        Some((_, node)) => {
            problems.add(node.unexpected("steps as `[[step]]` tables"));
            &[]
        }
    };
    // The first pass finds every mistake, and which columns of the source are needed; the second numbers
    // those anew.
    let (mut steps, mut columns, needed) = pass(items, input, problems);
    if let (Some(source), Some(needed)) = (source, needed.filter(|_| !keeps_late && problems.is_empty())) {
        source.keep(&needed);
        let narrowed = Columns { known: source.columns.clone(), others: false };
        (steps, columns, _) = pass(items, &Input { columns: narrowed, ..*input }, problems);
    }
    for step in &mut steps {
        if let Step::Group(group) = step {
            group.keeps_late = keeps_late && group.window_ms.is_some();
        }
    }
    (steps, columns)
}

/// The columns of the rows that come late to the one window among `steps`, for the sink at `node`.
/// `written` are the steps of the file.
pub(super) fn late_columns(
    steps: &[Step],
    written: Option<&Node>,
    node: &Node,
) -> Result<Vec<Column>, Problem> {
    let groups = steps.iter().filter_map(|step| match step {
        Step::Group(group) if group.keeps_late => Some(group),
        _ => None,
    });
    match groups.collect::<Vec<_>>().as_slice() {
        [group] => Ok(group.input.clone()),
        // What keeps the one window from being one was noted.
        [] if windows_in(written) == 1 => Err(Problem::follows()),
        windows => {
            let label = format!("the job has {} steps with a `window`", windows.len());
            let message = "a sink for late rows needs one step with a window, whose rows it takes";
            Err(Problem::new(&node.location, message, label))
        }
    }
}

/// How many steps have the key `window`.
fn windows_in(steps: Option<&Node>) -> usize {
    match steps.map(|steps| &steps.value) {
        Some(TreeValue::Array(items)) => items.iter().filter(|item| item.has("window")).count(),
        _ => 0,
    }
}

type Pass = (Vec<Step>, Columns, Option<Vec<usize>>);

/// The steps, the columns behind them, and which columns of the source they need where that is not all.
fn pass(items: &[Node], input: &Input, problems: &Problems) -> Pass {
    let mut columns = input.columns.clone();
    // The column of the source that each column still is.
    let mut origins: Vec<Option<usize>> = (0..columns.known.len()).map(Some).collect();
    let (mut needed, mut replaced) = (Vec::new(), false);
    let mut steps = Vec::new();
    let (mut groups, mut timed) = (0, input.timed);
    for item in items {
        let scope = Scope::new(&columns);
        let mut parser = StepParser {
            scope: &scope,
            columns: &columns.known,
            timed,
            moments: input.moments,
            groups: &mut groups,
            problems,
        };
        let (step, after) = parser.step(item);
        let used = scope.used.into_inner();
        needed.extend(used.into_iter().filter_map(|index| origins.get(index).copied().flatten()));
        match &step {
            Some(Step::Filter(_)) => {}
            Some(Step::Compute(computed)) => {
                for (index, _) in computed {
                    match index.and_then(|index| origins.get_mut(index)) {
                        Some(origin) => *origin = None,
                        None => origins.push(None),
                    }
                }
            }
            Some(Step::Project(_) | Step::Select(_) | Step::Words(_) | Step::Group(_)) | None => {
                replaced |= after.is_some();
                origins.clear();
            }
        }
        // What is emitted at the end of the input has no time.
        timed &= !matches!(&step, Some(Step::Group(Group { window_ms: None, emit: Emit::End, .. })));
        columns = after.unwrap_or(columns);
        steps.extend(step);
    }
    (steps, columns, replaced.then_some(needed))
}

struct StepParser<'a> {
    scope: &'a Scope<'a>,
    columns: &'a [Column],
    /// Whether the rows have event times.
    timed: bool,
    /// Whether these are timestamps.
    moments: bool,
    groups: &'a mut usize,
    problems: &'a Problems,
}

impl StepParser<'_> {
    /// The step, and the columns after it where they are others.
    fn step(&mut self, node: &Node) -> (Option<Step>, Option<Columns>) {
        let Some((kind, value, section)) = Section::choose_by_key(node, &keys::STEP, self.problems) else {
            return (None, Some(Columns { known: self.columns.to_vec(), others: true }));
        };
        match kind {
            "filter" => {
                let condition = section.text("filter");
                let condition = condition.map(|text| expression::parse(value, text, self.scope));
                (condition.and_then(|condition| self.problems.ok(condition)).map(Step::Filter), None)
            }
            "project" => {
                let (columns, values) = self.computed(&section, "project", "this projection keeps nothing");
                let column = |value: &Expression| match value {
                    Expression::Column(index) => Some(*index),
                    _ => None,
                };
                let step = match values.iter().map(column).collect() {
                    Some(indexes) => Step::Project(indexes),
                    None => Step::Select(values),
                };
                (Some(step), Some(columns))
            }
            "compute" => self.compute(&section),
            "words" => {
                let words = section.text("words").and_then(|text| self.problems.ok(self.words(value, text)));
                let columns = words.as_ref().map(|(_, column)| column.clone());
                let columns = Columns { others: columns.is_none(), known: columns.into_iter().collect() };
                (words.map(|(index, _)| Step::Words(index)), Some(columns))
            }
            _ => self.group(&section),
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

    /// What `parse` makes of each text of a key; adds the columns to `columns`. `none` are the message and the
    /// label for an empty list.
    fn each<T>(
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
    fn compute(&self, section: &Section<'_>) -> (Option<Step>, Option<Columns>) {
        let (computed, expressions) = self.computed(section, "compute", "this step computes nothing");
        let mut columns =
            Columns { known: self.columns.to_vec(), others: computed.others || self.scope.has_others() };
        let mut values = Vec::new();
        for (column, expression) in computed.known.into_iter().zip(expressions) {
            let index = columns.known.iter().position(|other| other.name == column.name);
            match index.and_then(|index| columns.known.get_mut(index)) {
                Some(before) => *before = column,
                None => columns.known.push(column),
            }
            values.push((index, expression));
        }
        (Some(Step::Compute(values)), Some(columns))
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

    fn group(&mut self, section: &Section<'_>) -> (Option<Step>, Option<Columns>) {
        *self.groups += 1;
        let id = match section.get("id") {
            None => Some(format!("group-{}", self.groups)),
            Some(node) => self.problems.ok(operator_id(node)),
        };
        let mut columns = Columns::default();
        let none = ("this group has no key", "expected at least one column");
        let keys = self.each(section, "key_by", none, &mut columns, |item, text| {
            let (index, column) = self.column(item, text)?;
            Ok(((index, column.clone()), column))
        });
        let window_ms = section.get("window").and_then(|node| self.problems.ok(self.window(node)));
        if let (Some(_), Some(node)) = (section.get("window"), section.get("key_by")) {
            for name in ["window_start", "window_end"] {
                let kind = if self.moments { ColumnType::Timestamp } else { ColumnType::Int };
                self.push(&mut columns, Column::new(name, kind), node);
            }
        }
        let none = ("this group has no aggregate", "expected at least one, for example \"count\"");
        let parse = |item: &Node, text: &str| aggregate::parse(item, text, self.scope);
        let aggregates = self.each(section, "aggregate", none, &mut columns, parse);
        let emit = self.emit(section);
        let (input, moments) = (self.columns.to_vec(), self.moments);
        let group = id.map(|id| {
            Step::Group(Group { id, keys, window_ms, moments, input, keeps_late: false, aggregates, emit })
        });
        (group, Some(columns))
    }

    fn emit(&self, section: &Section<'_>) -> Emit {
        let emit = if section.word("emit") == Some("changes") { Emit::Changes } else { Emit::End };
        if let (Some(node), true) = (section.get("emit"), section.has("window")) {
            let label = "a window emits when it closes; leave this out";
            self.problems.add(Problem::new(&node.location, "`emit` is for groups without a window", label));
        }
        emit
    }

    /// Adds a column unless its name is taken, which is noted.
    fn push(&self, columns: &mut Columns, column: Column, node: &Node) {
        if columns.known.iter().any(|other| other.name == column.name) {
            let message = format!("two columns would be named `{}`", column.name);
            self.problems.add(Problem::new(&node.location, message, "expected another name, with `as`"));
        } else {
            columns.known.push(column);
        }
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
