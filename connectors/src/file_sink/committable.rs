//! A finished file that waits for its checkpoint.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use strandline_state_api::{CheckpointId, Error, ErrorKind, Result};

use super::failed;
use super::naming::{Name, Naming};

/// A finished file that a [`FileSink`](super::FileSink) makes visible when its checkpoint is complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingFile {
    /// Its name until then.
    pub(super) temporary: String,
    /// Its name from then on.
    pub(super) name: String,
    /// The checkpoint that closed it. When that one is aborted, a later one makes the file visible.
    pub(super) checkpoint: CheckpointId,
    /// Its length.
    pub(super) bytes: u64,
    /// How many records it holds.
    pub(super) records: u64,
}

impl PendingFile {
    /// Refuses a restored file whose names this sink would not make.
    pub(super) fn check(&self, naming: Naming<'_>) -> Result<()> {
        let ours = match (naming.parse(&self.temporary), naming.parse(&self.name)) {
            (Name::Temporary(from), Name::Visible(to, checkpoint)) => {
                from == to && checkpoint == self.checkpoint
            }
            _ => false,
        };
        if ours {
            return Ok(());
        }
        let message = "the checkpoint is of a file sink with another prefix or format; use those again, or \
                       start a new job";
        Err(Error::new(ErrorKind::Incompatible, message)
            .with("file", &self.name)
            .with("prefix", naming.prefix)
            .with("format", naming.extension))
    }

    /// Makes the file visible, if it is not already. The caller syncs the directory afterwards.
    pub(super) fn commit(&self, directory: &Path) -> Result<()> {
        let (from, to) = (directory.join(&self.temporary), directory.join(&self.name));
        // Without a temporary file the rename has happened, here or in an attempt that died afterwards.
        let Some(length) = length(&from)? else { return self.check_visible(&to) };
        if length != self.bytes {
            return Err(self.wrong_length(&from, length));
        }
        match fs::rename(&from, &to) {
            // Somebody else was faster: a recovery that commits it too, or one that swept it.
            Err(e) if e.kind() == io::ErrorKind::NotFound => self.check_visible(&to),
            renamed => renamed.map_err(|e| failed("renamed", &from, e)),
        }
    }

    /// Whether it is there, under either name, and whole.
    pub(super) fn is_there(&self, directory: &Path) -> Result<bool> {
        // In this order: a stale process may rename it meanwhile.
        for name in [&self.temporary, &self.name] {
            let path = directory.join(name);
            match length(&path)? {
                None => {}
                Some(length) if length == self.bytes => return Ok(true),
                Some(length) => return Err(self.wrong_length(&path, length)),
            }
        }
        Ok(false)
    }

    fn check_visible(&self, path: &Path) -> Result<()> {
        match length(path)? {
            Some(length) if length == self.bytes => Ok(()),
            Some(length) => Err(self.wrong_length(path, length)),
            None => Err(self.lost(path.parent().unwrap_or(Path::new("")))),
        }
    }

    /// It is gone, and nobody can have taken it.
    pub(super) fn lost(&self, directory: &Path) -> Error {
        let message = "an output file that the checkpoint names is gone before it was ever visible; put it \
                       back, or start from an earlier checkpoint (StartFrom::Checkpoint, `--from ID`), from \
                       which its results are computed again";
        Error::new(ErrorKind::NotFound, message)
            .with("file", directory.join(&self.temporary).display())
            .with("of checkpoint", self.checkpoint)
            .with("records", self.records)
    }

    fn wrong_length(&self, path: &Path, length: u64) -> Error {
        Error::corrupt(
            "an output file has another length than the checkpoint recorded; restore it, or start a new job",
        )
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

#[cfg(test)]
mod tests {
    use strandline_state_api::{Codec, SerdeCodec};

    use super::*;

    /// The bytes of the first version, which checkpoints hold.
    #[test]
    fn the_stored_form_stays() {
        let stored = b"\x1B.part-t0-00001-7.inprogress\x1Cpart-0000000300-00001-t0.csv\xAC\x02\x80\x20\x05";
        let file = PendingFile {
            temporary: ".part-t0-00001-7.inprogress".into(),
            name: "part-0000000300-00001-t0.csv".into(),
            checkpoint: CheckpointId(300),
            bytes: 4_096,
            records: 5,
        };
        assert_eq!(Codec::<PendingFile>::decode(&SerdeCodec, stored).unwrap(), file);
        let mut encoded = Vec::new();
        SerdeCodec.encode(&file, &mut encoded).unwrap();
        assert_eq!(encoded, stored);
    }
}
