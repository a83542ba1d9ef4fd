//! Directories that nobody else can write to.
//!
//! A directory with a name that others can guess, in a place where they can create files, may be there
//! before: with links in it that lead elsewhere, or owned by somebody who reads and changes what is put into
//! it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use strandline_state_api::{Error, ErrorKind, Result};

use super::failed;

/// The directory for those who set none: one for each user, in the directory for temporary files.
pub(crate) fn default_directory() -> PathBuf {
    let name = match user() {
        Some(user) => format!("strandline-rocksdb-{user}"),
        None => "strandline-rocksdb".to_owned(),
    };
    std::env::temp_dir().join(name)
}

/// Makes a directory that only this user can use; one that is there is checked. The directories above it are
/// made as others are.
pub(crate) fn make_private(directory: &Path) -> Result<()> {
    let made = create(directory).or_else(|error| match (error.kind(), directory.parent()) {
        (io::ErrorKind::NotFound, Some(parent)) => {
            fs::create_dir_all(parent).and_then(|()| create(directory))
        }
        _ => Err(error),
    });
    match made {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => check(directory),
        Err(error) => Err(failed("the directory cannot be made", directory, error)),
    }
}

/// Fails where the name exists, whatever it is.
#[cfg(unix)]
pub(crate) fn create(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().mode(0o700).create(directory)
}

#[cfg(not(unix))]
pub(crate) fn create(directory: &Path) -> io::Result<()> {
    fs::create_dir(directory)
}

fn check(directory: &Path) -> Result<()> {
    let found = fs::symlink_metadata(directory)
        .map_err(|error| failed("the directory cannot be looked at", directory, error))?;
    if !found.is_dir() {
        let what = if found.is_symlink() { "a link" } else { "no directory" };
        return Err(refused(directory, &format!("is {what}")));
    }
    check_owner(directory, &found)
}

#[cfg(unix)]
fn check_owner(directory: &Path, found: &fs::Metadata) -> Result<()> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    if user().is_some_and(|user| user != found.uid()) {
        return Err(refused(directory, &format!("belongs to another user ({})", found.uid())));
    }
    let mode = found.mode() & 0o777;
    if mode & 0o022 != 0 {
        return Err(refused(directory, &format!("can be written to by others (mode {mode:o})")));
    }
    if mode & 0o077 != 0 {
        // Made before directories were private.
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700))
            .map_err(|error| failed("the directory cannot be made private", directory, error))?;
    }
    Ok(())
}

/// Elsewhere the directory for temporary files belongs to the user.
#[cfg(not(unix))]
fn check_owner(_: &Path, _: &fs::Metadata) -> Result<()> {
    Ok(())
}

fn refused(directory: &Path, why: &str) -> Error {
    let message = format!(
        "the working directory of RocksDB {why}, so others could change the state in it; set `directory` to one that \
         belongs to this user alone, or remove it"
    );
    Error::new(ErrorKind::Invalid, message).with("path", directory.display())
}

/// The user whom new files belong to.
#[cfg(unix)]
fn user() -> Option<u32> {
    use std::os::unix::fs::MetadataExt;
    use std::sync::OnceLock;
    static USER: OnceLock<Option<u32>> = OnceLock::new();
    // Without the proc file system, a new file shows it.
    let of_file = || {
        let name = format!("strandline-{}-{:016x}", std::process::id(), random());
        let path = std::env::temp_dir().join(name);
        let file = fs::File::create_new(&path).ok()?;
        let user = file.metadata().ok().map(|metadata| metadata.uid());
        let _ = fs::remove_file(&path);
        user
    };
    *USER.get_or_init(|| fs::metadata("/proc/self").ok().map(|process| process.uid()).or_else(of_file))
}

#[cfg(not(unix))]
fn user() -> Option<u32> {
    None
}

/// Not to be guessed: each hasher of the standard library has keys from the operating system.
#[cfg(unix)]
fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0)
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_new_directory_is_private_and_one_that_is_there_is_checked() {
        let dir = tempfile::tempdir().unwrap();
        let mine = dir.path().join("a/b/mine");
        let mode = || fs::metadata(&mine).unwrap().mode() & 0o777;
        make_private(&mine).unwrap();
        assert_eq!(mode(), 0o700);
        fs::set_permissions(&mine, fs::Permissions::from_mode(0o755)).unwrap();
        make_private(&mine).unwrap();
        assert_eq!(mode(), 0o700, "made by an older version");
        fs::set_permissions(&mine, fs::Permissions::from_mode(0o777)).unwrap();
        let error = make_private(&mine).unwrap_err();
        assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains("777"), "{error}");
    }

    #[test]
    fn links_and_files_in_its_place_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (elsewhere, link, file) =
            (dir.path().join("x"), dir.path().join("link"), dir.path().join("file"));
        fs::create_dir(&elsewhere).unwrap();
        symlink(&elsewhere, &link).unwrap();
        fs::write(&file, "").unwrap();
        for (path, why) in [(&link, "is a link"), (&file, "is no directory")] {
            let error = make_private(path).unwrap_err();
            assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains(why), "{error}");
        }
        symlink(dir.path().join("nowhere"), dir.path().join("dangling")).unwrap();
        assert!(make_private(&dir.path().join("dangling")).is_err(), "nothing is made where a link leads");
        assert!(!dir.path().join("nowhere").exists());
    }

    #[test]
    fn each_user_has_a_directory_of_its_own() {
        let user = fs::metadata("/proc/self").map(|process| process.uid()).ok();
        if let Some(user) = user {
            assert!(default_directory().ends_with(format!("strandline-rocksdb-{user}")));
        }
    }
}
