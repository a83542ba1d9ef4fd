//! Where benches write.

use std::path::PathBuf;

use strandline_state_api::{Error, Result};
use tempfile::TempDir;

/// The environment variable that names the directory.
pub const DIR_VARIABLE: &str = "STRANDLINE_BENCH_DIR";

/// Makes a new directory that is deleted when it is dropped: in the directory that [`DIR_VARIABLE`] names,
/// else beside the running program. The system's directory for temporary files may be in memory, where
/// nothing is ever synced to a disk.
///
/// # Errors
/// When it cannot be created.
pub fn directory() -> Result<TempDir> {
    let beside = || std::env::current_exe().ok()?.parent().map(PathBuf::from);
    let parent = std::env::var_os(DIR_VARIABLE).map(PathBuf::from).or_else(beside).unwrap_or_default();
    let made = tempfile::Builder::new().prefix("strandline-bench-").tempdir_in(&parent);
    made.map_err(|e| {
        Error::invalid(format!("no directory can be made here; set {DIR_VARIABLE} to another place"))
            .with("place", parent.display())
            .caused_by(e)
    })
}
