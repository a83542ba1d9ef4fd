//! The step `call`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use strandline_connectors::{Column, Field};

use super::columns::Columns;
use super::field;
use super::problem::Problem;
use super::section::{self, Section};
use super::step::{Step, StepParser};
use super::stream::Stream;
use super::tree::{Node, TreeValue};

/// Asks a program about each row.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// The operator id, by which a resumed job finds its state.
    pub(crate) id: String,
    pub(crate) program: Program,
    pub(crate) keys: Vec<(usize, Column)>,
    pub(crate) timeout: Duration,
    pub(crate) capacity: usize,
    pub(crate) ordered: bool,
    /// How often a call starts at most, and the pause in between.
    pub(crate) attempts: u32,
    pub(crate) pause: Duration,
    /// Whether a call that has failed leaves nulls, and does not fail the job.
    pub(crate) nulls: bool,
    /// The columns of the rows that it takes.
    pub(crate) input: Vec<Column>,
}

/// A program and what goes to and fro.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// A name, which is searched as a shell does, or a path.
    pub(crate) path: OsString,
    pub(crate) arguments: Vec<String>,
    /// Where it runs: in the folder of the job file.
    pub(crate) folder: PathBuf,
    /// What it is sent.
    pub(crate) sent: Vec<(usize, Column)>,
    /// What it replies.
    pub(crate) reply: Vec<Field>,
}

/// What objects have beside the columns.
pub(crate) const NUMBER: &str = "call";
pub(crate) const ERROR: &str = "error";

impl StepParser<'_> {
    pub(super) fn call(
        &self,
        value: &Node,
        section: &Section<'_>,
        id: Option<String>,
    ) -> (Option<Step>, Stream) {
        let program = self.program(value, section);
        let chosen = |item: &Node, text: &str| {
            let (index, column) = self.column(item, text)?;
            Ok(((index, column.clone()), column))
        };
        let none = ("these calls have no key", "expected at least one column");
        let keys = self.each(section, "by", none, &mut Columns::default(), chosen);
        let sent = match section.get("send") {
            Some(_) => {
                let none = ("the program would be sent nothing", "expected at least one column");
                self.each(section, "send", none, &mut Columns::default(), chosen)
            }
            None => self.columns().iter().cloned().enumerate().collect(),
        };
        for (_, column) in &sent {
            self.check_name(&column.name, section.location_of("send"));
        }
        let nulls = section.word("failures") == Some("null");
        let mut fields = match section.get("columns") {
            Some(node) => field::parse_all(node, true, self.problems),
            None => field::Fields::unknown(),
        };
        let mut after = self.stream.clone();
        after.columns.others |= fields.others;
        for field in &mut fields.known {
            self.check_name(&field.column.name, section.location_of("columns"));
            field.column.nullable |= nulls;
            let mut columns = after.columns.clone();
            self.push(&mut columns, field.column.clone(), section.get("columns").unwrap_or(value));
            if columns.known.len() > after.columns.known.len() {
                after.compute(after.columns.known.len(), field.column.clone());
            }
        }
        let ordered = section.bool("ordered").unwrap_or(false);
        if self.stream.changes.is_some() && !ordered {
            let message = "replies in any order would mix up the changes of a row";
            self.problems.add(Problem::new(&value.location, message, "expected `ordered = true` beside it"));
        }
        let timeout = section.get("timeout").and_then(|node| {
            let millis = self.problems.ok(section::millis(node, "a timeout"))?;
            Some(Duration::from_millis(millis.unsigned_abs()))
        });
        let step = id.zip(program).map(|(id, (path, arguments))| {
            let program =
                Program { path, arguments, folder: self.folder.to_owned(), sent, reply: fields.known };
            Step::Call(Box::new(Call {
                id,
                program,
                keys,
                timeout: timeout.unwrap_or(Duration::from_secs(30)),
                capacity: section.small_integer("capacity").map_or(100, |capacity| capacity as usize),
                ordered,
                attempts: section.small_integer("attempts").unwrap_or(1),
                pause: section.duration("pause").unwrap_or(Duration::from_secs(1)),
                nulls,
                input: self.columns().to_vec(),
            }))
        });
        (step, after)
    }

    /// The program and its arguments. A path begins at the folder of the job file, as all do; a name without `/` is
    /// searched.
    fn program(&self, value: &Node, section: &Section<'_>) -> Option<(OsString, Vec<String>)> {
        let mut texts = section.texts("call").into_iter();
        let Some((name, node)) = texts.next() else {
            if matches!(value.value, TreeValue::Array(_)) {
                let label = "expected a program, then its arguments";
                self.problems.add(Problem::new(&value.location, "there is no program to call", label));
            }
            return None;
        };
        if name.contains(char::is_whitespace) && matches!(value.value, TreeValue::Text(_)) {
            let parts: Vec<_> = name.split_whitespace().map(|part| format!("{part:?}")).collect();
            let label = format!("expected an array where there are arguments: [{}]", parts.join(", "));
            let message = "a program alone is expected here, and no command line";
            self.problems.add(Problem::new(&node.location, message, label));
            return None;
        }
        let path = match name.contains('/') {
            true => self.problems.ok(super::path::parse(node, self.folder, "a program"))?.into_os_string(),
            false if name.is_empty() => {
                self.problems.add(node.unexpected("the name or the path of a program"));
                return None;
            }
            false => name.into(),
        };
        Some((path, texts.map(|(text, _)| text.to_owned()).collect()))
    }

    /// Refuses the names that objects have beside the columns.
    fn check_name(&self, name: &str, location: &super::problem::Location) {
        if [NUMBER, ERROR].contains(&name) {
            let message = format!("`{name}` is no column of a call: objects have it for themselves");
            self.problems.add(Problem::new(location, message, "expected another name, with `as`"));
        }
    }
}
