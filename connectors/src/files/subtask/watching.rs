//! What becomes of splits when files are added, grow or are renamed while the job runs.

use strandline_state_api::{Result, Timestamp};

use super::super::listing::InputFile;
use super::super::plan::grown_when_packed;
use super::super::position::KnownFile;
use super::super::split::Split;
use super::super::watch::Change;
use super::super::{FileFormat, content};
use super::{FileSubtask, Lane, note_position};

impl<F: FileFormat> FileSubtask<F> {
    /// Takes what has changed in the input.
    pub(super) fn watch(&mut self) -> Result<()> {
        if !self.source.at_end.is_watch() {
            return Ok(());
        }
        for change in self.source.changes(self.subtask)? {
            match change {
                Change::New(file) => self.add(new_split(&file, self.subtask, self.parallelism)),
                Change::Grown(file) => self.grow(&file)?,
                Change::Renamed { from, file, owner } => {
                    self.rename(&from, &file, owner == self.subtask as usize)?;
                }
                Change::Replaced(file) => self.check_replaced(&file)?,
            }
        }
        Ok(())
    }

    /// The splits of a file, and where the last of them ends.
    fn splits_of(&self, file: &str) -> (Vec<Split>, u64) {
        let lanes = self.lanes.values().map(|lane| &lane.split);
        let mut splits: Vec<Split> =
            lanes.chain(&self.pieces).filter(|split| split.file == file).cloned().collect();
        if let Some(KnownFile { name, len, stamp, read }) = self.done.get(file).cloned() {
            let (end, offset, mark) = (len, len, read.unwrap_or(0));
            splits.push(Split { file: name, end, offset, stamp, mark, ..Split::default() });
        }
        let end = splits.iter().map(|split| split.end).max().unwrap_or(0);
        (splits, end)
    }

    /// Reads on in a file that has grown.
    fn grow(&mut self, file: &InputFile) -> Result<()> {
        let (_, end) = self.splits_of(&file.name);
        if file.len <= end {
            return Ok(());
        }
        let is_last = |lane: &Lane<_>| lane.split.file == file.name && lane.split.end == end;
        if let Some((&number, lane)) = self.lanes.iter_mut().find(|(_, lane)| is_last(lane)) {
            (lane.split.end, lane.split.stamp) = (file.len, file.stamp);
            if let Some(open) = lane.open.take() {
                note_position(&mut lane.split, &open.reader);
                self.readers.retain(|open| *open != number);
            }
            self.times.open(number, Timestamp::from_stored(lane.split.greatest));
            return Ok(());
        }
        let path = self.folder.join(&file.name);
        if end > 0 && content::is_packed(&path)? {
            return Err(grown_when_packed(&path, end));
        }
        let mut split = new_split(file, self.subtask, self.parallelism);
        match self.done.remove(&file.name) {
            Some(known) => (split.offset, split.mark) = (known.len, known.read.unwrap_or(0)),
            None => (split.start, split.offset, split.whole) = (end, end, end == 0),
        }
        match self.watched.remove(&file.name) {
            Some(number) => self.enter(number, split),
            None => self.add(split),
        }
        Ok(())
    }

    /// Follows a file to its new name; the subtask that owns it reads on where it has grown.
    fn rename(&mut self, from: &str, file: &InputFile, owns: bool) -> Result<()> {
        let path = self.folder.join(&file.name);
        for split in self.splits_of(from).0.iter().filter(|split| split.mark != 0) {
            if split.read_mark(&path)?.is_none_or(|(found, _)| found != split.mark) {
                // Another file has the inode of one that is gone.
                if owns {
                    self.add(new_split(file, self.subtask, self.parallelism));
                }
                return Ok(());
            }
        }
        if let Some(known) = self.done.remove(from) {
            let known = KnownFile { name: file.name.clone(), stamp: file.stamp, ..known };
            self.done.insert(file.name.clone(), known);
        }
        let lanes = self.lanes.values_mut().map(|lane| &mut lane.split);
        for split in lanes.chain(&mut self.pieces).filter(|split| split.file == from) {
            (split.file, split.stamp) = (file.name.clone(), file.stamp);
        }
        if let Some(number) = self.watched.remove(from) {
            self.watched.insert(file.name.clone(), number);
        }
        if !owns {
            return Ok(());
        }
        tracing::info!(file = %file.name, before = from, "an input file was renamed");
        self.grow(file)
    }

    /// Fails for a file that has taken the name of one that was read, unless it begins with what was read.
    fn check_replaced(&mut self, file: &InputFile) -> Result<()> {
        let path = self.folder.join(&file.name);
        for split in &self.splits_of(&file.name).0 {
            let mark = if split.mark == 0 { None } else { split.read_mark(&path)?.map(|(mark, _)| mark) };
            if file.len < split.end || mark.unwrap_or(0) != split.mark {
                return Err(self.replaced(split));
            }
        }
        self.grow(file)
    }
}

fn new_split(file: &InputFile, subtask: u32, parallelism: u32) -> Split {
    Split {
        file: file.name.clone(),
        end: file.len,
        owner: Some((subtask, parallelism)),
        stamp: file.stamp,
        greatest: i64::MIN,
        whole: true,
        ..Split::default()
    }
}
