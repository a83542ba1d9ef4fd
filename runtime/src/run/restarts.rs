//! Whether and when a job restarts.

use std::time::Duration;

use strandline_state_api::{Error, ErrorKind};

use crate::config::{JobConfig, RestartStrategy};

/// The restart strategy at work.
#[derive(Debug)]
pub(super) struct Restarts {
    strategy: RestartStrategy,
    count: u32,
    /// The wait before the last restart.
    last: Option<Duration>,
    /// Failures since a graceful stop was asked for.
    while_stopping: u32,
}

impl Restarts {
    pub(super) fn new(config: &JobConfig) -> Self {
        let default =
            if config.checkpointing.is_some() { RestartStrategy::default() } else { RestartStrategy::None };
        let strategy = config.restart.unwrap_or(default);
        Self { strategy, count: 0, last: None, while_stopping: 0 }
    }

    /// How many there were.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// An attempt failed after `ran`: the wait before the next one, or `None` when there is to be none.
    pub(super) fn after(
        &mut self,
        error: &Error,
        opening: bool,
        stopping: bool,
        ran: Duration,
    ) -> Option<Duration> {
        if is_final(error.kind(), opening) {
            return None;
        }
        // A job that is asked to stop gets one more chance to do so properly.
        self.while_stopping += u32::from(stopping);
        if self.while_stopping > 1 {
            return None;
        }
        let delay = match self.strategy {
            RestartStrategy::None => return None,
            RestartStrategy::FixedDelay { attempts, delay } => (self.count < attempts).then_some(delay)?,
            RestartStrategy::ExponentialDelay { initial, max, multiplier, reset_after } => {
                let longer = |last: Duration| last.as_secs_f64() * multiplier.max(1.0);
                match self.last {
                    Some(last) if ran < reset_after => {
                        Duration::try_from_secs_f64(longer(last)).unwrap_or(max).min(max)
                    }
                    _ => initial.min(max),
                }
            }
        };
        self.count += 1;
        self.last = Some(delay);
        Some(delay)
    }
}

/// Whether the same failure would follow again.
fn is_final(kind: ErrorKind, opening: bool) -> bool {
    match kind {
        ErrorKind::Fenced | ErrorKind::Invalid | ErrorKind::Incompatible | ErrorKind::Unsupported => true,
        ErrorKind::Corrupt | ErrorKind::NotFound => opening,
        _ => false,
    }
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

    #[test]
    fn delays_grow_and_start_over_after_a_good_run() {
        let (initial, max, reset_after) = (SECOND, 4 * SECOND, 10 * SECOND);
        let strategy = RestartStrategy::ExponentialDelay { initial, max, multiplier: 2.0, reset_after };
        let mut restarts = restarts(strategy);
        let mut after = |ran| restarts.after(&broken(), false, false, ran).map(|delay| delay.as_secs());
        let delays: Vec<_> = [1, 1, 1, 1, 20, 1].map(|ran| after(ran * SECOND)).to_vec();
        assert_eq!(delays, [Some(1), Some(2), Some(4), Some(4), Some(1), Some(2)]);
    }

    #[test]
    fn fixed_delays_run_out() {
        let mut restarts = restarts(RestartStrategy::FixedDelay { attempts: 2, delay: SECOND });
        let after: Vec<_> =
            (0..3).map(|_| restarts.after(&broken(), false, false, SECOND).is_some()).collect();
        assert_eq!(after, [true, true, false]);
        assert_eq!(restarts.count(), 2);
    }

    #[test]
    fn what_would_fail_again_is_not_tried_again() {
        let mut restarts = restarts(RestartStrategy::default());
        let fenced = Error::new(ErrorKind::Fenced, "another coordinator");
        assert_eq!(restarts.after(&fenced, false, false, SECOND), None);
        let missing = Error::new(ErrorKind::NotFound, "no input");
        assert_eq!(restarts.after(&missing, true, false, SECOND), None, "at the start");
        assert!(restarts.after(&missing, false, false, SECOND).is_some(), "while running");
    }

    #[test]
    fn a_job_that_cannot_stop_properly_ends_all_the_same() {
        let mut restarts = restarts(RestartStrategy::default());
        assert!(restarts.after(&broken(), false, true, SECOND).is_some());
        assert_eq!(restarts.after(&broken(), false, true, SECOND), None);
    }
}
