//! Brings the output directory to the state of a checkpoint.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use strandline_state_api::{CheckpointId, Error, Result};

use super::committable::Committable;
use super::naming::{Name, Naming};
use super::{failed, remove, sync_directory};

pub(super) fn recover(
    directory: &Path,
    naming: Naming<'_>,
    checkpoint: Option<CheckpointId>,
    elements: &[Vec<u8>],
) -> Result<()> {
    fs::create_dir_all(directory).map_err(|e| failed("created", directory, e))?;
    let files =
        elements.iter().map(|bytes| Committable::decode(bytes, naming)).collect::<Result<Vec<_>>>()?;
    for file in &files {
        file.commit(directory)?;
    }
    let named: BTreeSet<&str> = files.iter().map(|file| file.name.as_str()).collect();

    let mut not_ours_to_touch = Vec::new();
    for entry in fs::read_dir(directory).map_err(|e| failed("listed", directory, e))? {
        let entry = entry.map_err(|e| failed("listed", directory, e))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        match (naming.parse(&name), checkpoint) {
            // Nobody names it any more: what it holds is produced again.
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
        let message = "the output directory of a new job is not empty: empty it, choose another one, or resume from \
                       the checkpoint that these results belong to";
        return Err(Error::invalid(message)
            .with("directory", directory.display())
            .with("files", not_ours_to_touch.len())
            .with("first", first));
    }
    sync_directory(directory)
}
