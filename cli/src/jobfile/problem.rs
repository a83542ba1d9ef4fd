//! A mistake in a job file, and its report.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use strandline_checkpoint_storage::mask_credentials;

/// Where a key or a value is: in which document, and at which bytes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    pub(super) document: usize,
    pub(super) span: Range<usize>,
}

/// A mistake: what is wrong, where, and what to write instead.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    pub(super) location: Location,
    pub(super) message: String,
    /// The text beside the marked bytes.
    pub(super) label: String,
    pub(super) help: Option<String>,
}

impl Problem {
    pub(super) fn new(location: &Location, message: impl Into<String>, label: impl Into<String>) -> Self {
        Self { location: location.clone(), message: message.into(), label: label.into(), help: None }
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
fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
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

/// The texts of a job: the file, and the overrides of the command line.
#[derive(Debug)]
pub(crate) struct Documents {
    pub(super) texts: Vec<(String, String)>,
}

impl Documents {
    pub(super) fn new(name: String, text: String, overrides: &[String]) -> Self {
        let overrides = overrides.iter().map(|text| ("--set".to_owned(), text.clone()));
        Self { texts: std::iter::once((name, text)).chain(overrides).collect() }
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
