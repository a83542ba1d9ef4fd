//! A finished file that waits for its checkpoint.

use serde::{Deserialize, Serialize};
use strandline_state_api::{CheckpointId, Error, ErrorKind, Result};

use super::naming::{Name, Naming};
use super::output::{Output, Published};

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
    pub(super) fn check(&self, output: &dyn Output, naming: Naming<'_>) -> Result<()> {
        // One that was named at once has the number of the first checkpoint that could have closed it.
        let is_number = |number: CheckpointId| match output.is_named_at_once() {
            true => number <= self.checkpoint,
            false => number == self.checkpoint,
        };
        let ours = match (naming.parse(&self.temporary), naming.parse(&self.name)) {
            (Name::Temporary(from), Name::Visible(to, number)) => from == to && is_number(number),
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
        match output.publish(&self.temporary, &self.name, self.bytes)? {
            Published::Yes => Ok(()),
            Published::WrongLength(length) => Err(self.wrong_length(output.locate(&self.temporary), length)),
            // One that does not wait was committed, here, by a faster recovery, or in an attempt that died
            // afterwards; or one that sweeps it was faster.
            Published::Gone if self.is_visible(output)? => Ok(()),
            Published::Gone => Err(self.lost(output)),
        }
    }

    /// Whether it is there, under either name, and whole.
    pub(super) fn is_there(&self, output: &dyn Output) -> Result<bool> {
        // In this order: a stale process may commit it meanwhile.
        let waiting = output.len_waiting(&self.temporary)?;
        Ok(self.is_whole(output, &self.temporary, waiting)? || self.is_visible(output)?)
    }

    fn is_visible(&self, output: &dyn Output) -> Result<bool> {
        self.is_whole(output, &self.name, output.len_visible(&self.name)?)
    }

    /// Whether a file of this length is there; refuses another length than it should have.
    fn is_whole(&self, output: &dyn Output, name: &str, length: Option<u64>) -> Result<bool> {
        match length {
            Some(length) if length != self.bytes => Err(self.wrong_length(output.locate(name), length)),
            length => Ok(length.is_some()),
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
