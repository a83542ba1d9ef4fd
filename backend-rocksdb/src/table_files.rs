//! Table files that are made beside the database, and handed to it whole.

use std::path::PathBuf;

use rocksdb::SstFileWriter;
use strandline_state_api::Result;

use crate::database::{Database, failed};

/// Writes table files of about the size of those that the database makes itself. Addresses come in order, each
/// once. What was written is deleted with this value, unless the database has taken it.
pub(crate) struct TableFiles<'a> {
    database: &'a Database,
    base: PathBuf,
    open: Option<SstFileWriter<'a>>,
    /// Bytes of keys and values in the open file.
    bytes: u64,
    files: Vec<PathBuf>,
}

impl<'a> TableFiles<'a> {
    pub(crate) fn new(database: &'a Database) -> Self {
        Self { database, base: database.cut_path(), open: None, bytes: 0, files: Vec::new() }
    }

    pub(crate) fn put(&mut self, address: &[u8], value: &[u8]) -> Result<()> {
        self.write(address.len() + value.len(), |writer| writer.put(address, value))
    }

    /// Appends to the value at an address.
    pub(crate) fn merge(&mut self, address: &[u8], value: &[u8]) -> Result<()> {
        self.write(address.len() + value.len(), |writer| writer.merge(address, value))
    }

    pub(crate) fn delete(&mut self, address: &[u8]) -> Result<()> {
        self.write(address.len(), |writer| writer.delete(address))
    }

    fn write(
        &mut self,
        bytes: usize,
        write: impl FnOnce(&mut SstFileWriter<'a>) -> Result<(), rocksdb::Error>,
    ) -> Result<()> {
        let writer = match &mut self.open {
            Some(writer) => writer,
            none => {
                let path = self.base.with_extension(format!("{}.sst", self.files.len()));
                let mut writer = SstFileWriter::create(self.database.options());
                writer.open(&path).map_err(|e| failed("a table file cannot be made", &path, &e))?;
                self.files.push(path);
                none.insert(writer)
            }
        };
        write(writer).map_err(|e| failed("a table file cannot be written", &self.base, &e))?;
        self.bytes += bytes as u64;
        // Compression makes files smaller than that, which does no harm.
        if self.bytes >= self.database.file_bytes() { self.close() } else { Ok(()) }
    }

    fn close(&mut self) -> Result<()> {
        self.bytes = 0;
        let Some(mut writer) = self.open.take() else { return Ok(()) };
        writer.finish().map_err(|e| failed("a table file cannot be written", &self.base, &e))
    }

    /// Completes the files.
    pub(crate) fn finish(mut self) -> Result<Finished<'a>> {
        self.close()?;
        Ok(Finished(self))
    }
}

impl Drop for TableFiles<'_> {
    fn drop(&mut self) {
        self.open = None;
        for file in &self.files {
            // The database has moved those that it has taken.
            let _ = std::fs::remove_file(file);
        }
    }
}

/// Complete table files.
pub(crate) struct Finished<'a>(TableFiles<'a>);

impl Finished<'_> {
    /// Hands the files to the database, all or none, right behind a call of `begin`.
    pub(crate) fn ingest(self, begin: impl FnOnce()) -> Result<()> {
        let TableFiles { database, files, .. } = &self.0;
        begin();
        if files.is_empty() { Ok(()) } else { database.ingest(files) }
    }
}
