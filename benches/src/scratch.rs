//! Where benches write.

use std::path::PathBuf;

use strandline_state_api::{Error, Result};
use tempfile::TempDir;

/// The variable that says where.
pub const DIR_VARIABLE: &str = "STRANDLINE_BENCH_DIR";

/// A new directory that goes when it is dropped: in the directory that [`DIR_VARIABLE`] names, else beside the running program.
///
/// Not in the system's place for temporary files, which may be in memory, where nothing is ever synced to a disk.
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
