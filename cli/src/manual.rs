//! What the command line has to show of itself: completions for shells, manual pages, and the environment.

use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;
use strandline_state_api::{Error, ErrorKind, Result};

use crate::cli::Cli;
use crate::print_bytes;

/// The variables of the environment that the program reads, for `--help` and the documentation.
pub(crate) const ENVIRONMENT: [(&str, &str); 12] = [
    (
        "STRANDLINE_LOG",
        "what is logged to the standard error: a level (`error`, `warn`, `info`, `debug`, `trace`, \
         `off`), or levels by \
         part, as in `warn,strandline_runtime=debug`. Without it: errors, and warnings of sources and sinks",
    ),
    ("RUST_LOG", "the same, where STRANDLINE_LOG is not set"),
    (
        "NO_COLOR",
        "with any value but an empty one: no colours. There are none elsewhere than on a \
    terminal, either",
    ),
    (
        "STRANDLINE_TOKEN",
        "the token that whoever asks a running job must show: for `run --serve` and `sql URL`; both need it where \
         the address is no loopback one",
    ),
    (
        "STRANDLINE_CLUSTER_TOKEN",
        "the secret that the processes of `run --hosts` show each other, where the file of hosts names no `token_file`",
    ),
    ("HOME", "what `~/` means at the beginning of a path in a job file"),
    (
        "XDG_STATE_HOME",
        "where `strandline/sql_history` is, the history of the prompt; in HOME/.local/state without it",
    ),
    ("TMPDIR", "where temporary directories are: of the demo, and of RocksDB without a `directory`"),
    ("AWS_ACCESS_KEY_ID", "the key for S3"),
    ("AWS_SECRET_ACCESS_KEY", "its secret"),
    ("AWS_SESSION_TOKEN", "the token of a temporary key"),
    ("AWS_REGION", "the region, where the URI has no `region`"),
];

/// The environment as a text below the help.
pub(crate) fn environment() -> String {
    let mut text = "Environment:\n".to_owned();
    for (name, about) in ENVIRONMENT {
        text += &format!("  {name}\n          {}\n", about.replace('`', ""));
    }
    text.trim_end().to_owned()
}

/// Prints the completions for a shell.
pub(crate) fn completions(shell: Shell) {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "strandline", &mut text);
    print_bytes(&text);
}

/// Writes a manual page for each command.
///
/// # Errors
/// When the directory cannot be created or written.
pub(crate) fn pages(directory: &Path) -> Result<()> {
    let failed = |e| {
        Error::new(ErrorKind::Unavailable, "the manual pages cannot be written")
            .with("directory", directory.display())
            .caused_by(e)
    };
    std::fs::create_dir_all(directory).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), directory).map_err(failed)
}
