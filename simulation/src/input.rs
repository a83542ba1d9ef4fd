//! A source whose input comes over time, in splits that it can read again from any position.

use std::sync::Arc;
use std::time::Duration;

use strandline_runtime::source::{Source, SourceContext, SourceFactory, SourceStatus, SourceTime};
use strandline_state_api::{Batch, Error, Result, Timestamp};

use crate::process::Process;

/// How many records a poll returns at most.
const STEP: u64 = 4;
/// The longest pause between two polls that return records, in microseconds.
const PAUSE: u64 = 1500;

/// The records of each split, with their event times.
pub(crate) type Splits<T> = Arc<Vec<Vec<(T, Option<Timestamp>)>>>;

/// A source of fixed records in splits, made by [`World::input`](crate::World::input). Subtasks take splits by
/// number. Records come one to four at a time, after pauses of up to 1.5 ms: as the seed decides.
#[derive(Clone, Debug)]
pub struct Input<T> {
    process: Process,
    splits: Splits<T>,
}

impl<T> Input<T> {
    pub(crate) fn new(process: Process, splits: Splits<T>) -> Self {
        Self { process, splits }
    }
}

impl<T> Input<T> {
    /// What of a split was not read.
    fn rest(&self, (split, read): &InputPosition) -> &[(T, Option<Timestamp>)] {
        &self.splits[*split as usize][*read as usize..]
    }
}

/// Where one split of an [`Input`] stands: its number, and how many of its records were read.
pub type InputPosition = (u32, u64);

/// One subtask of an [`Input`].
#[derive(Debug)]
pub struct InputReader<T> {
    of: Input<T>,
    mine: Vec<InputPosition>,
    turn: usize,
    next: Duration,
}

impl<T: Clone + Send + Sync + 'static> SourceFactory for Input<T> {
    type Source = InputReader<T>;

    fn open(&self, context: SourceContext<InputPosition>) -> Result<InputReader<T>> {
        self.process.step();
        let mut positions: Vec<_> = (0..self.splits.len() as u32).map(|split| (split, 0)).collect();
        for (split, read) in context.restored.unwrap_or_default() {
            let position = positions.get_mut(split as usize);
            position.ok_or_else(|| Error::invalid(format!("there is no split {split}")))?.1 = read;
        }
        positions.retain(|(split, _)| split % context.parallelism == context.subtask);
        Ok(InputReader { of: self.clone(), mine: positions, turn: 0, next: Duration::ZERO })
    }
}

impl<T: Clone + Send + Sync + 'static> Source for InputReader<T> {
    type Out = T;
    type Position = InputPosition;

    fn poll(&mut self, max: usize, output: &mut Batch<T>) -> Result<SourceStatus> {
        let process = &self.of.process;
        let rest = |position| self.of.rest(position);
        if self.mine.iter().all(|position| rest(position).is_empty()) {
            return Ok(SourceStatus::End);
        }
        if process.elapsed() < self.next {
            return Ok(SourceStatus::Idle);
        }
        let most = max.min(1 + process.random_below(STEP) as usize);
        let count = self.mine.len();
        let found =
            (0..count).map(|step| (self.turn + step) % count).find(|at| !rest(&self.mine[*at]).is_empty());
        let Some(at) = found else { return Ok(SourceStatus::Idle) };
        let taken = rest(&self.mine[at]).iter().take(most);
        let mut read = 0;
        for (record, time) in taken {
            output.push(record.clone(), *time);
            read += 1;
        }
        self.turn = at + 1;
        self.mine[at].1 += read;
        self.next = process.elapsed() + Duration::from_micros(process.random_below(PAUSE));
        Ok(SourceStatus::More)
    }

    fn positions(&self) -> Result<Vec<InputPosition>> {
        Ok(self.mine.clone())
    }

    /// The time of the slowest split that has not ended, whose records are in order of time.
    fn time(&mut self) -> Option<SourceTime> {
        let open = self.mine.iter().filter(|position| !self.of.rest(position).is_empty());
        let last = open.map(|(split, read)| {
            let last = self.of.splits[*split as usize].get(usize::try_from(*read).ok()?.checked_sub(1)?)?;
            last.1
        });
        let slowest = last.min()??;
        Some(SourceTime { watermark: Some(slowest - Duration::from_millis(1)), idle: false })
    }
}
