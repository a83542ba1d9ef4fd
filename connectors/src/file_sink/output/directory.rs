//! The output directory, made so that it is there after a loss of power, too.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::Path;

/// Creates `directory` with all above it that are missing, each synced in its parent: a directory whose entry
/// is lost takes its files with it.
pub(super) fn create(directory: &Path) -> io::Result<()> {
    create_with(directory, &mut |parent| File::open(parent)?.sync_all())
}

fn create_with(directory: &Path, sync: &mut impl FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
    let parent = directory.parent().map(|parent| match parent.as_os_str().is_empty() {
        true => Path::new("."),
        false => parent,
    });
    match fs::create_dir(directory) {
        Ok(()) => parent.map_or(Ok(()), sync),
        // Whoever created it may not have come to its sync.
        Err(_) if directory.is_dir() => parent.map_or(Ok(()), sync),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let Some(parent) = parent.filter(|parent| !parent.exists()) else { return Err(error) };
            create_with(parent, sync)?;
            create_with(directory, sync)
        }
        Err(error) => Err(error),
    }
}

/// Checks that `directory` is a directory, or could be created, and is not read-only. Changes nothing.
///
/// # Errors
/// As those of the system when the directory would be created.
pub fn check_writable(directory: &Path) -> io::Result<()> {
    let there =
        directory.ancestors().find(|path| path.as_os_str().is_empty() || path.symlink_metadata().is_ok());
    let there = there.filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let metadata = fs::metadata(there)?;
    if !metadata.is_dir() {
        return Err(ErrorKind::NotADirectory.into());
    }
    if metadata.permissions().readonly() {
        return Err(ErrorKind::PermissionDenied.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn each_new_directory_is_synced_in_its_parent() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("a/b"));
        let create = |directory: &Path| {
            let mut synced: Vec<PathBuf> = Vec::new();
            create_with(directory, &mut |parent| {
                synced.push(parent.to_owned());
                Ok(())
            })
            .map(|()| synced)
        };
        assert_eq!(create(&b.join("c")).unwrap(), [dir.path(), &a, &b]);
        assert_eq!(create(&b.join("c")).unwrap(), [&*b], "the process that made it may have died before");
        fs::write(dir.path().join("file"), "").unwrap();
        assert!(create(&dir.path().join("file")).is_err());
        assert!(create(&dir.path().join("file/below")).is_err());
        create(Path::new(".")).expect("a directory without a name of its own");
    }

    #[test]
    fn a_directory_can_be_made_for_good() {
        let dir = tempfile::tempdir().unwrap();
        super::create(&dir.path().join("x/y")).unwrap();
        assert!(dir.path().join("x/y").is_dir());
    }
}
