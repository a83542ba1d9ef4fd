//! The steps with several inputs: `union` and `join`.

use std::time::Duration;

use strandline_connectors::{Column, ColumnType};
use strandline_operators::join::JoinKind;
use strandline_state_api::TimeDomain;

use super::columns::Columns;
use super::deduplicate::ttl;
use super::expression::Tokens;
use super::problem::{Problem, Problems};
use super::scope::Scope;
use super::section::{self, Section};
use super::stream::Stream;
use super::tree::{Node, TreeValue};
use super::windows::{self, Windows};

/// Takes several inputs together.
#[derive(Clone, Debug)]
pub(crate) struct Union {
    /// For each input its columns in the order of the first one's; `None` where they are in order.
    pub(crate) orders: Vec<Option<Vec<usize>>>,
}

/// A join of two inputs.
#[derive(Clone, Debug)]
pub(crate) struct Join {
    /// The operator id, by which a resumed job finds its state.
    pub(crate) id: String,
    pub(crate) kind: JoinKind,
    pub(crate) matching: Matching,
    pub(crate) left: Side,
    pub(crate) right: Side,
    /// What the columns of the result are, but for borders of windows and what happens to a row.
    pub(crate) columns: Vec<Part>,
    /// Whether the borders of windows are timestamps, and not milliseconds.
    pub(crate) moments: bool,
}

/// Which rows with the same key belong together.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Matching {
    /// Those that share a window.
    Window(Windows),
    /// Those whose right time minus left time lies between these, in milliseconds.
    Interval { lower: i64, upper: i64 },
    /// A left row and the right row that was valid at its time.
    Versioned,
    /// All, as long as they are kept.
    All { ttl: Option<(Duration, TimeDomain)> },
}

/// An input of a join.
#[derive(Clone, Debug)]
pub(crate) struct Side {
    pub(crate) keys: Vec<(usize, Column)>,
    pub(crate) input: Vec<Column>,
    /// The column for whether a row comes or goes.
    pub(crate) changes: Option<usize>,
}

/// A column of a join's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Left(usize),
    Right(usize),
    /// A column that both have, by its index in each: that of whichever row there is.
    Both(usize, usize),
}

/// The union of `inputs`, whose names are `texts`.
pub(super) fn union(
    texts: &[(&str, &Node)],
    inputs: &[Stream],
    section: &Section<'_>,
) -> Option<(Union, Stream)> {
    let problems = section.problems;
    let (first, others) = inputs.split_first()?;
    if others.is_empty() {
        let label = "expected at least two, for example [\"web\", \"app\"]";
        problems.add(Problem::new(section.location_of("union"), "a union is of several", label));
    }
    let mut after = first.with_columns(first.columns.clone());
    after.changes = first.changes;
    let mut orders = vec![None];
    for (input, (name, node)) in others.iter().zip(texts.iter().skip(1)) {
        after.timed &= input.timed;
        after.moments &= input.moments;
        after.columns.others |= input.columns.others;
        let order = problems.ok(order(&mut after.columns, input, name, node))?;
        let changes = input.changes.and_then(|changes| order.iter().position(|index| *index == changes));
        if changes != after.changes {
            let label = "leave the column `change` out with `project`, or take only inputs that have it";
            let message = "rows that are changes and rows that are not cannot be taken together";
            problems.add(Problem::new(&node.location, message, label));
        }
        orders.push((!order.iter().copied().eq(0..order.len())).then_some(order));
    }
    Some((Union { orders }, after))
}

/// Where the columns of the first input of a union are in another one.
fn order(first: &mut Columns, input: &Stream, name: &str, node: &Node) -> Result<Vec<usize>, Problem> {
    let others = &input.columns;
    let wrong = |message: String, label: String| {
        let help = "inputs of a union have the same columns: choose and name them with `project`, and convert \
                    them with `cast(… as …)`, in a step before";
        Err(Problem::new(&node.location, message, label).help(help))
    };
    if let Some(surplus) =
        others.known.iter().find(|column| first.known.iter().all(|of| of.name != column.name))
        && !first.others
    {
        return wrong(format!("`{name}` has a column `{}`", surplus.name), "the first input has none".into());
    }
    let mut order = Vec::new();
    for column in &mut first.known {
        let Some(index) = others.known.iter().position(|other| other.name == column.name) else {
            if others.others {
                return Err(Problem::follows());
            }
            return wrong(
                format!("`{name}` has no column `{}`", column.name),
                "the first input has one".into(),
            );
        };
        let other = others.known.get(index).ok_or_else(Problem::follows)?;
        if other.kind != column.kind {
            let message = format!("the column `{}` of `{name}` is {}", column.name, other.kind);
            return wrong(message, format!("that of the first input is {}", column.kind));
        }
        column.nullable |= other.nullable;
        order.push(index);
    }
    Ok(order)
}

/// Reads a join of two inputs.
pub(super) struct JoinParser<'a> {
    pub(super) section: &'a Section<'a>,
    pub(super) names: [&'a str; 2],
    pub(super) inputs: [&'a Stream; 2],
    pub(super) scopes: [&'a Scope<'a>; 2],
}

impl JoinParser<'_> {
    pub(super) fn parse(&self, id: Option<String>) -> Option<(Join, Stream)> {
        let [left, right] = self.inputs;
        let section = self.section;
        let keys = self.keys();
        let kind = match section.word("kind") {
            Some("left") => JoinKind::Left,
            Some("right") => JoinKind::Right,
            Some("full") => JoinKind::Full,
            _ => JoinKind::Inner,
        };
        let matching = self.matching();
        self.check(kind, matching.as_ref(), &keys);
        let (columns, parts) = self.columns(kind, &keys);
        let mut after = left.with_columns(columns);
        after.timed &= right.timed;
        after.moments &= right.moments;
        if let Some(matching) = &matching {
            self.add_columns(matching, &mut after);
        }
        let moments = after.moments;
        let side = |of: usize| Side {
            keys: keys.iter().filter_map(|pair| pair.get(of).cloned()).collect(),
            input: self.inputs[of].columns.known.clone(),
            changes: self.inputs[of].changes,
        };
        let (left, right) = (side(0), side(1));
        let join = Join { id: id?, kind, matching: matching?, left, right, columns: parts, moments };
        Some((join, after))
    }

    fn wrong(&self, key: &str, message: impl Into<String>, label: impl Into<String>) {
        self.section.problems.add(Problem::new(self.section.location_of(key), message, label));
    }

    /// The columns that are equal, left and right.
    fn keys(&self) -> Vec<[(usize, Column); 2]> {
        let texts = self.section.texts("on");
        if texts.is_empty() && self.section.has("on") {
            self.wrong("on", "this join has no key", "expected at least one column");
        }
        let problems: &Problems = self.section.problems;
        texts.into_iter().filter_map(|(text, node)| problems.ok(self.key(node, text))).collect()
    }

    fn key(&self, node: &Node, text: &str) -> Result<[(usize, Column); 2], Problem> {
        let mut tokens = Tokens::new(node, text)?;
        let (left, span) = tokens.name("a column, or `left_column = right_column`")?;
        let (right, other_span) = match tokens.accept("=") || tokens.accept("==") {
            true => tokens.name("a column of the right input")?,
            false => (left.clone(), span.clone()),
        };
        tokens.end("`=` and a column of the right input, or the end")?;
        let [of_left, of_right] = self.scopes;
        let name = |problem: Problem, of: &str| problem.of(&format!("`{of}`"));
        let left = of_left.find_column(&left, &tokens.location(span)).map_err(|p| name(p, self.names[0]))?;
        let right =
            of_right.find_column(&right, &tokens.location(other_span)).map_err(|p| name(p, self.names[1]))?;
        if left.1.kind != right.1.kind {
            let message = format!("{} and {} are never equal", left.1.kind, right.1.kind);
            let label =
                format!("`{}` is {}, and `{}` is {}", left.1.name, left.1.kind, right.1.name, right.1.kind);
            let help = "convert one of them in a step before: `compute = \"cast(column as int) as column\"`";
            return Err(Problem::new(&node.location, message, label).help(help));
        }
        Ok([left, right])
    }

    fn matching(&self) -> Option<Matching> {
        let section = self.section;
        let versioned = section.bool("versioned").unwrap_or(false);
        let chosen: Vec<_> = ["between", "window", "session", "versioned"]
            .into_iter()
            .filter(|key| section.has(key) && (*key != "versioned" || versioned))
            .collect();
        if let [first, second, ..] = chosen.as_slice()
            && (*first, *second) != ("window", "session")
        {
            self.wrong(second, "a join is of one kind", format!("leave out either `{first}` or `{second}`"));
        }
        let timed = self.inputs.iter().all(|input| input.timed);
        let why_not =
            "expected `event_time = \"column\"` in both sources, and no earlier step that emits at the end";
        let why_not = (!timed).then_some(why_not);
        if let (Some(why_not), Some(key @ ("between" | "versioned"))) = (why_not, chosen.first().copied()) {
            self.wrong(key, "a join by time needs event times", why_not);
        }
        if let (Some(node), Some(key)) = (section.get("ttl"), chosen.first()) {
            let message = "a join by time forgets rows by itself";
            let label = format!("leave out either this or `{key}`");
            section.problems.add(Problem::new(&node.location, message, label));
        }
        if !windows::are_in(section) {
            windows::check_alone(section);
        }
        match chosen.first() {
            Some(&"between") => self.interval(),
            Some(&"versioned") => Some(Matching::Versioned),
            Some(_) => windows::parse(section, why_not, None).map(Matching::Window),
            None => {
                let domain = if timed { TimeDomain::Event } else { TimeDomain::Processing };
                Some(Matching::All { ttl: ttl(section).map(|ttl| (ttl, domain)) })
            }
        }
    }

    fn interval(&self) -> Option<Matching> {
        let node = self.section.get("between")?;
        let problems = self.section.problems;
        let TreeValue::Array(items) = &node.value else {
            problems.add(node.unexpected("two times, for example [\"-5m\", \"1h\"]"));
            return None;
        };
        let [lower, upper] = items.as_slice() else {
            problems.add(node.unexpected("two times, for example [\"-5m\", \"1h\"]"));
            return None;
        };
        let (lower, upper) =
            (problems.ok(section::signed_millis(lower)), problems.ok(section::signed_millis(upper)));
        let (lower, upper) = (lower?, upper?);
        if lower > upper {
            let label = "expected the lesser time first";
            problems.add(Problem::new(&node.location, "no row is between these times", label));
        }
        Some(Matching::Interval { lower, upper })
    }

    fn check(&self, kind: JoinKind, matching: Option<&Matching>, keys: &[[(usize, Column); 2]]) {
        if matches!(matching, Some(Matching::Versioned)) && kind.keeps_right() {
            let label = "expected `inner` or `left`";
            self.wrong("kind", "a version has no row of its own in the result", label);
        }
        for (of, keeps) in [kind.keeps_left(), kind.keeps_right()].into_iter().enumerate() {
            let nullable = keys.iter().filter_map(|pair| pair.get(of)).find(|(_, column)| column.nullable);
            if let (true, Some((_, column))) = (keeps, nullable) {
                let message = format!("the key `{}` of `{}` may be missing", column.name, self.names[of]);
                let label = "rows without it would be neither joined nor kept";
                let help = format!(
                    "give them a value in a step before: `compute = \"coalesce({0}, …) as {0}\"`",
                    column.name
                );
                let problem = Problem::new(self.section.location_of("on"), message, label);
                self.section.problems.add(problem.help(help));
            }
        }
        for (of, input) in self.inputs.iter().enumerate() {
            let takes_changes = matches!(matching, None | Some(Matching::All { .. }));
            if let (Some(_), false) = (input.changes, takes_changes) {
                let message = format!("the rows of `{}` are changes of a result", self.names[of]);
                let label = "only a join of all rows takes changes; others take each row as one more";
                let help = "leave out the column `change` in a step before, with `filter` and `project`";
                let problem = Problem::new(self.section.location_of("join"), message, label);
                self.section.problems.add(problem.help(help));
            }
        }
    }

    /// The columns of the result, and what they are.
    fn columns(&self, kind: JoinKind, keys: &[[(usize, Column); 2]]) -> (Columns, Vec<Part>) {
        let [left, right] = self.inputs;
        let mut columns = Columns {
            known: Vec::new(),
            others: left.columns.others || right.columns.others || keys.is_empty(),
        };
        let (mut parts, mut conflicts) = (Vec::new(), Vec::new());
        let same = |column: &Column| {
            keys.iter()
                .find(|[of_left, of_right]| of_left.1.name == column.name && of_right.1.name == column.name)
        };
        for (index, column) in left.columns.known.iter().enumerate() {
            if left.changes == Some(index) {
                continue;
            }
            let (part, nullable) = match same(column) {
                Some([of_left, of_right]) => (Part::Both(of_left.0, of_right.0), false),
                None => (Part::Left(index), kind.keeps_right()),
            };
            parts.push(part);
            columns.known.push(Column { nullable: column.nullable || nullable, ..column.clone() });
        }
        for (index, column) in right.columns.known.iter().enumerate() {
            if right.changes == Some(index) || same(column).is_some() {
                continue;
            }
            if columns.known.iter().any(|other| other.name == column.name) {
                conflicts.push(column.name.as_str());
                continue;
            }
            parts.push(Part::Right(index));
            columns.known.push(Column { nullable: column.nullable || kind.keeps_left(), ..column.clone() });
        }
        if !conflicts.is_empty() {
            self.conflict(&conflicts);
            columns.others = true;
        }
        (columns, parts)
    }

    /// Both inputs have columns of these names.
    fn conflict(&self, names: &[&str]) {
        let [left, right] = self.names;
        let renamed =
            self.inputs[1].columns.known.iter().map(|column| match names.contains(&column.name.as_str()) {
                true => format!("\"{0} as {right}_{0}\"", column.name),
                false => format!("\"{}\"", column.name),
            });
        let renamed = renamed.collect::<Vec<_>>().join(", ");
        let message =
            format!("both `{left}` and `{right}` have a column `{}`", names.join("` and a column `"));
        let label = "the columns of a result have different names";
        let help =
            format!("rename them, or leave them out, in a step from `{right}`: `project = [{renamed}]`");
        let problem = Problem::new(self.section.location_of("join"), message, label);
        self.section.problems.add(problem.help(help));
    }

    /// Adds the columns that are of neither input.
    fn add_columns(&self, matching: &Matching, after: &mut Stream) {
        let own = match matching {
            Matching::Window(windows) if windows.are_of_time() => {
                let kind = if after.moments { ColumnType::Timestamp } else { ColumnType::Int };
                vec![Column::new("window_start", kind), Column::new("window_end", kind)]
            }
            Matching::All { .. } => {
                after.changes = Some(after.columns.known.len());
                vec![Column::new("change", ColumnType::Text)]
            }
            Matching::Window(_) => {
                // Which rows are in one window depends on the order in which both inputs are read.
                let label = "expected windows of time";
                self.wrong("window", "rows of two inputs have no order, so no windows of rows", label);
                after.timed = false;
                Vec::new()
            }
            Matching::Interval { .. } | Matching::Versioned => Vec::new(),
        };
        for column in own {
            if after.columns.known.iter().any(|other| other.name == column.name) {
                let message = format!("two columns would be named `{}`", column.name);
                self.wrong("join", message, "rename that of the input in a step before");
            } else {
                after.columns.known.push(column);
            }
        }
    }
}
