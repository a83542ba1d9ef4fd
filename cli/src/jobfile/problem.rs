//! A mistake in a job file, and how it is shown.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

/// Where something stands: in which document, and at which bytes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(super) document: usize,
    pub(super) span: Range<usize>,
}

/// What is wrong, where, and what to write instead.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    pub(super) place: Place,
    pub(super) message: String,
    /// What stands beside the marked place.
    pub(super) label: String,
    pub(super) help: Option<String>,
}

impl Problem {
    pub(super) fn new(place: &Place, message: impl Into<String>, label: impl Into<String>) -> Self {
        Self { place: place.clone(), message: message.into(), label: label.into(), help: None }
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Says what it is a problem of.
    pub(super) fn of(mut self, what: &str) -> Self {
        self.message += " of ";
        self.message += what;
        self
    }

    /// `word` is none of `known`: says which one was probably meant, or which ones there are.
    pub(super) fn unknown(place: &Place, what: &str, word: &str, known: &[&str]) -> Self {
        let label = match nearest(word, known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("expected {}", one_of(known)),
        };
        let problem = Self::new(place, format!("unknown {what} `{word}`"), label);
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

/// The texts that a job is read from: the file, and the overrides of the command line.
#[derive(Debug)]
pub(crate) struct Documents {
    pub(super) texts: Vec<(String, String)>,
}

impl Documents {
    pub(super) fn new(name: String, text: String, overrides: &[String]) -> Self {
        let overrides = overrides.iter().map(|text| ("--set".to_owned(), text.clone()));
        Self { texts: std::iter::once((name, text)).chain(overrides).collect() }
    }

    /// The problem with the line that it is in, a mark below it, and advice.
    pub(super) fn render(&self, problem: &Problem, color: bool) -> String {
        let Some((name, text)) = self.texts.get(problem.place.document) else {
            return format!("error: {}\n", problem.message);
        };
        let end = problem.place.span.end.min(text.len());
        let span = problem.place.span.start.min(end)..end;
        let mark = AnnotationKind::Primary.span(span).label(problem.label.as_str());
        let snippet = Snippet::source(text.as_str()).path(name.as_str()).annotation(mark);
        let mut group = Level::ERROR.primary_title(problem.message.as_str()).element(snippet);
        if let Some(help) = &problem.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        format!("{}\n", renderer.render(&[group]))
    }
}
