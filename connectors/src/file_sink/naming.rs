//! The names of output files, and which names are ours.

use strandline_state_api::{CheckpointId, Error, Result};

/// How one sink names its files.
#[derive(Clone, Copy, Debug)]
pub(super) struct Naming<'a> {
    pub(super) prefix: &'a str,
    pub(super) extension: &'a str,
}

/// A name in the output directory, understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// A file of ours that a subtask writes to, or wrote to when it died.
    Temporary,
    /// A finished file of ours.
    Visible(CheckpointId),
    /// Not ours.
    Foreign,
}

const SUFFIX: &str = ".inprogress";

impl Naming<'_> {
    /// The name of a file until it is finished.
    pub(super) fn temporary(self, attempt: &str, subtask: u32, number: u64) -> String {
        format!(".{}-{attempt}-{subtask:05}-{number}{SUFFIX}", self.prefix)
    }

    /// The name of a finished file.
    pub(super) fn visible(self, checkpoint: CheckpointId, subtask: u32, attempt: &str) -> String {
        format!("{}-{:010}-{subtask:05}-{attempt}.{}", self.prefix, checkpoint.0, self.extension)
    }

    /// Reads a name back.
    pub(super) fn parse(self, name: &str) -> Name {
        if let Some(rest) = name.strip_prefix('.') {
            let ours = rest.strip_suffix(SUFFIX).and_then(|rest| rest.strip_prefix(self.prefix));
            let number = ours.and_then(|rest| rest.strip_prefix('-')).and_then(|rest| {
                let (rest, number) = rest.rsplit_once('-')?;
                let (attempt, subtask) = rest.rsplit_once('-')?;
                (is_label(attempt) && is_number(subtask) && is_number(number)).then_some(())
            });
            return number.map_or(Name::Foreign, |()| Name::Temporary);
        }
        self.parse_visible(name).map_or(Name::Foreign, Name::Visible)
    }

    fn parse_visible(self, name: &str) -> Option<CheckpointId> {
        let rest = name.strip_prefix(self.prefix)?.strip_prefix('-')?;
        let rest = rest.strip_suffix(self.extension)?.strip_suffix('.')?;
        let (checkpoint, rest) = rest.split_once('-')?;
        let (subtask, attempt) = rest.split_once('-')?;
        let ours = checkpoint.len() >= 10 && is_number(checkpoint) && is_number(subtask) && is_label(attempt);
        checkpoint.parse().ok().filter(|_| ours).map(CheckpointId)
    }
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
        assert_eq!(naming.parse(&naming.temporary("a-1_b", 3, 12)), Name::Temporary);
        let visible = naming.visible(CheckpointId(12_345_678_901), 70_000, "a-1");
        assert_eq!(naming.parse(&visible), Name::Visible(CheckpointId(12_345_678_901)));
        for foreign in [
            "part.csv",
            "part-1-2-a.csv",
            "part-0000000001-00000-a.json",
            "part-0000000001-00000-.csv",
            "part-0000000001-x-a.csv",
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
