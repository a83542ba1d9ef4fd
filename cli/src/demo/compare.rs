//! Compares the results in two directories, whatever the files of each sink and their order.

use std::fmt;
use std::fs;
use std::path::Path;

use strandline_state_api::Result;

use super::failed;

/// The difference of two results.
#[derive(Debug, Default)]
pub(super) struct Difference {
    pub(super) expected: u64,
    pub(super) found: u64,
    /// Results that are missing, or occur too rarely.
    pub(super) missing: Vec<String>,
    /// Results that should not occur, or not so often.
    pub(super) surplus: Vec<String>,
    /// How many files are not finished.
    pub(super) unfinished: u64,
}

impl Difference {
    pub(super) fn is_equal(&self) -> bool {
        self.missing.is_empty() && self.surplus.is_empty() && self.unfinished == 0
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} results expected, {} found", self.expected, self.found)?;
        for (what, lines) in [("missing", &self.missing), ("surplus", &self.surplus)] {
            if let Some(first) = lines.first() {
                write!(f, "; {} {what}, the first is {first}", lines.len())?;
            }
        }
        if self.unfinished > 0 {
            write!(f, "; {} files are not finished", self.unfinished)?;
        }
        Ok(())
    }
}

/// Compares what both directories have in each of `sinks`, a directory in them.
pub(super) fn compare(expected: &Path, found: &Path, sinks: &[&str]) -> Result<Difference> {
    let mut all = Difference::default();
    for sink in sinks {
        let of_sink = compare_sink(&expected.join(sink), &found.join(sink))?;
        all.expected += of_sink.expected;
        all.found += of_sink.found;
        all.missing.extend(of_sink.missing);
        all.surplus.extend(of_sink.surplus);
        all.unfinished += of_sink.unfinished;
    }
    Ok(all)
}

fn compare_sink(expected: &Path, found: &Path) -> Result<Difference> {
    let (expected, _) = lines(expected)?;
    let (found, unfinished) = lines(found)?;
    let (mut missing, mut surplus) = (Vec::new(), Vec::new());
    let (mut a, mut b) = (expected.iter().peekable(), found.iter().peekable());
    loop {
        match (a.peek(), b.peek()) {
            (Some(x), Some(y)) if x == y => {
                a.next();
                b.next();
            }
            (Some(x), Some(y)) if x > y => surplus.extend(b.next().cloned()),
            (None, Some(_)) => surplus.extend(b.next().cloned()),
            (Some(_), _) => missing.extend(a.next().cloned()),
            (None, None) => break,
        }
    }
    let (expected, found) = (expected.len() as u64, found.len() as u64);
    Ok(Difference { expected, found, missing, surplus, unfinished })
}

/// All lines of the finished files in `folder`, sorted, and how many files are not finished.
fn lines(folder: &Path) -> Result<(Vec<String>, u64)> {
    let (mut lines, mut unfinished) = (Vec::new(), 0);
    let mut read = || -> std::io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.ends_with(".inprogress") {
                unfinished += 1;
            } else if !name.starts_with('.') {
                lines.extend(fs::read_to_string(path)?.lines().map(str::to_owned));
            }
        }
        Ok(())
    };
    read().map_err(|e| failed("the results cannot be read", e))?;
    lines.sort_unstable();
    Ok((lines, unfinished))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_doubled_and_unfinished_results_are_seen() {
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        for folder in &folders {
            fs::create_dir(folder.path().join("sink")).unwrap();
        }
        let write = |folder: usize, name: &str, text: &str| {
            fs::write(folders[folder].path().join("sink").join(name), text).unwrap();
        };
        let compare = || compare(folders[0].path(), folders[1].path(), &["sink"]).unwrap();
        write(0, "a", "1\n2\n");
        write(0, "b", "3\n");
        write(1, "x", "3\n2\n1\n");
        assert!(compare().is_equal());
        write(1, "y", "2\n");
        assert_eq!(compare().surplus, ["2"]);
        write(1, "x", "2\n1\n");
        write(1, "y", "0\n");
        let difference = compare();
        assert_eq!(
            (&*difference.surplus, &*difference.missing),
            (&["0".to_owned()][..], &["3".to_owned()][..])
        );
        write(1, ".part.owner", "");
        assert_eq!(compare().unfinished, 0, "that is no result");
        write(1, ".z.inprogress", "");
        assert_eq!(compare().unfinished, 1);
    }
}
