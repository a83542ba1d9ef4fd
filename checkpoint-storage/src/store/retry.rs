//! How long a failing operation is tried again.

use std::error::Error as StdError;
use std::io::{self, ErrorKind as Io};
use std::time::Duration;

const RETRIES: u32 = 5;
/// Doubles with every retry. A store that is there and too busy gets half a minute.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Where nobody listens, an answer is due within seconds: it may be a mistake in the address.
const FIRST_PAUSE_UNREACHABLE: Duration = Duration::from_millis(100);

/// Counts the retries of one operation.
#[derive(Debug, Default)]
pub(super) struct Patience {
    retries: u32,
}

impl Patience {
    /// The pause before the next retry, up to a quarter shorter or longer; `None` after the last.
    pub(super) fn pause(&mut self, error: &opendal::Error) -> Option<Duration> {
        if self.retries == RETRIES {
            return None;
        }
        let first = if is_unreachable(error) { FIRST_PAUSE_UNREACHABLE } else { FIRST_PAUSE };
        let pause = first * (1 << self.retries);
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

    fn longest(error: &opendal::Error) -> (usize, Duration) {
        let mut patience = Patience::default();
        let pauses: Vec<_> = std::iter::from_fn(|| patience.pause(error)).collect();
        (pauses.len(), pauses.iter().sum())
    }

    #[test]
    fn a_refused_connection_is_given_up_within_seconds_and_a_busy_store_is_not() {
        let busy = opendal::Error::new(opendal::ErrorKind::RateLimited, "slow down").set_temporary();
        let refused = io::Error::new(Io::ConnectionRefused, "refused");
        let refused = opendal::Error::new(opendal::ErrorKind::Unexpected, "send").set_source(refused);
        let ((busy, long), (refused, short)) = (longest(&busy), longest(&refused));
        assert_eq!((busy, refused), (5, 5));
        assert!(long > Duration::from_secs(23), "{long:?}");
        assert!(short < Duration::from_secs(4), "{short:?}");
    }
}
