//! Who takes whose rows: sources, steps and sinks by their names.

use std::collections::BTreeSet;
use std::path::Path;

use strandline_connectors::Column;
use strandline_state_api::OperatorId;

use super::columns::Input;
use super::join::{self, JoinParser};
use super::keys;
use super::problem::{Location, Problem, Problems};
use super::scope::Scope;
use super::section::{self, Section};
use super::step::{Step, StepParser};
use super::stream::{Needs, Origin, Stream};
use super::tree::Node;

/// A step, and whose rows it takes.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    pub(crate) step: Step,
    pub(crate) inputs: Vec<Origin>,
}

/// A source as steps see it.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    pub(super) node: &'a Node,
    pub(super) input: Input,
    pub(super) name: Option<String>,
}

/// One reading of all steps.
#[derive(Debug)]
pub(super) struct Pass<'a> {
    folder: &'a Path,
    problems: &'a Problems,
    entries: &'a [Entry<'a>],
    items: &'a [Node],
    sources: Vec<Stream>,
    pub(super) steps: Vec<Placed>,
    streams: Vec<Stream>,
    names: Vec<(String, Origin)>,
    ids: BTreeSet<String>,
    /// How many steps with state there are so far.
    stateful: usize,
    pub(super) needs: Needs,
    taken: BTreeSet<Origin>,
}

impl<'a> Pass<'a> {
    /// Reads the steps `items` over sources.
    pub(super) fn over(
        entries: &'a [Entry<'a>],
        items: &'a [Node],
        folder: &'a Path,
        problems: &'a Problems,
    ) -> Self {
        let sources =
            entries.iter().enumerate().map(|(number, entry)| Stream::of_source(number, &entry.input));
        let named = entries.iter().enumerate();
        let names = named.filter_map(|(number, entry)| Some((entry.name.clone()?, Origin::Source(number))));
        let names: Vec<_> = names.collect();
        let mut pass = Self {
            folder,
            problems,
            entries,
            items,
            sources: sources.collect(),
            steps: Vec::new(),
            streams: Vec::new(),
            ids: names.iter().map(|(name, _)| name.clone()).collect(),
            names,
            stateful: 0,
            needs: Needs::new(entries.len()),
            taken: BTreeSet::new(),
        };
        items.iter().for_each(|item| pass.step(item));
        pass
    }

    /// What is known of the rows of `origin`.
    pub(super) fn stream(&self, origin: Origin) -> Option<&Stream> {
        match origin {
            Origin::Source(number) => self.sources.get(number),
            Origin::Step(number) => self.streams.get(number),
        }
    }

    /// Takes whole rows for a sink.
    pub(super) fn take_rows(&mut self, section: &Section<'_>) -> (Option<Origin>, Stream) {
        let (origin, stream) = self.input(section, "this sink");
        self.needs.rows(&stream);
        (origin, stream)
    }

    /// Whether a source or a step has this operator id.
    pub(super) fn has_id(&self, id: &str) -> bool {
        self.ids.contains(id)
    }

    fn step(&mut self, node: &Node) {
        let (step, stream) = match Section::choose_by_key(node, &keys::STEP, self.problems) {
            Some((kind, value, section)) => {
                let read = self.of_kind(kind, value, &section);
                self.name(&section);
                read
            }
            None => {
                // What follows is read as if there were such a step, which may add columns.
                let name = node.text_of("name").map(str::to_owned);
                self.names.extend(name.map(|name| (name, Origin::Step(self.streams.len()))));
                let above = match self.streams.last() {
                    Some(above) => Some(above),
                    None => self.sources.first(),
                };
                let mut stream = above.filter(|_| !node.has("from")).cloned().unwrap_or_else(Stream::unknown);
                stream.columns.others = true;
                (None, stream)
            }
        };
        self.streams.push(stream);
        self.steps.extend(step);
    }

    fn of_kind(&mut self, kind: &str, value: &Node, section: &Section<'_>) -> (Option<Placed>, Stream) {
        if let "union" | "join" = kind {
            let id = if kind == "join" { self.id(section) } else { None };
            return self.of_several(kind, value, section, id);
        }
        let id =
            if let "key_by" | "deduplicate" | "coalesce" | "call" = kind { self.id(section) } else { None };
        let (origin, stream) = self.input(section, "this step");
        let scope = Scope::new(&stream.columns);
        let parser =
            StepParser { folder: self.folder, scope: &scope, stream: &stream, problems: self.problems };
        let (step, after) = match kind {
            "key_by" => parser.group(section, id),
            "deduplicate" => parser.deduplicate(value, section, id),
            "call" => parser.call(value, section, id),
            "coalesce" => parser.coalesce(value, section, id),
            kind => parser.row_step(kind, value, section),
        };
        let keeps_rows = match &step {
            Some(Step::Deduplicate(_) | Step::Coalesce(_) | Step::Call(_)) => true,
            Some(Step::Group(group)) => matches!(group.computes, super::group::Computes::Top(_)),
            _ => false,
        };
        if keeps_rows {
            self.needs.rows(&stream);
        }
        self.needs.columns(&stream, &scope.used.into_inner());
        if let ("key_by", Some(index)) = (kind, stream.changes) {
            self.refuse_changes(&stream, index, value);
        }
        let placed = step.zip(origin).map(|(step, origin)| Placed { step, inputs: vec![origin] });
        (placed, after)
    }

    /// A group would count rows that go as rows that come.
    fn refuse_changes(&self, stream: &Stream, index: usize, node: &Node) {
        let name = stream.columns.known.get(index).map_or("change", |column| column.name.as_str());
        let message = "the rows of this group are changes of a result: some come, and some go";
        let label = "each row would count as one that comes";
        let help = format!(
            "emit at the end in the step before, or leave the column `{name}` out in a step between, with \
             `filter` and `project`"
        );
        self.problems.add(Problem::new(&node.location, message, label).help(help));
    }

    fn of_several(
        &mut self,
        kind: &str,
        value: &Node,
        section: &Section<'_>,
        id: Option<String>,
    ) -> (Option<Placed>, Stream) {
        let texts = section.texts(kind);
        let origins: Vec<_> = texts.iter().map(|(name, node)| self.named(name, &node.location)).collect();
        let streams: Vec<_> = origins.iter().map(|origin| self.taken_stream(*origin)).collect();
        streams.iter().for_each(|stream| self.needs.rows(stream));
        let read = match (kind, streams.as_slice(), texts.as_slice()) {
            ("union", streams, texts) => {
                let read = join::union(texts, streams, section);
                read.map(|(union, after)| (Step::Union(union), after))
            }
            (_, [left, right], [(left_name, _), (right_name, _)]) => {
                let scopes = [&Scope::new(&left.columns), &Scope::new(&right.columns)];
                let names = [*left_name, *right_name];
                let parser = JoinParser { section, names, inputs: [left, right], scopes };
                parser.parse(id).map(|(join, after)| (Step::Join(join), after))
            }
            _ => {
                let label = "expected two names, for example [\"orders\", \"payments\"]";
                self.problems.add(Problem::new(&value.location, "a join is of two inputs", label));
                None
            }
        };
        let Some((step, after)) = read else { return (None, Stream::unknown()) };
        let inputs: Option<Vec<_>> = origins.into_iter().collect();
        (inputs.map(|inputs| Placed { step, inputs }), after)
    }

    /// Whose rows a step or sink takes, and what is known of them.
    fn input(&mut self, section: &Section<'_>, what: &str) -> (Option<Origin>, Stream) {
        let origin = match (section.get("from"), self.streams.len(), self.entries.len()) {
            (Some(node), ..) => {
                self.problems.ok(section::text(node)).and_then(|name| self.named(name, &node.location))
            }
            (None, 1.., _) => Some(Origin::Step(self.streams.len() - 1)),
            (None, 0, 0 | 1) => Some(Origin::Source(0)),
            (None, 0, _) => {
                let known: Vec<_> = self.names.iter().map(|(name, _)| name.as_str()).collect();
                let label = format!("expected `from = \"…\"`: {}", super::problem::one_of(&known));
                let message = format!("{what} does not say which source it reads");
                self.problems.add(Problem::new(section.location(), message, label));
                None
            }
        };
        (origin, self.taken_stream(origin))
    }

    fn taken_stream(&mut self, origin: Option<Origin>) -> Stream {
        self.taken.extend(origin);
        origin.and_then(|origin| self.stream(origin)).cloned().unwrap_or_else(Stream::unknown)
    }

    fn named(&self, name: &str, location: &Location) -> Option<Origin> {
        let found = self.names.iter().find(|(known, _)| known == name);
        if let Some((_, origin)) = found {
            return Some(*origin);
        }
        let is_later = self.items.iter().any(|item| item.text_of("name") == Some(name));
        self.problems.add(if is_later {
            let label = "expected a source or a step above: move this step below it";
            Problem::new(location, format!("the step `{name}` comes later"), label)
        } else {
            let known: Vec<_> = self.names.iter().map(|(name, _)| name.as_str()).collect();
            let problem = Problem::unknown(location, "source or step", name, &known);
            if known.is_empty() { problem.help("give it a `name`") } else { problem }
        });
        None
    }

    /// Notes the name of the step that was read last.
    fn name(&mut self, section: &Section<'_>) {
        let Some(node) = section.get("name") else { return };
        let Some(name) = self.problems.ok(name(node)) else { return };
        if self.names.iter().any(|(known, _)| *known == name) {
            let message = format!("two sources or steps are named `{name}`");
            self.problems.add(Problem::new(&node.location, message, "this is the second"));
        }
        self.names.push((name, Origin::Step(self.streams.len())));
    }

    /// The operator id of a step with state.
    fn id(&mut self, section: &Section<'_>) -> Option<String> {
        self.stateful += 1;
        let (node, id) = match section.get("id").or(section.get("name")) {
            None => (None, format!("group-{}", self.stateful)),
            Some(node) => (Some(node), self.problems.ok(operator_id(node))?),
        };
        if !self.ids.insert(id.clone()) {
            let location = node.map_or(section.location(), |node| &node.location);
            let message = format!("two sources or steps have the id {id:?}");
            let label = "expected `id = \"…\"` with another one";
            self.problems.add(Problem::new(location, message, label));
        }
        Some(id)
    }

    /// Notes sources and steps whose rows nobody takes.
    pub(super) fn check_taken(&self) {
        if !self.problems.is_empty() {
            return;
        }
        let named = |origin: Origin| self.names.iter().find(|(_, of)| *of == origin).map(|(name, _)| name);
        for (number, entry) in self.entries.iter().enumerate() {
            let origin = Origin::Source(number);
            if !self.taken.contains(&origin) {
                let name = named(origin).map(|name| format!(" `{name}`")).unwrap_or_default();
                let label = "expected a step or a sink with `from`, or no such source";
                let message = format!("nothing takes the rows of the source{name}");
                self.problems.add(Problem::new(&entry.node.location, message, label));
            }
        }
        for (number, item) in self.items.iter().enumerate() {
            if !self.taken.contains(&Origin::Step(number)) {
                let (message, label) = match named(Origin::Step(number)) {
                    Some(name) => (
                        format!("nothing takes the rows of the step `{name}`"),
                        "expected a step or a sink with `from`, or no such step",
                    ),
                    None => (
                        "nothing takes the rows of this step".to_owned(),
                        "give it a `name`, and a step below or a sink `from` it, or remove it",
                    ),
                };
                self.problems.add(Problem::new(&item.location, message, label));
            }
        }
    }
}

/// The columns of the rows that come late to the one window among `steps`, for the sink at `node`. `written` are
/// the steps of the file.
pub(super) fn late_columns(steps: &[Placed], written: &[Node], node: &Node) -> Result<Vec<Column>, Problem> {
    let groups = steps.iter().filter_map(|placed| match &placed.step {
        Step::Group(group) if group.keeps_late => Some(group),
        _ => None,
    });
    let groups: Vec<_> = groups.collect();
    let is_window = |item: &&Node| {
        item.has("key_by") && ["window", "session", "session_by"].into_iter().any(|key| item.has(key))
    };
    match groups.as_slice() {
        [group] => Ok(group.input.clone()),
        // What keeps the one window from being one was noted.
        [] if written.iter().filter(is_window).count() == 1 && steps.len() < written.len() => {
            Err(Problem::follows())
        }
        windows => {
            let label =
                format!("the job has {} steps that group rows by windows of event time", windows.len());
            let message = "a sink for late rows needs one step with a window, whose rows it takes";
            Err(Problem::new(&node.location, message, label))
        }
    }
}

/// The ids that a job has of its own.
const TAKEN: [&str; 4] = ["source", "sink", "late", super::DEAD_LETTERS];

fn operator_id(node: &Node) -> Result<String, Problem> {
    let text = name(node)?;
    if TAKEN.contains(&text.as_str()) || text.starts_with(&format!("{}.", super::DEAD_LETTERS)) {
        return Err(Problem::new(
            &node.location,
            format!("the id {text:?} is taken"),
            "expected another one",
        ));
    }
    Ok(text)
}

/// The name of a source; `source` is what the one without a name has in checkpoints.
pub(super) fn source_name(node: &Node) -> Result<String, Problem> {
    if section::text(node)? == "source" { Ok("source".to_owned()) } else { operator_id(node) }
}

/// The name of a sink; `sink` is that of the one without a name.
pub(super) fn sink_name(node: &Node) -> Result<String, Problem> {
    if section::text(node)? == "sink" { Ok("sink".to_owned()) } else { operator_id(node) }
}

/// The name of a step.
fn name(node: &Node) -> Result<String, Problem> {
    let text = section::text(node)?;
    let label = "expected 1 to 120 letters, digits, `-`, `_` or `.`";
    match OperatorId::new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(Problem::new(&node.location, format!("{text:?} is no operator id"), label)),
    }
}
