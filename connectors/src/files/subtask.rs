//! One subtask of a source of files: which split it reads next, and how far.

mod streaming;
mod watching;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::time::{Duration, Instant};

use strandline_runtime::source::{Extent, Source, SourceStatus, SourceTime, SplitTimes, Watermarks};
use strandline_state_api::{Batch, Error, ErrorKind, Result, Timestamp};

use super::place::InputPath;
use super::plan::Share;
use super::position::{FileList, FilePosition, KnownFile, Stored};
use super::reader::{LineCounter, OpenFile, Range, SplitReader};
use super::split::Split;
use super::stream::StreamReader;
use super::{AtEnd, BadRecord, DeadLetter, Decode, FileFormat, FileSource, OnBadRecord, bad, encoding};

/// How many files all subtasks together keep open.
const OPEN_FILES: u32 = 512;
/// How many splits a subtask looks into at once, for the time of their first record.
const HEADS: usize = 256;
/// How many bytes it reads at once, and where it reads several files in turns.
const BUFFER: usize = 256 << 10;
const MERGED_BUFFER: usize = 64 << 10;
/// How many records it reads of one split at once where the drift of splits has a bound.
const DRIFT_STEP: usize = 64;

/// One subtask of a [`FileSource`].
pub struct FileSubtask<F: FileFormat> {
    pub(super) source: FileSource<F>,
    folder: InputPath,
    subtask: u32,
    parallelism: u32,
    /// The splits that are not finished, by numbers in the order in which they are read.
    lanes: BTreeMap<usize, Lane<F::Decoder>>,
    next_lane: usize,
    /// The lanes with an open reader, in the order in which they were opened.
    readers: VecDeque<usize>,
    /// Where the event time of each lane is; without event times it only keeps the order.
    times: SplitTimes,
    /// The lanes of whose first record the time is not known yet.
    heads: VecDeque<usize>,
    /// Pieces of files that were read, whose other pieces are read elsewhere.
    pieces: Vec<Split>,
    done: BTreeMap<String, KnownFile>,
    /// Of the files that are done.
    skipped: u64,
    greatest: i64,
    /// Whether the input is a stream.
    is_stream: bool,
    /// The stream, until its lane opens.
    stream: Option<Box<StreamReader>>,
    /// The lane of a stream that has nothing to read now.
    waiting: Option<usize>,
    /// The lanes that read a file before it was done, by its name, while the source watches.
    watched: HashMap<String, usize>,
    /// How much of the bytes of its share it has read.
    extent: Extent,
}

struct Lane<D> {
    split: Split,
    /// The offset up to which the extent counts it.
    counted: u64,
    open: Option<Box<OpenLane<D>>>,
    lines: LineCounter,
}

pub(super) struct OpenLane<D> {
    pub(super) reader: SplitReader,
    pub(super) decoder: D,
}

/// What became of a lane that was read.
enum Step {
    /// It has more, or was read as far as asked for.
    More,
    /// This record cannot be decoded.
    Bad(u64, BadRecord),
    /// Nothing more is there.
    Ended,
}

impl<F: FileFormat> FileSubtask<F> {
    pub(super) fn new(
        source: FileSource<F>,
        folder: InputPath,
        subtask: u32,
        parallelism: u32,
        share: Share,
        begin: i64,
    ) -> Self {
        let Share { splits, done, skipped, greatest } = share;
        let mut watermarks = source.timing.as_ref().map(|timing| timing.watermarks).unwrap_or_default();
        if source.at_end.is_watch() && watermarks.idle_timeout().is_none() {
            watermarks = watermarks.idle_after(FileSource::<F>::DEFAULT_IDLE_TIMEOUT);
        }
        let mut times = SplitTimes::new(watermarks);
        times.begin_at(Timestamp::from_stored(begin));
        let is_stream = source.path.is_stream();
        let mut opened = Self {
            is_stream,
            source,
            folder,
            subtask,
            parallelism,
            lanes: BTreeMap::new(),
            next_lane: 0,
            readers: VecDeque::new(),
            times,
            heads: VecDeque::new(),
            pieces: Vec::new(),
            done,
            skipped,
            greatest,
            stream: None,
            waiting: None,
            watched: HashMap::new(),
            extent: Extent::default(),
        };
        let whole: u64 = opened.done.values().map(|file| file.len).sum();
        opened.extent = Extent { done: whole, total: whole };
        for split in splits {
            opened.extent.done += split.offset.clamp(split.start, split.end) - split.start;
            opened.extent.total += split.end - split.start;
            if split.is_finished() {
                opened.pieces.push(split);
            } else {
                opened.add(split);
            }
        }
        opened
    }

    /// Adds a split that is not finished.
    fn add(&mut self, split: Split) {
        let number = self.next_lane;
        self.next_lane += 1;
        self.enter(number, split);
    }

    fn enter(&mut self, number: usize, split: Split) {
        let greatest = Timestamp::from_stored(split.greatest);
        self.times.open(number, greatest);
        if self.source.timing.is_some() && greatest.is_none() && !self.is_stream {
            self.heads.push_back(number);
        }
        let counted = split.offset.max(split.start);
        self.lanes.insert(number, Lane { split, counted, open: None, lines: LineCounter::default() });
    }

    /// Looks at the first records of some splits, so that the source knows which one to read first.
    fn look_ahead(&mut self) -> Result<()> {
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
    fn open(&mut self, number: usize) -> Result<bool> {
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

    pub(super) fn open_split(&self, split: &Split) -> Result<Option<OpenLane<F::Decoder>>> {
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
        let decoder = format
            .decoder(&header)
            .map_err(|message| Error::invalid(message).with("file", path.display()))?;
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

    fn replaced(&self, split: &Split) -> Error {
        let message = "an input file is not the one that was read up to here: another one has its name now; \
                       give new content a name of its own, or start a new job";
        Error::new(ErrorKind::Incompatible, message)
            .with("file", self.folder.join(&split.file).display())
            .with("byte", split.offset)
    }

    /// Reads at most `max` records of a lane; returns how many, at least 1.
    fn read(&mut self, number: usize, max: usize, output: &mut Batch<F::Record>) -> Result<usize> {
        if !self.open(number)? {
            self.times.wait(number, Instant::now());
            return Ok(1);
        }
        let Some(lane) = self.lanes.get_mut(&number) else { return Ok(1) };
        let Some(open) = &mut lane.open else { return Ok(1) };
        let OpenLane { reader, decoder } = &mut **open;
        let before = output.len();
        let from = lane.counted;
        let mut count = 0;
        let step = loop {
            if count >= max {
                break Step::More;
            }
            let Some((offset, record)) = reader.next()? else { break Step::Ended };
            count += 1;
            let decoded = match record.len() <= self.source.max_record {
                true => decoder.decode(record, output),
                false => Err(bad::too_long(self.source.max_record)),
            };
            if let Err(bad) = decoded {
                break Step::Bad(offset, bad);
            }
        };
        lane.counted = reader.offset().min(lane.split.end).max(from);
        self.extent.done += lane.counted - from;
        if let Some(timing) = &self.source.timing {
            let (records, mut times) = std::mem::take(output).into_columns();
            let mut greatest = None;
            for (record, time) in records.iter().zip(&mut times).skip(before) {
                *time = time.or_else(|| (timing.time_of)(record));
                greatest = greatest.max(*time);
            }
            *output = Batch::from_columns(records, times);
            if let Some(greatest) = greatest {
                lane.split.greatest = lane.split.greatest.max(greatest.as_millis());
                self.times.observe(number, greatest);
            }
        }
        match step {
            Step::More => {}
            Step::Bad(offset, bad) => self.bad_record(number, offset, bad, output)?,
            Step::Ended => self.end(number)?,
        }
        Ok(count.max(1))
    }

    /// Everything that is there of a lane was read.
    fn end(&mut self, number: usize) -> Result<()> {
        let Some(lane) = self.lanes.get_mut(&number) else { return Ok(()) };
        if lane.open.as_ref().is_some_and(|open| open.reader.waits()) {
            self.waiting = Some(number);
            self.times.wait(number, Instant::now());
            return Ok(());
        }
        self.readers.retain(|open| *open != number);
        if let Some(open) = lane.open.take() {
            note_position(&mut lane.split, &open.reader);
            if self.is_stream {
                (lane.split.end, lane.split.packed) = (lane.split.offset, false);
            } else if open.reader.is_packed() {
                let (split, len) = (&mut lane.split, open.reader.raw_len());
                (split.end, split.offset, split.packed, split.before) = (len, len, false, Vec::new());
                split.mark = split.read_mark(&self.folder.join(&split.file))?.map_or(0, |(mark, _)| mark);
            }
        }
        if !lane.split.is_finished() && self.source.at_end != AtEnd::End {
            // It waits for the end of its last line.
            self.times.wait(number, Instant::now());
            return Ok(());
        }
        let Some(Lane { mut split, .. }) = self.lanes.remove(&number) else { return Ok(()) };
        if split.offset < split.end {
            // The file is shorter than it was, so no mark is known at its end.
            (split.offset, split.mark) = (split.end, 0);
        }
        if self.source.at_end.is_watch() && self.source.timing.is_some() {
            self.times.wait(number, Instant::now());
            self.watched.insert(split.file.clone(), number);
        } else {
            self.times.finish(number);
        }
        if !split.whole {
            self.pieces.push(split);
            return Ok(());
        }
        self.skipped += split.skipped;
        self.greatest = self.greatest.max(split.greatest);
        // A last line without its end may reach beyond what the listing saw.
        let Split { file: name, offset: len, stamp, mark, .. } = split;
        self.done.insert(name.clone(), KnownFile { name, len, stamp, read: Some(mark) });
        Ok(())
    }

    /// Fails for a record that cannot be decoded, or counts it; emits its dead letter where that is wanted.
    #[cold]
    fn bad_record(
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

    /// Whether the slowest split may be read now, or is too far ahead of those of other subtasks.
    fn may_read(&self, number: usize, watermarks: &Watermarks) -> bool {
        let least = self.times.least().flatten();
        let others = self.source.shared.slowest_other(self.subtask, least);
        match (self.times.greatest(number), others) {
            (Some(own), Some(others)) => own <= watermarks.read_limit(others),
            // Another subtask does not know its times yet.
            (Some(_), None) => false,
            (None, _) => true,
        }
    }

    /// The watermarks, where they bound the drift of splits.
    fn drift(&self) -> Option<Watermarks> {
        let watermarks = self.source.timing.as_ref().map(|timing| timing.watermarks)?;
        watermarks.drift().map(|_| watermarks)
    }
}

/// Takes the position of a reader that is about to be closed.
fn note_position(split: &mut Split, reader: &SplitReader) {
    if reader.offset() > split.offset {
        let (mark, before) = reader.mark();
        (split.offset, split.mark, split.before) = (reader.offset(), mark, before.to_vec());
        split.packed = reader.is_forward();
    }
}

impl<F: FileFormat> Source for FileSubtask<F> {
    type Out = F::Record;
    type Position = FilePosition;

    fn poll(&mut self, max: usize, output: &mut Batch<F::Record>) -> Result<SourceStatus> {
        self.watch()?;
        self.wake_stream();
        if !self.heads.is_empty() {
            self.look_ahead()?;
            if !self.heads.is_empty() {
                return Ok(SourceStatus::More);
            }
        }
        let drift = self.drift();
        let mut left = max;
        while left > 0 {
            let Some(number) = self.times.slowest() else { break };
            let mut most = left;
            if let Some(watermarks) = &drift {
                if !self.may_read(number, watermarks) {
                    let waits = left == max;
                    return Ok(if waits { SourceStatus::Idle } else { SourceStatus::More });
                }
                most = left.min(DRIFT_STEP);
            }
            left -= self.read(number, most, output)?.min(left);
        }
        if self.times.slowest().is_some() {
            return Ok(SourceStatus::More);
        }
        if self.waiting.is_some() {
            return Ok(SourceStatus::Idle);
        }
        if drift.is_some() {
            self.source.shared.leave(self.subtask);
        }
        Ok(match self.source.at_end {
            AtEnd::End => SourceStatus::End,
            AtEnd::Follow => SourceStatus::EndOfRun,
            AtEnd::Watch { .. } => SourceStatus::Idle,
        })
    }

    fn positions(&self) -> Result<Vec<FilePosition>> {
        let mut positions = Vec::new();
        let mut files: Vec<KnownFile> = self.done.values().cloned().collect();
        let position = |split: Split| FilePosition(Stored::Split(Box::new(split)));
        for lane in self.lanes.values() {
            let mut split = lane.split.clone();
            if let Some(open) = &lane.open {
                note_position(&mut split, &open.reader);
            }
            if split.whole && split.is_unread() {
                let Split { file: name, end: len, stamp, .. } = split;
                files.push(KnownFile { name, len, stamp, read: None });
            } else {
                positions.push(position(split));
            }
        }
        positions.extend(self.pieces.iter().cloned().map(position));
        files.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let list = FileList {
            layout: self.source.format.layout(),
            path: self.source.path.display().to_string(),
            owner: Some((self.subtask, self.parallelism)),
            skipped: self.skipped,
            greatest: self.greatest,
            files,
        };
        positions.push(FilePosition(Stored::Files(list.encode()?)));
        Ok(positions)
    }

    fn extent(&self) -> Option<Extent> {
        // What a watched input comes to nobody knows.
        (!self.source.at_end.is_watch()).then_some(self.extent)
    }

    fn time(&mut self) -> Option<SourceTime> {
        self.source.timing.as_ref()?;
        Some(self.times.time(Instant::now()))
    }
}

impl<F: FileFormat> FileSource<F> {
    /// How long a file that a source [watches](AtEnd::Watch) holds the watermark back behind its last record,
    /// unless its watermarks have an [idle timeout](Watermarks::idle_after): 10 seconds.
    pub const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_secs(10);
}

impl<F: FileFormat> fmt::Debug for FileSubtask<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileSubtask")
            .field("subtask", &self.subtask)
            .field("left", &self.lanes.len())
            .field("done", &(self.done.len() + self.pieces.len()))
            .finish_non_exhaustive()
    }
}
