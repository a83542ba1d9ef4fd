//! A finished file that waits for its checkpoint.

use serde::{Deserialize, Serialize};
use strandline_state_api::{CheckpointId, Error, ErrorKind, Result};

use super::naming::{Name, Naming};
use super::output::Output;

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
            // One that was named at once has the number of the first checkpoint that could have closed it.
            (Name::Temporary(from), Name::Visible(to, checkpoint)) => {
                from == to && checkpoint <= self.checkpoint
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

    /// Makes the file visible, if it is not already. The caller syncs the names afterwards.
    pub(super) fn commit(&self, output: &dyn Output) -> Result<()> {
        // One that does not wait was committed, here or in an attempt that died afterwards.
        let Some(length) = output.len_waiting(&self.temporary)? else { return self.check_visible(output) };
        if length != self.bytes {
            return Err(self.wrong_length(output.locate(&self.temporary), length));
        }
        // Somebody else may be faster: a recovery that commits it too, or one that sweeps it.
        if output.publish(&self.temporary, &self.name)? { Ok(()) } else { self.check_visible(output) }
    }

    /// Whether it is there, under either name, and whole.
    pub(super) fn is_there(&self, output: &dyn Output) -> Result<bool> {
        // In this order: a stale process may commit it meanwhile.
        match output.len_waiting(&self.temporary)? {
            Some(length) if length == self.bytes => return Ok(true),
            Some(length) => return Err(self.wrong_length(output.locate(&self.temporary), length)),
            None => {}
        }
        match output.len_visible(&self.name)? {
            Some(length) if length == self.bytes => Ok(true),
            Some(length) => Err(self.wrong_length(output.locate(&self.name), length)),
            None => Ok(false),
        }
    }

    fn check_visible(&self, output: &dyn Output) -> Result<()> {
        match output.len_visible(&self.name)? {
            Some(length) if length == self.bytes => Ok(()),
            Some(length) => Err(self.wrong_length(output.locate(&self.name), length)),
            None => Err(self.lost(output)),
        }
    }

    /// It is gone, and nobody can have taken it.
    pub(super) fn lost(&self, output: &dyn Output) -> Error {
        let message = "an output file that the checkpoint names is gone before it was ever visible; put it \
                       back, or start from an earlier checkpoint (StartFrom::Checkpoint, `--from ID`), from \
                       which its results are computed again";
        Error::new(ErrorKind::NotFound, message)
            .with("file", output.locate(&self.temporary))
            .with("of checkpoint", self.checkpoint)
            .with("records", self.records)
    }

    fn wrong_length(&self, file: String, length: u64) -> Error {
        Error::corrupt(
            "an output file has another length than the checkpoint recorded; restore it, or start a new job",
        )
        .with("file", file)
        .with("checkpoint", self.checkpoint)
        .with("bytes", length)
        .with("expected", self.bytes)
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
