//! The names of output files, and which names are ours.

use strandline_runtime::sink::Term;
use strandline_state_api::{CheckpointId, Error, Result};

/// How one sink names its files.
#[derive(Clone, Copy, Debug)]
pub(super) struct Naming<'a> {
    pub(super) prefix: &'a str,
    pub(super) extension: &'a str,
}

/// A name in the output directory, understood. Names that the first version made have no term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// A file of ours that a subtask writes to, or wrote to when it died.
    Temporary(Option<Term>),
    /// A finished file of ours.
    Visible(Option<Term>, CheckpointId),
    /// Not ours.
    Foreign,
}

const SUFFIX: &str = ".inprogress";
/// Stands where an attempt does in the name of a record that claims the directory. No attempt is called so.
const CLAIM: &str = "claiming";

impl Naming<'_> {
    /// The name of a file until it is finished. It is foreign to the first version, whose recovery removes
    /// all temporary files that it knows.
    pub(super) fn temporary(self, term: Term, attempt: &str, subtask: u32, number: u64) -> String {
        format!(".{}-t{:010}-{attempt}-{subtask:05}-n{number}{SUFFIX}", self.prefix, term.0)
    }

    /// The name of a finished file. Names sort by age.
    pub(super) fn visible(self, term: Term, checkpoint: CheckpointId, subtask: u32, attempt: &str) -> String {
        let (prefix, extension) = (self.prefix, self.extension);
        format!("{prefix}-t{:010}-{:010}-{subtask:05}-{attempt}.{extension}", term.0, checkpoint.0)
    }

    /// The name of the file that names the job to which the directory belongs.
    pub(super) fn owner(self) -> String {
        format!(".{}.owner", self.prefix)
    }

    /// The name of the file that records how far commits have begun.
    pub(super) fn committing(self) -> String {
        format!(".{}.committing", self.prefix)
    }

    /// Whether this is a finished file of a sink with this prefix, whatever its format.
    pub(super) fn is_result(self, name: &str) -> bool {
        let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
        Naming { extension, ..self }.parse_visible(name).is_some()
    }

    /// Reads a name back.
    pub(super) fn parse(self, name: &str) -> Name {
        let parsed = match name.strip_prefix('.') {
            Some(rest) => self.parse_temporary(rest).map(Name::Temporary),
            None => self.parse_visible(name).map(|(term, checkpoint)| Name::Visible(term, checkpoint)),
        };
        parsed.unwrap_or(Name::Foreign)
    }

    /// The name under which a process writes who owns the directory, before it creates the file of the owner.
    pub(super) fn claim(self, term: Term) -> String {
        self.temporary(term, CLAIM, std::process::id(), 0)
    }

    /// Whether a process died while it claimed the directory, and left this.
    pub(super) fn is_claim(self, name: &str) -> bool {
        let is_ours = |rest: &str| self.parse_temporary(rest).is_some();
        let rest = name.strip_prefix('.').filter(|rest| is_ours(rest));
        rest.and_then(|rest| rest.strip_prefix(self.prefix)?.strip_prefix('-'))
            .and_then(split_term)
            .is_some_and(|(_, rest)| rest.strip_prefix(CLAIM).is_some_and(|rest| rest.starts_with('-')))
    }

    fn parse_temporary(self, rest: &str) -> Option<Option<Term>> {
        let rest = rest.strip_suffix(SUFFIX)?.strip_prefix(self.prefix)?.strip_prefix('-')?;
        let (rest, number) = rest.rsplit_once('-')?;
        let (rest, subtask) = rest.rsplit_once('-')?;
        let (term, number, attempt) = match number.strip_prefix('n') {
            Some(number) => {
                let (term, attempt) = split_term(rest)?;
                (Some(term), number, attempt)
            }
            None => (None, number, rest),
        };
        (is_label(attempt) && is_number(subtask) && is_number(number)).then_some(term)
    }

    fn parse_visible(self, name: &str) -> Option<(Option<Term>, CheckpointId)> {
        let rest = name.strip_prefix(self.prefix)?.strip_prefix('-')?;
        let rest = rest.strip_suffix(self.extension)?.strip_suffix('.')?;
        let (term, rest) = split_term(rest).map_or((None, rest), |(term, rest)| (Some(term), rest));
        let (checkpoint, rest) = rest.split_once('-')?;
        let (subtask, attempt) = rest.split_once('-')?;
        let ours = is_number(subtask) && is_label(attempt);
        parse_long(checkpoint).filter(|_| ours).map(|checkpoint| (term, CheckpointId(checkpoint)))
    }
}

/// The term at the beginning of a name, and the rest.
fn split_term(text: &str) -> Option<(Term, &str)> {
    let (term, rest) = text.strip_prefix('t')?.split_once('-')?;
    Some((Term(parse_long(term)?), rest))
}

/// A number of ten digits or more.
fn parse_long(text: &str) -> Option<u64> {
    text.parse().ok().filter(|_| text.len() >= 10 && is_number(text))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_label(text: &str) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    (1..=100).contains(&text.len()) && text.bytes().all(legal)
}

/// Whether `text` can be part of a file name.
pub(super) fn check(text: &str, what: &str) -> Result<()> {
    if is_label(text) {
        return Ok(());
    }
    Err(Error::invalid(format!("{what} must be 1 to 100 letters, digits, '_' or '-', not {text:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_names_are_ours() {
        let naming = Naming { prefix: "part", extension: "csv" };
        let (term, checkpoint) = (Term(7), CheckpointId(12_345_678_901));
        assert_eq!(naming.parse(&naming.temporary(term, "a-1_b", 3, 12)), Name::Temporary(Some(term)));
        let visible = naming.visible(term, checkpoint, 70_000, "a-1");
        assert_eq!(naming.parse(&visible), Name::Visible(Some(term), checkpoint));
        assert_eq!(naming.parse(".part-a-1_b-00003-12.inprogress"), Name::Temporary(None));
        assert_eq!(naming.parse("part-12345678901-70000-t0000000007-1.csv"), Name::Visible(None, checkpoint));
        for foreign in [
            "part.csv",
            "part-1-2-a.csv",
            "part-0000000001-00000-a.json",
            "part-0000000001-00000-.csv",
            "part-0000000001-x-a.csv",
            "part-t7-0000000001-00000-a.csv",
            "part-t0000000007-1-00000-a.csv",
            ".part-a-00000-n0.inprogress",
            ".part-t0000000007-00000-n0.inprogress",
            "partly-0000000001-00000-a.csv",
            ".part-a-00000-0.tmp",
            ".part-00000-0.inprogress",
            ".party-a-00000-0.inprogress",
            "results.csv",
        ] {
            assert_eq!(naming.parse(foreign), Name::Foreign, "{foreign}");
        }
    }
}
