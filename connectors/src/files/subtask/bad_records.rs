//! What becomes of records that cannot be decoded.

use strandline_state_api::{Batch, Error, ErrorKind, Result};

use super::super::{BadRecord, DeadLetter, Decode, FileFormat, OnBadRecord, bad};
use super::{FileSubtask, Lane, OpenLane};

impl<F: FileFormat> FileSubtask<F> {
    /// Fails for a record that cannot be decoded, or counts it; emits its dead letter where that is wanted.
    #[cold]
    pub(super) fn bad_record(
        &mut self,
        number: usize,
        offset: u64,
        bad: BadRecord,
        output: &mut Batch<F::Record>,
    ) -> Result<()> {
        let Some(Lane { split, open: Some(open), lines, .. }) = self.lanes.get_mut(&number) else {
            return Ok(());
        };
        let OpenLane { reader, decoder } = &mut **open;
        let path = self.folder.join(&split.file);
        let what = self.source.on_bad_record;
        let over_lines = bad.open_quote && reader.skip_open_field()?;
        let bad = if over_lines { bad.over_lines() } else { bad };
        let count = &self.source.shared.bad;
        if what == OnBadRecord::Skip && count.has_first() {
            split.skipped += 1;
            count.add(self.subtask, String::new);
            return Ok(());
        }
        let line = if reader.is_forward() { Some(reader.line()) } else { lines.line(&path, offset) };
        let located = || {
            let mut error = Error::new(ErrorKind::Invalid, bad.to_string());
            error = error.with("file", path.display());
            if let Some(line) = line {
                error = error.with("line", line);
            }
            if let Some(column) = bad.column() {
                error = error.with("column", column);
            }
            error.with("byte", offset)
        };
        let letter = |raw| DeadLetter {
            file: path.display().to_string(),
            line: line.unwrap_or(0),
            byte: offset,
            column: bad.column().map(str::to_owned),
            reason: bad.reason().to_owned(),
            record: raw,
        };
        match what {
            OnBadRecord::Fail => return Err(located()),
            OnBadRecord::Skip => {}
            OnBadRecord::Keep => {
                let raw = match reader.is_forward() {
                    true => bad::most_of(reader.raw_record()).to_vec(),
                    false => bad::raw_record(&path, offset, reader.offset())?,
                };
                output.push(decoder.dead_letter(letter(raw)).ok_or_else(located)?, None);
            }
        }
        split.skipped += 1;
        count.add(self.subtask, || located().to_string());
        Ok(())
    }
}
