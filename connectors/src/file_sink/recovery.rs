//! Brings the output directory to the state of a checkpoint.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use strandline_state_api::{CheckpointId, Error, Result};

use super::committable::PendingFile;
use super::naming::{Name, Naming};
use super::{failed, remove, sync_directory};

pub(super) fn recover(
    directory: &Path,
    naming: Naming<'_>,
    checkpoint: Option<CheckpointId>,
    files: &[PendingFile],
) -> Result<()> {
    fs::create_dir_all(directory).map_err(|e| failed("created", directory, e))?;
    // All are checked before the first is renamed.
    files.iter().try_for_each(|file| file.check(naming))?;
    files.iter().try_for_each(|file| file.commit(directory))?;
    let named: BTreeSet<&str> = files.iter().map(|file| file.name.as_str()).collect();

    let mut not_ours_to_touch = Vec::new();
    for entry in fs::read_dir(directory).map_err(|e| failed("listed", directory, e))? {
        let entry = entry.map_err(|e| failed("listed", directory, e))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        match (naming.parse(&name), checkpoint) {
            // No checkpoint names it any more: the job produces its records again.
            (Name::Temporary, _) => remove(&entry.path())?,
            (Name::Visible(of), Some(restored)) if of > restored && !named.contains(name.as_ref()) => {
                remove(&entry.path())?;
            }
            (_, None) => not_ours_to_touch.push(name.into_owned()),
            (_, Some(_)) => {}
        }
    }
    not_ours_to_touch.sort_unstable();
    if let Some(first) = not_ours_to_touch.first() {
        let message = "the output directory of a new job is not empty: empty it, choose another one, or \
                       resume from the checkpoint that these results belong to";
        return Err(Error::invalid(message)
            .with("directory", directory.display())
            .with("files", not_ours_to_touch.len())
            .with("first", first));
    }
    sync_directory(directory)
}
