//! Paths in a job file.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::problem::Problem;
use super::section;
use super::tree::Node;

/// Reads a path. A relative one begins at the folder of the job file, and `~/` stands for the home directory,
/// as a shell has it.
pub(super) fn parse(node: &Node, folder: &Path, what: &str) -> Result<PathBuf, Problem> {
    resolve(node, folder, what, std::env::var_os("HOME"))
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

/// Whether both are the same place.
pub(super) fn same(a: &Path, b: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    real(a) == real(b)
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
