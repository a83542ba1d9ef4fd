//! How long a failing operation is tried again.

use std::error::Error as StdError;
use std::io::{self, ErrorKind as Io};
use std::time::Duration;

use crate::StorageOptions;

const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Counts the retries of one operation.
#[derive(Debug)]
pub(super) struct Patience {
    retries: u32,
    most: u32,
    first_pause: Duration,
    first_pause_unreachable: Duration,
}

impl Patience {
    pub(super) fn new(options: &StorageOptions) -> Self {
        Self {
            retries: 0,
            most: options.retries,
            first_pause: options.retry_pause,
            first_pause_unreachable: options.unreachable_pause,
        }
    }

    /// The pause before the next retry, up to a quarter shorter or longer; `None` after the last.
    pub(super) fn pause(&mut self, error: &opendal::Error) -> Option<Duration> {
        if self.retries == self.most {
            return None;
        }
        let first = if is_unreachable(error) { self.first_pause_unreachable } else { self.first_pause };
        let times = 1_u32.checked_shl(self.retries).unwrap_or(u32::MAX);
        let pause = first.saturating_mul(times).min(LONGEST_PAUSE);
        self.retries += 1;
        Some(pause.mul_f64(0.75 + fastrand::f64() / 2.0))
    }
}

/// Whether there was no connection at all.
fn is_unreachable(error: &opendal::Error) -> bool {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = cause {
        let refused = error.downcast_ref::<io::Error>().is_some_and(|error| {
            matches!(
                error.kind(),
                Io::ConnectionRefused | Io::HostUnreachable | Io::NetworkUnreachable | Io::AddrNotAvailable
            )
        });
        if refused || error.to_string().starts_with("dns error") {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn longest(error: &opendal::Error, options: &StorageOptions) -> (usize, Duration) {
        let mut patience = Patience::new(options);
        let pauses: Vec<_> = std::iter::from_fn(|| patience.pause(error)).collect();
        (pauses.len(), pauses.iter().sum())
    }

    #[test]
    fn a_refused_connection_is_given_up_within_seconds_and_a_busy_store_is_not() {
        let busy = opendal::Error::new(opendal::ErrorKind::RateLimited, "slow down").set_temporary();
        let refused = io::Error::new(Io::ConnectionRefused, "refused");
        let refused = opendal::Error::new(opendal::ErrorKind::Unexpected, "send").set_source(refused);
        let options = StorageOptions::default();
        let more = options.clone().retries(40).retry_pause(Duration::MAX);
        assert_eq!(longest(&busy, &more).0, 40, "no pause overflows");
        let ((busy, long), (refused, short)) = (longest(&busy, &options), longest(&refused, &options));
        assert_eq!((busy, refused), (5, 5));
        assert!(long > Duration::from_secs(23), "{long:?}");
        assert!(short < Duration::from_secs(4), "{short:?}");
    }
}
