//! The events, as a source.

use nexmark::EventGenerator;
use nexmark::config::NexmarkConfig;
use nexmark::event::Event;
use serde::{Deserialize, Serialize};
use strandline::prelude::*;
use strandline::runtime::source::{Extent, Source, SourceContext, SourceFactory, SourceStatus};

/// 15 July 2015, the day of the first events, in milliseconds.
const FIRST_DAY: u64 = 1_436_918_400_000;

/// The first so many events of the stream. An event depends on its number alone, so the source can begin anywhere.
///
/// Event `n` belongs to split `n mod SPLITS`. A subtask emits the events of its splits in the order of their numbers,
/// and so of event time.
#[derive(Clone, Copy, Debug)]
pub struct Events {
    count: u64,
}

impl Events {
    /// How many splits there are, and the greatest parallelism.
    pub const SPLITS: u32 = 16;

    /// Makes a source of `count` events.
    pub fn new(count: u64) -> Self {
        Self { count }
    }

    /// Returns the events in their order.
    pub fn iter(&self) -> impl Iterator<Item = Event> {
        EventGenerator::new(config()).take(usize::try_from(self.count).unwrap_or(usize::MAX))
    }
}

fn config() -> NexmarkConfig {
    NexmarkConfig { base_time: FIRST_DAY, ..NexmarkConfig::default() }
}

/// Where a split stands: the number of its next event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    next: u64,
}

impl SourceFactory for Events {
    type Source = EventsSubtask;

    fn open(&self, context: SourceContext<Position>) -> Result<EventsSubtask> {
        if context.parallelism > Self::SPLITS {
            let message =
                format!("the events have {} splits, and one is the least for a subtask", Self::SPLITS);
            return Err(Error::invalid(message).with("parallelism", context.parallelism));
        }
        let all = || (0..u64::from(Self::SPLITS)).map(|next| Position { next }).collect();
        let positions = context.restored.unwrap_or_else(all);
        let split = |position: &Position| position.next % u64::from(Self::SPLITS);
        let is_own = |position: &Position| {
            split(position) % u64::from(context.parallelism) == u64::from(context.subtask)
        };
        let generator = EventGenerator::new(config()).with_step(u64::from(Self::SPLITS));
        let open = |position: Position| generator.clone().with_offset(position.next);
        let splits = positions.into_iter().filter(is_own).map(open).collect();
        Ok(EventsSubtask { splits, count: self.count })
    }
}

/// One subtask of [`Events`].
#[derive(Debug)]
pub struct EventsSubtask {
    splits: Vec<EventGenerator>,
    count: u64,
}

impl Source for EventsSubtask {
    type Out = Event;
    type Position = Position;

    fn poll(&mut self, max: usize, output: &mut Batch<Event>) -> Result<SourceStatus> {
        for _ in 0..max {
            let next = self.splits.iter_mut().min_by_key(|split| split.offset());
            let Some(next) = next.filter(|next| next.offset() < self.count) else {
                return Ok(SourceStatus::End);
            };
            if let Some(event) = next.next() {
                let time = Timestamp::from_millis(event.timestamp().cast_signed());
                output.push(event, Some(time));
            }
        }
        Ok(SourceStatus::More)
    }

    fn positions(&self) -> Result<Vec<Position>> {
        Ok(self.splits.iter().map(|split| Position { next: split.offset() }).collect())
    }

    fn extent(&self) -> Option<Extent> {
        let splits = u64::from(Events::SPLITS);
        let read = |split: &EventGenerator| split.offset() / splits;
        let all = |split: &EventGenerator| (self.count + splits - 1 - split.offset() % splits) / splits;
        let (done, total) = (self.splits.iter().map(read).sum(), self.splits.iter().map(all).sum());
        Some(Extent { done, total })
    }
}
