//! Whether and when a job restarts.

use std::collections::VecDeque;
use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use strandline_state_api::{Error, ErrorKind};

use crate::config::{JobConfig, RestartStrategy};

/// The restart strategy at work.
#[derive(Debug)]
pub(super) struct Restarts {
    strategy: RestartStrategy,
    count: u32,
    /// Restarts without a good run or a checkpoint in between.
    in_row: u32,
    /// The wait before the last restart.
    last: Option<Duration>,
    /// How long the attempts ran and waited so far.
    elapsed: Duration,
    /// When the newest failures were, by that time.
    failures: VecDeque<Duration>,
    /// Failures since a graceful stop was asked for.
    while_stopping: u32,
    /// Whether all of the job ran at some time.
    has_run: bool,
    /// The error before, where it names its record.
    at_record: Option<String>,
}

/// How an attempt failed.
#[derive(Debug)]
pub(super) struct FailedAttempt<'e> {
    pub(super) error: &'e Error,
    /// It failed before all of it ran.
    pub(super) opening: bool,
    /// The job is asked to stop.
    pub(super) stopping: bool,
    /// How long it ran.
    pub(super) ran: Duration,
    /// It completed a checkpoint.
    pub(super) progressed: bool,
}

impl Restarts {
    pub(super) fn new(config: &JobConfig) -> Self {
        let default =
            if config.checkpointing.is_some() { RestartStrategy::default() } else { RestartStrategy::None };
        Self {
            strategy: config.restart.unwrap_or(default),
            count: 0,
            in_row: 0,
            last: None,
            elapsed: Duration::ZERO,
            failures: VecDeque::new(),
            while_stopping: 0,
            has_run: false,
            at_record: None,
        }
    }

    /// How many there were.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// The wait before the attempt after `failed`, or `None` when there is to be none.
    pub(super) fn after(&mut self, failed: &FailedAttempt<'_>) -> Option<Duration> {
        let FailedAttempt { error, opening, stopping, ran, progressed } = *failed;
        self.has_run |= !opening;
        self.elapsed += ran;
        let at_record = names_record(error).then(|| error.to_string());
        let again = at_record.is_some() && at_record == self.at_record;
        self.at_record = at_record;
        if again || is_final(error.kind(), opening) || (!self.has_run && is_refused(error)) {
            return None;
        }
        // A job that is asked to stop gets one more chance to do so properly.
        self.while_stopping += u32::from(stopping);
        if self.while_stopping > 1 {
            return None;
        }
        let delay = self.delay(ran, progressed)?;
        self.count += 1;
        self.last = Some(delay);
        self.elapsed += delay;
        Some(delay)
    }

    fn delay(&mut self, ran: Duration, progressed: bool) -> Option<Duration> {
        match self.strategy {
            RestartStrategy::None => None,
            RestartStrategy::FixedDelay { attempts, delay } => (self.count < attempts).then_some(delay),
            RestartStrategy::ExponentialDelay { initial, max, multiplier, reset_after, attempts } => {
                if progressed || ran >= reset_after {
                    self.in_row = 0;
                }
                if self.in_row >= attempts {
                    return None;
                }
                self.in_row = self.in_row.saturating_add(1);
                let longer = |last: Duration| last.as_secs_f64() * multiplier.max(1.0);
                Some(match self.last {
                    Some(last) if ran < reset_after => {
                        Duration::try_from_secs_f64(longer(last)).unwrap_or(max).min(max)
                    }
                    _ => initial.min(max),
                })
            }
            RestartStrategy::FailureRate { failures, interval, delay } => {
                self.failures.push_back(self.elapsed);
                while self.failures.front().is_some_and(|at| self.elapsed - *at >= interval) {
                    self.failures.pop_front();
                }
                (self.failures.len() < failures as usize).then_some(delay)
            }
        }
    }
}

/// Whether an error of the user's code names the record at which it happened, so that the same text means the
/// same record.
fn names_record(error: &Error) -> bool {
    let named = ["key", "records", "line", "byte"].iter().any(|name| error.context(name).is_some());
    error.kind() == ErrorKind::User && named
}

/// Whether the same failure would follow again.
fn is_final(kind: ErrorKind, opening: bool) -> bool {
    match kind {
        ErrorKind::Fenced | ErrorKind::Invalid | ErrorKind::Incompatible | ErrorKind::Unsupported => true,
        ErrorKind::Corrupt | ErrorKind::NotFound => opening,
        _ => false,
    }
}

/// Whether the operating system refused something for a reason that waiting does not change.
fn is_refused(error: &Error) -> bool {
    let mut cause = StdError::source(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            let refused = [
                io::ErrorKind::PermissionDenied,
                io::ErrorKind::ReadOnlyFilesystem,
                io::ErrorKind::NotADirectory,
                io::ErrorKind::IsADirectory,
            ];
            return refused.contains(&error.kind());
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn restarts(strategy: RestartStrategy) -> Restarts {
        Restarts::new(&JobConfig { restart: Some(strategy), ..JobConfig::default() })
    }

    fn broken() -> Error {
        Error::new(ErrorKind::User, "broken")
    }

    /// A failure while running, after a second.
    fn failed(error: &Error) -> FailedAttempt<'_> {
        FailedAttempt { error, opening: false, stopping: false, ran: SECOND, progressed: false }
    }

    fn exponential(attempts: u32) -> RestartStrategy {
        let (initial, max, reset_after) = (SECOND, 4 * SECOND, 10 * SECOND);
        RestartStrategy::ExponentialDelay { initial, max, multiplier: 2.0, reset_after, attempts }
    }

    #[test]
    fn delays_grow_and_start_over_after_a_good_run() {
        let mut restarts = restarts(exponential(u32::MAX));
        let error = broken();
        let mut after = |ran| {
            let delay = restarts.after(&FailedAttempt { ran, ..failed(&error) });
            delay.map(|delay| delay.as_secs())
        };
        let delays: Vec<_> = [1, 1, 1, 1, 20, 1].map(|ran| after(ran * SECOND)).to_vec();
        assert_eq!(delays, [Some(1), Some(2), Some(4), Some(4), Some(1), Some(2)]);
    }

    #[test]
    fn restarts_in_a_row_run_out_and_a_checkpoint_or_a_good_run_starts_the_row_over() {
        let mut restarts = restarts(exponential(2));
        let error = broken();
        let mut after =
            |ran, progressed| restarts.after(&FailedAttempt { ran, progressed, ..failed(&error) }).is_some();
        for _ in 0..100 {
            assert!(after(SECOND, true) && after(SECOND, false), "a checkpoint was completed");
        }
        assert!(after(20 * SECOND, false) && after(SECOND, false), "a good run");
        assert!(!after(SECOND, false));
    }

    #[test]
    fn fixed_delays_run_out() {
        let mut restarts = restarts(RestartStrategy::FixedDelay { attempts: 2, delay: SECOND });
        let error = broken();
        let after: Vec<_> = (0..3).map(|_| restarts.after(&failed(&error)).is_some()).collect();
        assert_eq!(after, [true, true, false]);
        assert_eq!(restarts.count(), 2);
    }

    #[test]
    fn a_rate_of_failures_ends_the_job_and_rare_ones_do_not() {
        let strategy = RestartStrategy::FailureRate { failures: 3, interval: 60 * SECOND, delay: SECOND };
        let mut restarts = restarts(strategy);
        let error = broken();
        let mut after = |ran| restarts.after(&FailedAttempt { ran, ..failed(&error) }).is_some();
        for _ in 0..100 {
            assert!(after(40 * SECOND), "two within a minute at most");
        }
        assert!(!after(SECOND), "the third within a minute");
    }

    #[test]
    fn what_would_fail_again_is_not_tried_again() {
        let mut restarts = restarts(RestartStrategy::default());
        let fenced = Error::new(ErrorKind::Fenced, "another coordinator");
        assert_eq!(restarts.after(&failed(&fenced)), None);
        let missing = Error::new(ErrorKind::NotFound, "no input");
        let opening = FailedAttempt { opening: true, ..failed(&missing) };
        assert_eq!(restarts.after(&opening), None, "at the start");
        assert!(restarts.after(&failed(&missing)).is_some(), "while running");
    }

    /// When the job starts, nobody mends it; later, somebody broke it.
    #[test]
    fn what_the_system_refuses_ends_a_job_that_never_ran() {
        let refused = io::Error::from(io::ErrorKind::PermissionDenied);
        let refused = Error::new(ErrorKind::Unavailable, "no file can be made").caused_by(refused);
        let opening = FailedAttempt { opening: true, ..failed(&refused) };
        assert_eq!(restarts(exponential(9)).after(&opening), None);
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let full = Error::new(ErrorKind::Unavailable, "no file can be made").caused_by(full);
        let mut restarts = restarts(exponential(9));
        assert!(restarts.after(&FailedAttempt { opening: true, ..failed(&full) }).is_some());
        assert!(restarts.after(&failed(&broken())).is_some());
        assert!(restarts.after(&opening).is_some());
    }

    #[test]
    fn the_same_error_at_the_same_record_ends_the_job() {
        let at = |key: &str| broken().with("operator", "sums").with("key", key);
        let mut restarts = restarts(exponential(99));
        for key in ["a", "b", "a", "b"] {
            assert!(restarts.after(&failed(&at(key))).is_some(), "another record than before");
        }
        assert_eq!(restarts.after(&failed(&at("b"))), None);
        let mut of_store = self::restarts(exponential(99));
        let down = Error::new(ErrorKind::Unavailable, "the store is down").with("key", "b");
        for _ in 0..5 {
            assert!(of_store.after(&failed(&down)).is_some(), "it may be up at the next attempt");
            assert!(of_store.after(&failed(&broken())).is_some(), "no record is named");
        }
    }

    #[test]
    fn a_job_that_cannot_stop_properly_ends_all_the_same() {
        let mut restarts = restarts(RestartStrategy::default());
        let error = broken();
        let stopping = FailedAttempt { stopping: true, ..failed(&error) };
        assert!(restarts.after(&stopping).is_some());
        assert_eq!(restarts.after(&stopping), None);
    }
}
