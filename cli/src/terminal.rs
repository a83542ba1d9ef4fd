//! What the program prints, and who reads it.

use std::ffi::OsStr;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use strandline_state_api::{Error, ErrorKind};

/// The exit code of a program whose reader has gone, as a shell reports it for one that SIGPIPE ended.
pub(crate) const READER_GONE: u8 = 128 + 13;

/// Whether the reader of the standard output has gone.
static GONE: AtomicBool = AtomicBool::new(false);
/// Whether a command has something to clean up before it ends, so that it is not ended where it prints.
static GOES_ON: AtomicBool = AtomicBool::new(false);

/// Lets the program go on when nobody reads its output any more.
pub(crate) fn go_on_without_a_reader() {
    GOES_ON.store(true, Ordering::Relaxed);
}

/// Whether the reader of the standard output has gone.
pub(crate) fn is_reader_gone() -> bool {
    GONE.load(Ordering::Relaxed)
}

/// Prints a line to the standard output. Ends the program, quietly, when nobody reads it any more.
pub(crate) fn print(line: impl Display) {
    print_bytes(format!("{line}\n").as_bytes());
}

/// As [`print`], without a line end.
pub(crate) fn print_bytes(bytes: &[u8]) {
    let mut out = io::stdout().lock();
    let written = out.write_all(bytes).and_then(|()| out.flush());
    if written.is_err_and(|e| e.kind() == io::ErrorKind::BrokenPipe) {
        GONE.store(true, Ordering::Relaxed);
        if !GOES_ON.load(Ordering::Relaxed) {
            std::process::exit(i32::from(READER_GONE));
        }
    }
}

/// Prints a line to the standard error.
pub(crate) fn print_error(line: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Whether what goes to the standard error has colours: on a terminal that can show them, unless NO_COLOR is
/// set.
pub(crate) fn has_colors() -> bool {
    let var = |name| std::env::var_os(name);
    io::stderr().is_terminal() && wants_colors(var("NO_COLOR").as_deref(), var("TERM").as_deref())
}

fn wants_colors(no_color: Option<&OsStr>, term: Option<&OsStr>) -> bool {
    no_color.is_none_or(OsStr::is_empty) && term != Some(OsStr::new("dumb"))
}

/// The error for a row that no printer takes.
pub(crate) fn unprintable(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(ErrorKind::Internal, "a row cannot be printed").caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colors_are_for_those_who_want_them() {
        let wants = |no_color: Option<&str>, term: Option<&str>| {
            wants_colors(no_color.map(OsStr::new), term.map(OsStr::new))
        };
        assert!(wants(None, Some("xterm")) && wants(Some(""), None));
        assert!(!wants(Some("1"), Some("xterm")) && !wants(None, Some("dumb")));
    }
}
