//! How a subtask reads a stream: without waiting for it.

use strandline_state_api::{Error, ErrorKind, Result, Timestamp};

use super::super::reader::{OpenFile, Range, SplitReader};
use super::super::{FileFormat, encoding};
use super::{BUFFER, FileSubtask, OpenLane};

impl<F: FileFormat> FileSubtask<F> {
    /// Opens the stream, once some of it is there.
    pub(super) fn open_stream(&mut self, number: usize) -> Result<bool> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => Box::new(self.source.begin_stream()?),
        };
        if !stream.is_ready() {
            self.stream = Some(stream);
            self.waiting = Some(number);
            return Ok(false);
        }
        let Some(lane) = self.lanes.get_mut(&number) else { return Ok(false) };
        let (split, path, format) = (&lane.split, &self.source.path, &self.source.format);
        let file = OpenFile::of_stream(path, stream)?;
        encoding::check(path, file.head())?;
        let max_record = self.source.max_record;
        let mut reader = SplitReader::new(file, format.framing(), max_record, Range::ALL, BUFFER)?;
        let mut header = Vec::new();
        if format.has_header() {
            // The columns come before anything else can be done.
            header.extend(reader.next_awaited()?.into_iter().flat_map(|(_, record)| record));
        }
        let decoder = self.source.decoder(&header, path)?;
        if split.offset > reader.offset() {
            tracing::warn!(
                file = %path.display(),
                bytes = split.offset,
                "the input is a stream: what the checkpoint has of it is skipped from its beginning"
            );
            reader.advance(split.offset)?;
            if split.mark != 0 && reader.mark().0 != split.mark {
                let message = "the stream is not the one that the checkpoint was taken of: it has another content \
                               before the position; give the job the same input from its beginning, or start a \
                               new job";
                return Err(Error::new(ErrorKind::Incompatible, message)
                    .with("file", path.display())
                    .with("byte", split.offset));
            }
        }
        lane.open = Some(Box::new(OpenLane { reader, decoder }));
        Ok(true)
    }

    /// Goes on with a stream that waited, if more of it is there.
    pub(super) fn wake_stream(&mut self) {
        let Some(number) = self.waiting else { return };
        let Some(lane) = self.lanes.get_mut(&number) else { return };
        let is_ready = match (&mut lane.open, &mut self.stream) {
            (Some(open), _) => open.reader.is_ready(),
            (None, Some(stream)) => stream.is_ready(),
            (None, None) => true,
        };
        if is_ready {
            self.waiting = None;
            self.times.open(number, Timestamp::from_stored(lane.split.greatest));
        }
    }
}
