//! How the number of done records grew.

use std::time::Duration;

use crate::report::Sample;

const STEP: Duration = Duration::from_millis(100);
const LIMIT: usize = 8192;

/// Samples at a steady step, which doubles whenever there would be too many.
#[derive(Debug)]
pub(super) struct Samples {
    samples: Vec<Sample>,
    step: Duration,
}

impl Default for Samples {
    fn default() -> Self {
        Self { samples: Vec::new(), step: STEP }
    }
}

impl Samples {
    /// When the next one is due, since the start of the job.
    pub(super) fn next_due(&self) -> Duration {
        self.samples.last().map_or(Duration::ZERO, |last| last.at + self.step)
    }

    pub(super) fn add(&mut self, at: Duration, done: u64) {
        if self.samples.len() >= LIMIT {
            let mut keep = false;
            self.samples.retain(|_| {
                keep = !keep;
                keep
            });
            self.step *= 2;
        }
        self.samples.push(Sample { at, done });
    }

    /// All of them up to the end, which is the moment of the last record.
    pub(super) fn finish(mut self, last_done: Duration, done: u64) -> Vec<Sample> {
        self.samples.retain(|sample| sample.at < last_done);
        self.samples.push(Sample { at: last_done, done });
        self.samples
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_job_keeps_few_samples_over_its_whole_life() {
        let mut samples = Samples::default();
        for _ in 0..100_000 {
            let at = samples.next_due();
            samples.add(at, at.as_millis() as u64);
        }
        let last = samples.next_due();
        let all = samples.finish(last, 1);
        assert!(all.len() <= LIMIT + 1);
        assert_eq!(all[0].at, Duration::ZERO);
        assert!(all.windows(2).all(|pair| pair[0].at < pair[1].at), "in order");
        assert_eq!(all.last().map(|sample| sample.at), Some(last));
    }
}
