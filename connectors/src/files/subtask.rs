//! One subtask of a source of files: which split it reads next, and how far.

mod bad_records;
mod opening;
mod streaming;
mod watching;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::time::{Duration, Instant};

use strandline_runtime::source::{Extent, Source, SourceStatus, SourceTime, SplitTimes, Watermarks};
use strandline_state_api::schema::Description;
use strandline_state_api::{Batch, Result, Timestamp};

use super::place::InputPath;
use super::plan::Share;
use super::position::{self, FileList, FilePosition, KnownFile, Stored};
use super::reader::{LineCounter, SplitReader};
use super::split::Split;
use super::stream::StreamReader;
use super::{AtEnd, BadRecord, Decode, FileFormat, FileSource, bad};

/// How many bytes it reads at once.
const BUFFER: usize = 256 << 10;
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

    fn describe_positions() -> Option<Description> {
        Some(position::description())
    }

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
