//! A source that reads no faster than wanted.

use std::time::Instant;

use strandline_runtime::source::{Source, SourceContext, SourceFactory, SourceStatus};
use strandline_state_api::{Output, Result};

/// Bounds the records per second of another source, divided evenly between its subtasks.
#[derive(Clone, Debug)]
pub struct Throttled<S> {
    source: S,
    per_second: f64,
}

impl<S> Throttled<S> {
    /// At most `per_second` records each second, all subtasks together; below 1 counts as 1.
    pub fn new(source: S, per_second: u64) -> Self {
        Self { source, per_second: per_second.max(1) as f64 }
    }
}

impl<S: SourceFactory> SourceFactory for Throttled<S> {
    type Source = ThrottledSubtask<S::Source>;

    fn open(&self, context: SourceContext) -> Result<Self::Source> {
        let per_second = self.per_second / f64::from(context.parallelism.max(1));
        let source = self.source.open(context)?;
        Ok(ThrottledSubtask { source, per_second, allowed: 0.0, filled: Instant::now() })
    }
}

/// One subtask of a [`Throttled`] source: a token bucket that holds at most 100 ms worth of records (at least one).
#[derive(Debug)]
pub struct ThrottledSubtask<S> {
    source: S,
    per_second: f64,
    allowed: f64,
    filled: Instant,
}

impl<S: Source> Source for ThrottledSubtask<S> {
    type Out = S::Out;

    fn poll(&mut self, max: usize, output: &mut Output<S::Out>) -> Result<SourceStatus> {
        let now = Instant::now();
        let since = now.duration_since(self.filled).as_secs_f64();
        self.filled = now;
        self.allowed = (self.allowed + since * self.per_second).min((self.per_second / 10.0).max(1.0));
        if self.allowed < 1.0 {
            return Ok(SourceStatus::Idle);
        }
        let before = output.len();
        let status = self.source.poll(max.min(self.allowed as usize), output)?;
        self.allowed -= (output.len() - before) as f64;
        Ok(status)
    }

    fn positions(&self) -> Result<Vec<Vec<u8>>> {
        self.source.positions()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{Distribution, KeyStream, KeyStreamConfig};

    /// Never more than the bucket holds, whatever the clock does, and nothing is lost on the way.
    #[test]
    fn a_poll_gives_no_more_than_is_allowed_and_in_the_end_everything() {
        let config = KeyStreamConfig { records: 200, keys: 10, seed: 1, distribution: Distribution::Uniform };
        let stream = KeyStream::new(config).unwrap();
        let all = |per_second: u64, most: usize| {
            let context = SourceContext { subtask: 0, parallelism: 1, restored: None };
            let mut source = Throttled::new(stream.clone(), per_second).open(context).unwrap();
            let mut output = Output::new();
            loop {
                let before = output.len();
                let status = source.poll(1_000, &mut output).unwrap();
                assert!(output.len() - before <= most, "{per_second}");
                match status {
                    SourceStatus::End => return output.records,
                    SourceStatus::Idle => assert_eq!(output.len(), before),
                    SourceStatus::More => {}
                }
            }
        };
        assert_eq!(all(20_000, 2_000), all(5_000, 500));
        assert_eq!(all(1_000_000, 1_000).len(), 200);
    }
}
