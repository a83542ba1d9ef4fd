//! How a subtask opens splits: to know their times, and to read them.

use strandline_state_api::{Batch, Error, ErrorKind, Result};

use super::super::place::InputPath;
use super::super::reader::{OpenFile, Range, SplitReader};
use super::super::split::Split;
use super::super::{AtEnd, Decode, FileFormat, FileSource, encoding};
use super::{BUFFER, FileSubtask, OpenLane, note_position};

/// How many files all subtasks together keep open.
const OPEN_FILES: u32 = 512;
/// How many splits a subtask looks into at once, for the time of their first record.
const HEADS: usize = 256;
/// How many bytes it reads at once where it reads several files in turns.
const MERGED_BUFFER: usize = 64 << 10;

impl<F: FileFormat> FileSubtask<F> {
    /// Looks at the first records of some splits, so that the source knows which one to read first.
    pub(super) fn look_ahead(&mut self) -> Result<()> {
        let mut scratch = Batch::new();
        for _ in 0..HEADS {
            let Some(number) = self.heads.pop_front() else { break };
            let Some(lane) = self.lanes.get(&number).filter(|lane| lane.open.is_none()) else { continue };
            let Some(mut opened) = self.open_split(&lane.split)? else { continue };
            scratch.clear();
            // A record that cannot be decoded leaves the time unknown: then this split is read first.
            let max_record = self.source.max_record;
            let record = opened.reader.peek()?.filter(|record| record.len() <= max_record);
            let decoded = record.map(|record| opened.decoder.decode(record, &mut scratch));
            if let (Some(Ok(())), Some(timing)) = (decoded, &self.source.timing)
                && let Some((record, time)) = scratch.drain().next()
                && let Some(time) = time.or_else(|| (timing.time_of)(&record))
            {
                self.times.observe(number, time);
            }
            if self.readers.len() < self.most_open()
                && let Some(lane) = self.lanes.get_mut(&number)
            {
                lane.open = Some(Box::new(opened));
                self.readers.push_back(number);
            }
        }
        Ok(())
    }

    /// How many files it keeps open.
    fn most_open(&self) -> usize {
        (OPEN_FILES / self.parallelism.max(1)).clamp(1, 64) as usize
    }

    /// Opens the reader of a lane; returns whether there is one: a header may be missing yet.
    pub(super) fn open(&mut self, number: usize) -> Result<bool> {
        let Some(lane) = self.lanes.get(&number) else { return Ok(false) };
        if lane.open.is_some() {
            return Ok(true);
        }
        if self.is_stream {
            return self.open_stream(number);
        }
        let Some(opened) = self.open_split(&lane.split)? else { return Ok(false) };
        if self.readers.len() >= self.most_open()
            && let Some(oldest) = self.readers.pop_front()
            && let Some(lane) = self.lanes.get_mut(&oldest)
            && let Some(open) = lane.open.take()
        {
            note_position(&mut lane.split, &open.reader);
        }
        if let Some(lane) = self.lanes.get_mut(&number) {
            lane.open = Some(Box::new(opened));
        }
        self.readers.push_back(number);
        Ok(true)
    }

    pub(in super::super) fn open_split(&self, split: &Split) -> Result<Option<OpenLane<F::Decoder>>> {
        let path = self.folder.join(&split.file);
        let format = &self.source.format;
        let (framing, max_record) = (format.framing(), self.source.max_record);
        let partial = self.source.at_end == AtEnd::End;
        let file = OpenFile::open(&path)?;
        if split.offset == 0 {
            encoding::check(&path, file.head())?;
        }
        // One that is compressed gets no further line, and is whole.
        let (packed, partial) = (file.is_forward(), partial || file.is_forward());
        if split.offset > split.start && split.packed != packed {
            return Err(self.replaced(split));
        }
        let (mut header, mut after_header) = (Vec::new(), 0);
        if format.has_header() {
            if let Some((record, len)) = file.first_record(framing) {
                header.extend_from_slice(record);
                after_header = len;
            } else {
                let mut reader =
                    SplitReader::open(&path, framing, max_record, Range { partial, ..Range::ALL })?;
                match reader.next()? {
                    Some((_, record)) => header.extend_from_slice(record),
                    None if !partial => return Ok(None),
                    None => {}
                }
                after_header = reader.offset();
            }
        }
        let decoder = self.source.decoder(&header, &path)?;
        let end = if packed { u64::MAX } else { split.end };
        let start = split.start.max(after_header.min(end));
        let range = Range { start, offset: split.offset.max(start), end, partial };
        let buffer = if self.source.timing.is_some() { MERGED_BUFFER } else { BUFFER };
        let reader = SplitReader::new(file, framing, max_record, range, buffer)?;
        if split.mark != 0 && split.offset > start && reader.mark().0 != split.mark {
            return Err(self.replaced(split));
        }
        Ok(Some(OpenLane { reader, decoder }))
    }

    pub(super) fn replaced(&self, split: &Split) -> Error {
        let message = "an input file is not the one that was read up to here: another one has its name now; \
                       give new content a name of its own, or start a new job";
        Error::new(ErrorKind::Incompatible, message)
            .with("file", self.folder.join(&split.file).display())
            .with("byte", split.offset)
    }
}

impl<F: FileFormat> FileSource<F> {
    /// The decoder of a file with this header.
    pub(super) fn decoder(&self, header: &[u8], path: &InputPath) -> Result<F::Decoder> {
        let decoder = self.format.decoder(header);
        decoder.map_err(|message| Error::invalid(message).with("file", path.display()))
    }
}
