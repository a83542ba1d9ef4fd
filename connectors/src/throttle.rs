//! A source with a bounded rate.

use std::time::Instant;

use strandline_runtime::source::{
    Extent, PlanContext, Source, SourceContext, SourceFactory, SourceStatus, SourceTime, Unread,
};
use strandline_state_api::schema::Description;
use strandline_state_api::{Batch, Result};

/// Bounds the records per second of another source, divided evenly between its subtasks.
#[derive(Clone, Debug)]
pub struct Throttled<S> {
    source: S,
    per_second: Option<f64>,
}

impl<S> Throttled<S> {
    /// At most `per_second` records each second, all subtasks together; below 1 counts as 1. `None` is no
    /// bound.
    pub fn new(source: S, per_second: impl Into<Option<u64>>) -> Self {
        Self { source, per_second: per_second.into().map(|rate| rate.max(1) as f64) }
    }
}

impl<S: SourceFactory> SourceFactory for Throttled<S> {
    type Source = ThrottledSubtask<S::Source>;

    fn plan(&self, context: PlanContext<<S::Source as Source>::Position>) -> Result<Unread> {
        self.source.plan(context)
    }

    fn open(&self, context: SourceContext<<S::Source as Source>::Position>) -> Result<Self::Source> {
        let share = |per_second: f64| per_second / f64::from(context.parallelism.max(1));
        let bucket = self.per_second.map(share).map(Bucket::new);
        Ok(ThrottledSubtask { source: self.source.open(context)?, bucket })
    }
}

/// One subtask of a [`Throttled`] source.
#[derive(Debug)]
pub struct ThrottledSubtask<S> {
    source: S,
    bucket: Option<Bucket>,
}

/// A token bucket that holds at most 100 ms worth of records (at least one).
#[derive(Debug)]
struct Bucket {
    per_second: f64,
    allowed: f64,
    filled: Instant,
}

impl Bucket {
    fn new(per_second: f64) -> Self {
        Self { per_second, allowed: 0.0, filled: Instant::now() }
    }

    /// Fills the bucket; returns how many records it allows.
    fn fill(&mut self) -> usize {
        let now = Instant::now();
        let since = now.duration_since(self.filled).as_secs_f64();
        self.filled = now;
        self.allowed = (self.allowed + since * self.per_second).min((self.per_second / 10.0).max(1.0));
        self.allowed as usize
    }
}

impl<S: Source> Source for ThrottledSubtask<S> {
    type Out = S::Out;
    type Position = S::Position;

    fn describe_positions() -> Option<Description> {
        S::describe_positions()
    }

    fn poll(&mut self, max: usize, output: &mut Batch<S::Out>) -> Result<SourceStatus> {
        let Some(bucket) = &mut self.bucket else { return self.source.poll(max, output) };
        let allowed = bucket.fill();
        if allowed == 0 {
            return Ok(SourceStatus::Idle);
        }
        let before = output.len();
        let status = self.source.poll(max.min(allowed), output)?;
        bucket.allowed -= (output.len() - before) as f64;
        Ok(status)
    }

    fn positions(&self) -> Result<Vec<S::Position>> {
        self.source.positions()
    }

    fn extent(&self) -> Option<Extent> {
        self.source.extent()
    }

    fn time(&mut self) -> Option<SourceTime> {
        self.source.time()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{Distribution, KeyStream, KeyStreamConfig};

    /// A poll returns at most as many records as the bucket holds, whatever the clock does, and none is lost.
    #[test]
    fn a_poll_returns_no_more_than_is_allowed_and_in_the_end_everything() {
        let config = KeyStreamConfig { records: 200, keys: 10, seed: 1, distribution: Distribution::Uniform };
        let stream = KeyStream::new(config).unwrap();
        let all = |per_second: Option<u64>, most: usize| {
            let context = SourceContext { subtask: 0, parallelism: 1, restored: None };
            let mut source = Throttled::new(stream.clone(), per_second).open(context).unwrap();
            let mut output = Batch::new();
            loop {
                let before = output.len();
                let status = source.poll(1_000, &mut output).unwrap();
                assert!(output.len() - before <= most, "{per_second:?}");
                match status {
                    SourceStatus::End | SourceStatus::EndOfRun => return output.into_columns().0,
                    SourceStatus::Idle => assert_eq!(output.len(), before),
                    SourceStatus::More => {}
                }
            }
        };
        let keys = all(None, 1_000);
        assert_eq!(keys.len(), 200);
        for (per_second, most) in [(20_000, 2_000), (5_000, 500), (1_000_000, 1_000)] {
            assert_eq!(all(Some(per_second), most), keys);
        }
    }
}
