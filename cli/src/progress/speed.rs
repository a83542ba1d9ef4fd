//! How fast a job is, how far, and how long it takes.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use indicatif::HumanCount;
use strandline_runtime::JobProgress;
use strandline_runtime::source::Extent;

/// The weight of a second that has passed in the average of speeds.
const WEIGHT: f64 = 0.5;
/// A lag that is greater than this is none: the events are from another time.
const RECENT: Duration = Duration::from_secs(7 * 24 * 3600);

/// Averages the progress of a job. It displays as a line for a person.
#[derive(Debug, Default)]
pub(super) struct Speed {
    now: JobProgress,
    /// Records per second.
    records: Option<f64>,
    /// Units of the input per second.
    input: Option<f64>,
}

impl Speed {
    pub(super) fn observe(&mut self, now: JobProgress) {
        let seconds = now.elapsed.saturating_sub(self.now.elapsed).as_secs_f64();
        if seconds > 0.0 {
            // What is read again takes as long as what is read.
            let all = |progress: &JobProgress| progress.read + progress.read_again;
            let more = all(&now).saturating_sub(all(&self.now)) as f64;
            average(&mut self.records, more / seconds, seconds);
            match (self.now.input, now.input) {
                (Some(before), Some(after)) if after.done >= before.done => {
                    average(&mut self.input, (after.done - before.done) as f64 / seconds, seconds);
                }
                _ => self.input = None,
            }
        }
        self.now = now;
    }

    /// The last progress.
    pub(super) fn now(&self) -> JobProgress {
        self.now
    }

    /// How long the rest of the input takes at this speed.
    fn left(&self) -> Option<Duration> {
        let Extent { done, total } = self.now.input?;
        let seconds = total.saturating_sub(done) as f64 / self.input.filter(|speed| *speed > 0.0)?;
        Duration::try_from_secs_f64(seconds).ok()
    }

    /// How far the watermark is behind the clock, where the events are recent.
    fn lag(&self, now: SystemTime) -> Option<Duration> {
        let watermark = u64::try_from(self.now.watermark?.as_millis()).ok()?;
        let watermark = UNIX_EPOCH.checked_add(Duration::from_millis(watermark))?;
        now.duration_since(watermark).ok().filter(|lag| *lag < RECENT)
    }
}

fn average(speed: &mut Option<f64>, current: f64, seconds: f64) {
    let weight = 1.0 - (1.0 - WEIGHT).powf(seconds);
    *speed = Some(speed.map_or(current, |before| before + weight * (current - before)));
}

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let JobProgress { read, input, watermark, .. } = self.now;
        if let Some(Extent { done, total }) = input.filter(|input| input.total > 0) {
            write!(f, "{}% of the input, ", u128::from(done) * 100 / u128::from(total))?;
        }
        let rate = self.records.unwrap_or_default() as u64;
        write!(f, "{} records read, {}/s", HumanCount(read), HumanCount(rate))?;
        if let Some(left) = self.left().filter(|left| !left.is_zero()) {
            write!(f, ", {} left", rounded(left))?;
        }
        if let Some(watermark) = watermark {
            match u64::try_from(watermark.as_millis()) {
                Ok(ms) if ms < YEAR_9999 => {
                    let at = UNIX_EPOCH + Duration::from_millis(ms);
                    write!(f, ", watermark {}", humantime::format_rfc3339_seconds(at))?;
                }
                _ => write!(f, ", watermark {} ms", watermark.as_millis())?,
            }
        }
        match self.lag(SystemTime::now()) {
            Some(lag) => write!(f, " ({} behind)", rounded(lag)),
            None => Ok(()),
        }
    }
}

/// The end of what RFC 3339 can write, in milliseconds.
const YEAR_9999: u64 = 253_402_300_799_000;

/// A time in whole seconds.
fn rounded(time: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(Duration::from_secs(time.as_secs_f64().ceil() as u64))
}

#[cfg(test)]
mod tests {
    use strandline_state_api::Timestamp;

    use super::*;

    fn progress(seconds: u64, read: u64, again: u64, done: u64) -> JobProgress {
        JobProgress {
            elapsed: Duration::from_secs(seconds),
            read,
            read_again: again,
            input: Some(Extent { done, total: 1_000 }),
            ..JobProgress::default()
        }
    }

    #[test]
    fn a_line_has_percent_rate_and_the_time_left() {
        let mut speed = Speed::default();
        speed.observe(progress(0, 0, 0, 0));
        speed.observe(progress(10, 5_000, 0, 250));
        assert_eq!(speed.to_string(), "25% of the input, 5,000 records read, 500/s, 30s left");
        // A restart goes back, and the rate is that of reading all the same.
        speed.observe(progress(20, 4_000, 6_000, 200));
        assert_eq!(speed.to_string(), "20% of the input, 4,000 records read, 500/s");
        let watermark = Some(Timestamp::from_millis(90_000));
        speed.observe(JobProgress { input: None, watermark, ..progress(20, 4_000, 6_000, 200) });
        assert_eq!(speed.to_string(), "4,000 records read, 500/s, watermark 1970-01-01T00:01:30Z");
    }

    #[test]
    fn a_lag_is_that_of_recent_events() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let watermark = Some(Timestamp::from_millis(10_000));
        let speed = Speed { now: JobProgress { watermark, ..JobProgress::default() }, ..Speed::default() };
        assert_eq!(speed.lag(at(25)), Some(Duration::from_secs(15)));
        assert_eq!(speed.lag(at(1_700_000_000)), None);
    }
}
