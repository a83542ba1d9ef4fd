//! A mistake in a job file, and its report.

use std::cell::{Cell, RefCell};
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use serde_json::{Value, json};
use strandline_checkpoint_storage::mask_credentials;

/// Where a key or a value is: in which document, and at which bytes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    pub(super) document: usize,
    pub(super) span: Range<usize>,
}

/// A mistake: what is wrong, where, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(super) location: Location,
    pub(super) message: String,
    /// The text beside the marked bytes.
    pub(super) label: String,
    pub(super) help: Option<String>,
    /// Whether it only follows from another one, which was noted.
    follows: bool,
    /// Whether it is about what is missing or out of place, so that a mistake of syntax before it may be the
    /// cause.
    structural: bool,
}

/// The mistakes of a job file, as they are found.
#[derive(Debug, Default)]
pub(super) struct Problems {
    found: RefCell<Vec<Problem>>,
    /// Whether the file is no valid TOML.
    broken: Cell<bool>,
}

impl Problems {
    /// Notes a mistake, once.
    pub(super) fn add(&self, problem: Problem) {
        let mut found = self.found.borrow_mut();
        if !problem.follows && !found.contains(&problem) {
            found.push(problem);
        }
    }

    /// Notes a mistake of syntax: what is behind it may be read as part of something else.
    pub(super) fn add_syntax(&self, problem: Problem) {
        self.broken.set(true);
        self.add(problem);
    }

    /// The value, or `None` where there is a mistake, which is noted.
    pub(super) fn ok<T>(&self, result: Result<T, Problem>) -> Option<T> {
        result.map_err(|problem| self.add(problem)).ok()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.borrow().is_empty()
    }

    /// All of them, in the order of the file.
    pub(super) fn into_sorted(self) -> Vec<Problem> {
        let mut found = self.found.into_inner();
        found.retain(|problem| !(problem.structural && self.broken.get()));
        found.sort_by_key(|problem| (problem.location.document, problem.location.span.start));
        found
    }
}

impl Problem {
    pub(super) fn new(location: &Location, message: impl Into<String>, label: impl Into<String>) -> Self {
        let (message, label) = (message.into(), label.into());
        Self { location: location.clone(), message, label, help: None, follows: false, structural: false }
    }

    /// A mistake that follows from another one; nobody sees it.
    pub(super) fn follows() -> Self {
        let nowhere = Location { document: 0, span: 0..0 };
        Self { follows: true, ..Self::new(&nowhere, "", "") }
    }

    /// A section at `location` lacks a key.
    pub(super) fn missing(location: &Location, what: &str, key: &str) -> Self {
        Self::new(location, format!("{what} has no `{key}`"), format!("expected a key `{key}` here"))
            .structural()
    }

    /// Marks a mistake about what is missing or out of place.
    pub(super) fn structural(self) -> Self {
        Self { structural: true, ..self }
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds whose problem it is to the message.
    pub(super) fn of(mut self, what: &str) -> Self {
        self.message += " of ";
        self.message += what;
        self
    }

    /// `word` is none of `known`: names the one that was probably meant, or all of them.
    pub(super) fn unknown(location: &Location, what: &str, word: &str, known: &[&str]) -> Self {
        let label = match nearest(word, known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("expected {}", one_of(known)),
        };
        let problem = Self::new(location, format!("unknown {what} `{word}`"), label);
        match nearest(word, known) {
            Some(_) if known.len() > 1 => problem.help(format!("known: {}", known.join(", "))),
            _ => problem,
        }
    }
}

/// The known word that `word` is most likely a misspelling of.
pub(super) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let close = |candidate: &&str| strsim::normalized_damerau_levenshtein(word, candidate);
    let best = known.iter().max_by(|a, b| close(a).total_cmp(&close(b)))?;
    (close(best) >= 0.6).then_some(*best)
}

/// "`a`, `b` or `c`".
pub(super) fn one_of(words: &[&str]) -> String {
    let quoted: Vec<_> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.as_slice() {
        [] => "nothing".into(),
        [only] => only.clone(),
        [init @ .., last] => format!("{} or {last}", init.join(", ")),
    }
}

/// All mistakes of a job file.
#[derive(Debug)]
pub(crate) struct Mistakes {
    documents: Documents,
    problems: Vec<Problem>,
}

impl Mistakes {
    pub(super) fn new(documents: Documents, problems: Vec<Problem>) -> Self {
        Self { documents, problems }
    }

    /// The mistake of a file that is not there.
    pub(super) fn unreadable(name: &str, error: &std::io::Error) -> Self {
        let location = Location { document: usize::MAX, span: 0..0 };
        let message = format!("the job file {name} cannot be read: {error}");
        Self::new(Documents { texts: Vec::new() }, vec![Problem::new(&location, message, "")])
    }

    /// All of them for a program, each with its place: lines and columns count from 1, columns in characters.
    pub(crate) fn json(&self) -> Value {
        let mistakes: Vec<_> = self.problems.iter().map(|it| self.documents.json(it)).collect();
        json!({ "outcome": "refused", "mistakes": mistakes })
    }

    /// Renders them for a person, each with its line, a mark below it, and advice.
    pub(crate) fn render(&self, color: bool) -> String {
        let each: Vec<_> = self.problems.iter().map(|it| self.documents.render(it, color)).collect();
        let mut text = each.join("\n");
        if self.problems.len() > 1 {
            text += &format!("\nerror: {} mistakes\n", self.problems.len());
        }
        text
    }
}

/// The texts of a job: the file, and the overrides of the command line.
#[derive(Debug)]
pub(super) struct Documents {
    pub(super) texts: Vec<(String, String)>,
}

impl Documents {
    pub(super) fn new(name: String, text: String, overrides: &[String]) -> Self {
        let overrides = overrides.iter().map(|text| ("--set".to_owned(), text.clone()));
        Self { texts: std::iter::once((name, text)).chain(overrides).collect() }
    }

    fn json(&self, problem: &Problem) -> Value {
        let masked = mask_credentials;
        let (message, label) = (masked(&problem.message), masked(&problem.label));
        let mut value = json!({ "message": message, "label": label, "help": problem.help });
        if let (Some((name, text)), Some(members)) =
            (self.texts.get(problem.location.document), value.as_object_mut())
        {
            let place = |at: usize| {
                let before = text.get(..at).unwrap_or(text);
                let line = before.rsplit('\n').next().unwrap_or_default();
                (before.matches('\n').count() + 1, line.chars().count() + 1)
            };
            let ((line, column), (end_line, end_column)) =
                (place(problem.location.span.start), place(problem.location.span.end));
            members.insert("file".into(), name.as_str().into());
            for (key, number) in
                [("line", line), ("column", column), ("end_line", end_line), ("end_column", end_column)]
            {
                members.insert(key.into(), number.into());
            }
        }
        value
    }

    /// Renders the problem with its line, a mark below it, and advice. Shows no credentials: a line may hold
    /// some, whatever is wrong with it.
    pub(super) fn render(&self, problem: &Problem, color: bool) -> String {
        let (message, label) = (mask_credentials(&problem.message), mask_credentials(&problem.label));
        let Some((name, text)) = self.texts.get(problem.location.document) else {
            return format!("error: {message}\n");
        };
        let text = mask_credentials(text);
        let end = problem.location.span.end.min(text.len());
        let span = problem.location.span.start.min(end)..end;
        let mark = AnnotationKind::Primary.span(span).label(label.as_str());
        let snippet = Snippet::source(text.as_str()).path(name.as_str()).annotation(mark);
        let mut group = Level::ERROR.primary_title(message.as_str()).element(snippet);
        if let Some(help) = &problem.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        format!("{}\n", renderer.render(&[group]))
    }
}
