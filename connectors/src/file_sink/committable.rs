//! A finished file that waits for its checkpoint.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use strandline_state_api::{CheckpointId, Error, ErrorKind, Result};

use super::failed;
use super::naming::{Name, Naming};

/// What a checkpoint remembers of a file that it makes visible.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Committable {
    /// Its name until then.
    pub(super) temporary: String,
    /// Its name from then on.
    pub(super) name: String,
    /// The checkpoint that closed it. When that was aborted, a later one makes it visible.
    pub(super) checkpoint: CheckpointId,
    /// Its length.
    pub(super) bytes: u64,
    /// How many records it holds.
    pub(super) records: u64,
}

impl Committable {
    pub(super) fn encode(&self) -> Result<Vec<u8>> {
        postcard::to_allocvec(self)
            .map_err(|e| Error::new(ErrorKind::Internal, "a committable cannot be encoded").caused_by(e))
    }

    /// Reads back what [`encode`](Self::encode) wrote; refuses names that this sink would not give.
    pub(super) fn decode(bytes: &[u8], naming: Naming<'_>) -> Result<Self> {
        let file: Self = postcard::from_bytes(bytes)
            .map_err(|e| Error::corrupt("an element of a file sink cannot be read").caused_by(e))?;
        let ours = naming.parse(&file.temporary) == Name::Temporary
            && naming.parse(&file.name) == Name::Visible(file.checkpoint);
        if !ours {
            let message = "the checkpoint is of a file sink with another prefix or format";
            return Err(Error::new(ErrorKind::Incompatible, message)
                .with("file", &file.name)
                .with("prefix", naming.prefix)
                .with("format", naming.extension));
        }
        Ok(file)
    }

    /// Makes the file visible, if it is not already. The directory has yet to be synced.
    pub(super) fn commit(&self, directory: &Path) -> Result<()> {
        let (from, to) = (directory.join(&self.temporary), directory.join(&self.name));
        // Committed before, by us or by an attempt that died afterwards?
        let Some(length) = length(&from)? else { return self.check_visible(&to) };
        if length != self.bytes {
            return Err(self.wrong_length(&from, length));
        }
        fs::rename(&from, &to).map_err(|e| failed("renamed", &from, e))
    }

    fn check_visible(&self, path: &Path) -> Result<()> {
        match length(path)? {
            Some(length) if length == self.bytes => Ok(()),
            Some(length) => Err(self.wrong_length(path, length)),
            None => {
                let message = "an output file that the checkpoint names is gone; restore it, or start a new job into \
                               an empty directory";
                Err(Error::new(ErrorKind::NotFound, message)
                    .with("file", path.display())
                    .with("checkpoint", self.checkpoint)
                    .with("records", self.records))
            }
        }
    }

    fn wrong_length(&self, path: &Path, length: u64) -> Error {
        Error::corrupt("an output file has not the length that the checkpoint noted")
            .with("file", path.display())
            .with("checkpoint", self.checkpoint)
            .with("bytes", length)
            .with("expected", self.bytes)
    }
}

fn length(path: &Path) -> Result<Option<u64>> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(metadata.len())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed("read", path, e)),
    }
}
