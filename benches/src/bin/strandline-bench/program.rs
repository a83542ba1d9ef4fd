//! The `strandline` program that W1 runs.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use strandline_state_api::{Error, ErrorKind, Result};

/// Builds it beside this program, so that it is never an old one and has `backend`; returns its path.
pub(crate) fn build(backend: &str) -> Result<PathBuf> {
    let failed = |why: &str| {
        Error::new(ErrorKind::Unavailable, format!("{why}; build `strandline` and name it with --program"))
    };
    let own = std::env::current_exe().map_err(|e| failed("this program cannot find itself").caused_by(e))?;
    let folder = own.parent().ok_or_else(|| failed("this program has no directory"))?;
    let target = folder.parent().ok_or_else(|| failed("this program is in no target directory"))?;
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") => "dev",
        Some(profile) => profile,
        None => return Err(failed("this program is in no target directory")),
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let features: &[&str] = if backend == "rocksdb" { &["--features", "rocksdb"] } else { &[] };
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--package", "strandline-cli", "--bin", "strandline"])
        .args(features)
        .args(["--profile", profile, "--target-dir"])
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .map_err(|e| failed("cargo cannot be started").caused_by(e))?;
    let program = folder.join(format!("strandline{}", std::env::consts::EXE_SUFFIX));
    if status.success() && program.is_file() { Ok(program) } else { Err(failed("the build failed")) }
}
