//! `strandline`: runs streaming jobs that are described in files, and inspects their checkpoints and the state in them.
//!
//! Exit codes: 0 when the job finished or was stopped gracefully, 1 when it failed, 2 for a mistake in the
//! command line or the job file, 130 when a second Ctrl-C cut it off, 141 when nobody reads the output any
//! more.

fn main() -> std::process::ExitCode {
    strandline_cli::main()
}
