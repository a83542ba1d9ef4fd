//! A directory on a disk.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use strandline_state_api::{Error, Result};

use super::{Output, Published, Writing, directory, failed};

#[derive(Debug)]
pub(super) struct Disk {
    directory: PathBuf,
}

impl Disk {
    pub(super) fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Writes a file of this content under a name that nobody else takes.
    fn stage(&self, name: &str, content: &[u8]) -> Result<PathBuf> {
        let path = self.path(name);
        File::create(&path)
            .and_then(|mut file| file.write_all(content).and_then(|()| file.sync_all()))
            .map_err(|e| at("created", &path, e))?;
        Ok(path)
    }
}

fn at(what: &str, path: &Path, e: io::Error) -> Error {
    failed(what, path.display(), e)
}

impl Output for Disk {
    fn locate(&self, name: &str) -> String {
        match name {
            "" => self.directory.display().to_string(),
            name => self.path(name).display().to_string(),
        }
    }

    fn identity(&self) -> String {
        let directory = self.directory.canonicalize().unwrap_or_else(|_| self.directory.clone());
        directory.to_string_lossy().into_owned()
    }

    fn inspect(&self) -> Result<bool> {
        directory::check_writable(&self.directory).map_err(|e| at("written", &self.directory, e))?;
        Ok(self.directory.exists())
    }

    fn create(&self) -> Result<()> {
        directory::create(&self.directory).map_err(|e| at("created", &self.directory, e))
    }

    fn list(&self) -> Result<Vec<String>> {
        let failed = |e| at("listed", &self.directory, e);
        let name = |entry: io::Result<fs::DirEntry>| entry.map(|entry| entry.file_name());
        let names = fs::read_dir(&self.directory).map_err(failed)?.map(name);
        // A name that is no text is none of a sink.
        let text =
            |name: io::Result<std::ffi::OsString>| name.map(|name| name.into_string().ok()).transpose();
        names.filter_map(text).collect::<io::Result<_>>().map_err(failed)
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let path = self.path(name);
        match fs::read(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            read => read.map(Some).map_err(|e| at("read", &path, e)),
        }
    }

    fn create_record(&self, name: &str, staged: &str, content: &[u8]) -> Result<()> {
        let staged = self.stage(staged, content)?;
        let linked = fs::hard_link(&staged, self.path(name));
        fs::remove_file(&staged).map_err(|e| at("removed", &staged, e))?;
        match linked {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(at("linked", &staged, e)),
            _ => self.sync(),
        }
    }

    fn replace_record(&self, name: &str, staged: &str, content: &[u8]) -> Result<()> {
        let staged = self.stage(staged, content)?;
        fs::rename(&staged, self.path(name)).map_err(|e| at("renamed", &staged, e))?;
        self.sync()
    }

    fn read_newest(&self, name: &str) -> Result<Option<Vec<u8>>> {
        self.read(name)
    }

    fn supersede(&self, name: &str, _: [u64; 2], staged: &str, content: &[u8]) -> Result<()> {
        self.replace_record(name, staged, content)
    }

    fn remove_versions(&self, name: &str) -> Result<()> {
        self.remove(name)
    }

    fn remove(&self, name: &str) -> Result<()> {
        let path = self.path(name);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(at("removed", &path, e)),
            _ => Ok(()),
        }
    }

    fn discard(&self, waiting: &str) -> Result<()> {
        self.remove(waiting)
    }

    /// A file has one name at a time.
    fn forget(&self, _: &str) -> Result<()> {
        Ok(())
    }

    fn is_named_at_once(&self) -> bool {
        false
    }

    fn begin(&self, waiting: &str, _: &str) -> Result<Box<dyn Writing>> {
        let path = self.path(waiting);
        let file = File::create_new(&path).map_err(|e| at("created", &path, e))?;
        let (name, directory) = (waiting.to_owned(), self.directory.clone());
        Ok(Box::new(DiskFile { file, name, path, directory }))
    }

    fn len_waiting(&self, waiting: &str) -> Result<Option<u64>> {
        self.len_visible(waiting)
    }

    fn len_visible(&self, visible: &str) -> Result<Option<u64>> {
        let path = self.path(visible);
        match fs::symlink_metadata(&path) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(at("read", &path, e)),
        }
    }

    fn publish(&self, waiting: &str, visible: &str, bytes: u64) -> Result<Published> {
        match self.len_waiting(waiting)? {
            None => return Ok(Published::Gone),
            Some(length) if length != bytes => return Ok(Published::WrongLength(length)),
            Some(_) => {}
        }
        let from = self.path(waiting);
        match fs::rename(&from, self.path(visible)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Published::Gone),
            renamed => renamed.map(|()| Published::Yes).map_err(|e| at("renamed", &from, e)),
        }
    }

    fn sync(&self) -> Result<()> {
        File::open(&self.directory).and_then(|d| d.sync_all()).map_err(|e| at("synced", &self.directory, e))
    }
}

#[derive(Debug)]
struct DiskFile {
    file: File,
    name: String,
    path: PathBuf,
    directory: PathBuf,
}

impl Writing for DiskFile {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| at("written", &self.path, e))
    }

    fn finish(self: Box<Self>) -> Result<String> {
        self.file.sync_all().map_err(|e| at("synced", &self.path, e))?;
        // The checkpoint relies on the name too.
        let synced = File::open(&self.directory).and_then(|d| d.sync_all());
        synced.map_err(|e| at("synced", &self.directory, e))?;
        Ok(self.name)
    }
}
