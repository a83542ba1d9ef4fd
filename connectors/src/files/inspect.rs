//! Looks at an input before a job runs: everything that can be wrong with it at the start, without a job.

use strandline_state_api::{Batch, Error, Result};

use super::listing;
use super::place::InputPath;
use super::plan::Share;
use super::split::cut;
use super::{Decode, FileFormat, FileSource, FileSubtask, bad};

/// How many mistakes an inspection lists.
const MOST: usize = 20;

/// What is there to read.
#[derive(Debug, Default)]
pub struct Inspection {
    /// How many files.
    pub files: u64,
    /// How long they are, all together.
    pub bytes: u64,
    /// What keeps them from being read: at most 20 of them.
    pub mistakes: Vec<Error>,
}

impl<F: FileFormat> FileSource<F> {
    /// Opens every file, reads its header, and decodes its first record.
    ///
    /// # Errors
    /// When the input cannot be listed. What is wrong with single files is in the result.
    pub fn inspect(&self) -> Result<Inspection> {
        let list = if self.at_end.is_watch() { listing::list_any } else { listing::list };
        if self.path.is_stream() {
            // It can be read once only.
            return Ok(Inspection::default());
        }
        let folder = self.folder()?;
        let looking = FileSubtask::new(self.clone(), folder.clone(), 0, 1, Share::default(), i64::MIN);
        let mut found = Inspection::default();
        for file in list(&self.path)? {
            found.files += 1;
            found.bytes += file.len;
            if found.mistakes.len() < MOST
                && let Some(split) = cut(&file.name, 0, file.len, u64::MAX, file.stamp).next()
                && let Err(mistake) = looking.look_into(&split, &folder.join(&file.name))
            {
                found.mistakes.push(mistake);
            }
        }
        Ok(found)
    }
}

impl<F: FileFormat> FileSubtask<F> {
    fn look_into(&self, split: &super::split::Split, path: &InputPath) -> Result<()> {
        let Some(mut opened) = self.open_split(split)? else { return Ok(()) };
        let max_record = self.source.max_record;
        let Some(record) = opened.reader.peek()? else { return Ok(()) };
        let decoded = match record.len() <= max_record {
            true => opened.decoder.decode(record, &mut Batch::new()),
            false => Err(bad::too_long(max_record)),
        };
        decoded.map_err(|bad| {
            Error::invalid(format!("the first record is bad: {bad}")).with("file", path.display())
        })
    }
}
