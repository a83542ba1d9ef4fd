//! Paths in a job file.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use percent_encoding::percent_decode_str;
use strandline_connectors::{InputPath, OutputPath};

use super::problem::Problem;
use super::section;
use super::tree::Node;

/// Reads a path. A relative one begins at the folder of the job file, and `~/` stands for the home directory,
/// as a shell has it.
pub(super) fn parse(node: &Node, folder: &Path, what: &str) -> Result<PathBuf, Problem> {
    resolve(node, folder, what, std::env::var_os("HOME"))
}

/// Reads the path of an input: also `-` for standard input, and the URI of an object or a prefix in a store.
pub(super) fn input(node: &Node, folder: &Path) -> Result<InputPath, Problem> {
    let text = section::text(node)?;
    if text == "-" {
        return Ok(InputPath::from("-"));
    }
    if text.starts_with("s3:") {
        return InputPath::in_store(text).map_err(|e| Problem::new(&node.location, e.to_string(), OBJECTS));
    }
    local(node, folder, "a file or a directory").map(InputPath::from)
}

/// Reads the path of a directory for results, or the URI of a prefix in a store.
pub(super) fn output(node: &Node, folder: &Path) -> Result<OutputPath, Problem> {
    let text = section::text(node)?;
    if text.starts_with("s3:") {
        return OutputPath::in_store(text).map_err(|e| Problem::new(&node.location, e.to_string(), OBJECTS));
    }
    local(node, folder, "a directory").map(OutputPath::from)
}

const OBJECTS: &str =
    "expected s3://bucket/prefix/, with options as ?region=…&endpoint=…, and keys in the environment";

/// A path, or the URI of one: `file:///absolute/path`.
fn local(node: &Node, folder: &Path, what: &str) -> Result<PathBuf, Problem> {
    match section::text(node)?.strip_prefix("file://") {
        Some(path) if path.starts_with('/') && path.len() > 1 => match percent_decode_str(path).decode_utf8()
        {
            Ok(path) => Ok(PathBuf::from(path.as_ref())),
            Err(_) => Err(node.unexpected("a path in UTF-8 behind file://")),
        },
        _ => parse(node, folder, what),
    }
}

/// Whether the directory is the input.
pub(super) fn is_input(directory: &OutputPath, input: &InputPath) -> bool {
    match input.on_disk() {
        Some(input) => *directory == OutputPath::from(input),
        None => directory.display().to_string() == input.display().to_string().trim_end_matches('/'),
    }
}

fn resolve(node: &Node, folder: &Path, what: &str, home: Option<OsString>) -> Result<PathBuf, Problem> {
    let text = section::text(node)?;
    if text.is_empty() {
        return Err(node.unexpected(&format!("the path of {what}")));
    }
    let wrong = |message: &str, label: &str| Err(Problem::new(&node.location, message, label));
    if text.starts_with("file:") || text.contains("://") {
        return wrong("a path is expected here, and not a URL", "write the path alone");
    }
    match (text.strip_prefix('~'), home.map(PathBuf::from)) {
        (Some(""), Some(home)) if home.is_absolute() => Ok(home),
        (Some(below), Some(home)) if below.starts_with('/') && home.is_absolute() => {
            Ok(home.join(below.trim_start_matches('/')))
        }
        (Some(below), _) if below.is_empty() || below.starts_with('/') => {
            wrong("the home directory is not known", "write an absolute path; HOME is not set to one")
        }
        // `~name` is another user's home for a shell, and a name like any other in a directory.
        (Some(_), _) => wrong(
            "`~` stands for the home directory before `/` only",
            "write an absolute path, or ./ before a name that begins so",
        ),
        (None, _) => Ok(folder.join(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobfile::problem::Location;
    use crate::jobfile::tree::TreeValue;

    #[test]
    fn a_path_is_what_a_shell_would_make_of_it_or_refused() {
        let path = |text: &str, home: Option<&str>| {
            let node = Node::new(Location { document: 0, span: 0..1 }, TreeValue::Text(text.into()));
            resolve(&node, Path::new("/jobs"), "a file", home.map(OsString::from))
                .map_err(|problem| problem.message)
        };
        let home = Some("/home/ann");
        for (text, wanted) in [
            ("in", "/jobs/in"),
            ("/in", "/in"),
            ("~/in", "/home/ann/in"),
            ("~", "/home/ann"),
            ("./~in", "/jobs/./~in"),
            ("in/~", "/jobs/in/~"),
        ] {
            assert_eq!(path(text, home), Ok(wanted.into()), "{text}");
        }
        for text in ["", "~bob/in", "file:/in", "file:///in", "s3://in"] {
            assert!(path(text, home).is_err(), "{text}");
        }
        assert!(path("~/in", None).is_err_and(|message| message.contains("home")));
    }
}
