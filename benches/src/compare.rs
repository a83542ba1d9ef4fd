//! Two subjects take turns, so that what disturbs the machine disturbs both.
//!
//! A slice takes a few milliseconds. Each pair of neighbouring slices makes one ratio, the order alternates,
//! and the median of the ratios counts. A noisy neighbour that comes and goes hits both halves of most pairs
//! alike; those that it does not are the tails, which is why p5 and p95 stand beside every median.

use std::fmt::Debug;
use std::hint::black_box;
use std::time::Duration;

use strandline_state_api::{Error, Result};

use crate::clock::Clock;

/// Something that does operations of the kinds `Op`, a slice at a time.
pub trait Subject<Op> {
    /// How many operations one slice of `op` has.
    fn slice(&self, op: Op) -> usize;

    /// Prepares the state that the next slice of `op` starts from. Not timed.
    ///
    /// # Errors
    /// What the backend or the store fails with.
    fn ready(&mut self, op: Op) -> Result<()>;

    /// Does a slice of `op`. The result depends on what all its operations found, so nothing can be left out,
    /// and subjects that do the same work come to the same result.
    ///
    /// # Errors
    /// What the backend or the store fails with.
    fn work(&mut self, op: Op) -> Result<u64>;
}

/// How long a comparison takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// Pairs of slices that do not count.
    pub warm_up: usize,
    /// At least so many pairs count.
    pub min_pairs: usize,
    /// At most so many do.
    pub max_pairs: usize,
    /// In between, no more are started once the timed slices took this long together.
    pub time: Duration,
    /// Which time counts.
    pub clock: Clock,
}

impl Effort {
    /// What the table uses.
    pub const FULL: Self = Self {
        warm_up: 3,
        min_pairs: 5,
        max_pairs: 400,
        time: Duration::from_millis(2_500),
        clock: Clock::Thread,
    };
    /// For a first look.
    pub const QUICK: Self =
        Self { warm_up: 1, max_pairs: 40, time: Duration::from_millis(200), ..Self::FULL };
    /// For tests: does everything, measures nothing.
    pub const ONCE: Self =
        Self { warm_up: 0, min_pairs: 2, max_pairs: 2, time: Duration::ZERO, ..Self::FULL };

    /// The same by another clock.
    #[must_use]
    pub fn by(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }
}

/// The middle and the tails of some measurements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// A twentieth of the measurements is below.
    pub p5: f64,
    /// The median.
    pub p50: f64,
    /// A twentieth of the measurements is above.
    pub p95: f64,
}

impl Spread {
    /// Of `samples`, in any order; all zero when there are none.
    pub fn of(samples: impl IntoIterator<Item = f64>) -> Self {
        let mut samples: Vec<f64> = samples.into_iter().collect();
        samples.sort_by(f64::total_cmp);
        let at = |q: f64| {
            let position = q * samples.len().saturating_sub(1) as f64;
            let (low, share) = (position.floor() as usize, position.fract());
            match (samples.get(low), samples.get(low + 1)) {
                (Some(low), Some(high)) => low + (high - low) * share,
                (Some(only), None) => *only,
                _ => 0.0,
            }
        };
        Self { p5: at(0.05), p50: at(0.5), p95: at(0.95) }
    }
}

/// How one subject did beside another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// Time of the one divided by time of the other, pair by pair: below 1 the first is the faster.
    pub ratio: Spread,
    /// Nanoseconds for each operation of the first.
    pub ours_ns: Spread,
    /// Nanoseconds for each operation of the second.
    pub plain_ns: Spread,
    /// How many pairs counted.
    pub pairs: usize,
}

/// Lets `ours` and `plain` take turns at `op`.
///
/// # Errors
/// What they fail with, and an error when they come to different results.
pub fn compare<Op: Copy + Debug>(
    op: Op,
    ours: &mut impl Subject<Op>,
    plain: &mut impl Subject<Op>,
    effort: Effort,
) -> Result<Comparison> {
    let mut pairs = Vec::new();
    let mut spent = Duration::ZERO;
    for turn in 0.. {
        ours.ready(op)?;
        plain.ready(op)?;
        let (a, b) = if turn % 2 == 0 {
            let a = timed_slice(op, ours, effort.clock)?;
            (a, timed_slice(op, plain, effort.clock)?)
        } else {
            let b = timed_slice(op, plain, effort.clock)?;
            (timed_slice(op, ours, effort.clock)?, b)
        };
        if a.1 != b.1 {
            return Err(Error::invalid(format!(
                "the two sides of {op:?} came to different results in slice {turn}: {:#x} and {:#x}",
                a.1, b.1
            )));
        }
        if turn < effort.warm_up {
            continue;
        }
        pairs.push((a.0, b.0));
        spent += a.0 + b.0;
        if pairs.len() >= effort.max_pairs || (pairs.len() >= effort.min_pairs && spent >= effort.time) {
            break;
        }
    }
    let each = |time: Duration, slice: usize| time.as_secs_f64() * 1e9 / slice.max(1) as f64;
    let (of_ours, of_plain) = (ours.slice(op), plain.slice(op));
    Ok(Comparison {
        ratio: Spread::of(pairs.iter().map(|(a, b)| a.as_secs_f64() / b.as_secs_f64().max(1e-9))),
        ours_ns: Spread::of(pairs.iter().map(|(a, _)| each(*a, of_ours))),
        plain_ns: Spread::of(pairs.iter().map(|(_, b)| each(*b, of_plain))),
        pairs: pairs.len(),
    })
}

fn timed_slice<Op>(
    op: Op,
    subject: &mut (impl Subject<Op> + ?Sized),
    clock: Clock,
) -> Result<(Duration, u64)> {
    let (result, took) = clock.time(|| black_box(subject.work(op)));
    Ok((took, result?))
}

/// The time of `iterations` operations, from whole slices; for criterion's `iter_custom`.
///
/// # Errors
/// What the subject fails with.
pub fn timed<Op: Copy>(
    op: Op,
    subject: &mut (impl Subject<Op> + ?Sized),
    iterations: u64,
) -> Result<Duration> {
    let slice = subject.slice(op).max(1) as u64;
    let slices = iterations.div_ceil(slice).max(1);
    let mut total = Duration::ZERO;
    for _ in 0..slices {
        subject.ready(op)?;
        total += timed_slice(op, subject, Clock::Wall)?.0;
    }
    Ok(total.mul_f64(iterations as f64 / (slices * slice) as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Counter(u64);

    impl Subject<u64> for Counter {
        fn slice(&self, _: u64) -> usize {
            10
        }

        fn ready(&mut self, _: u64) -> Result<()> {
            Ok(())
        }

        fn work(&mut self, op: u64) -> Result<u64> {
            self.0 += op;
            Ok(self.0)
        }
    }

    #[test]
    fn quantiles_lie_between_their_neighbours() {
        let spread = Spread::of((0..=100).rev().map(f64::from));
        assert_eq!((spread.p5, spread.p50, spread.p95), (5.0, 50.0, 95.0));
        assert_eq!(Spread::of([2.0, 1.0]).p50, 1.5);
        assert_eq!(Spread::of([]).p95, 0.0);
    }

    #[test]
    fn sides_that_do_different_work_are_found_out() {
        let compared = compare(3, &mut Counter(0), &mut Counter(0), Effort::ONCE).unwrap();
        assert_eq!(compared.pairs, 2);
        let error = compare(3, &mut Counter(0), &mut Counter(1), Effort::ONCE).unwrap_err();
        assert!(error.to_string().contains("different results"), "{error}");
    }

    #[test]
    fn the_time_of_part_of_a_slice_is_in_proportion() {
        let mut counter = Counter(0);
        timed(1, &mut counter, 25).unwrap();
        assert_eq!(counter.0, 3, "25 operations are three slices of 10");
    }
}
