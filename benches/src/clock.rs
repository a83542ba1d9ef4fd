//! The clocks that time some work.

use std::time::{Duration, Instant};

/// Which time counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Clock {
    /// The time that the processor spent on this thread. On a busy machine that is a fraction of what passed,
    /// and what the work costs. It leaves out waiting and other threads, so it is for work that has neither.
    /// On a system without such a clock it is the same as [`Wall`](Self::Wall).
    #[default]
    Thread,
    /// The time that passed.
    Wall,
}

impl Clock {
    /// Does `work`; returns its result and how long it took.
    pub fn time<T>(self, work: impl FnOnce() -> T) -> (T, Duration) {
        match self {
            Self::Thread => {
                let start = of_thread();
                let done = work();
                (done, of_thread().saturating_sub(start))
            }
            Self::Wall => {
                let start = Instant::now();
                let done = work();
                (done, start.elapsed())
            }
        }
    }
}

/// Returns the time since some moment, the same for all calls of one thread.
#[cfg(unix)]
fn of_thread() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

#[cfg(not(unix))]
fn of_thread() -> Duration {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

/// Returns the processor time of all child processes that have ended, where the system reports it.
pub fn of_ended_children() -> Option<Duration> {
    of_fields(13)
}

/// Returns the processor time of all threads of this process, where the system reports it.
pub fn of_this_process() -> Option<Duration> {
    of_fields(11)
}

/// Adds up two neighbouring fields of the status of this process, counted behind its name.
#[cfg(target_os = "linux")]
fn of_fields(first: usize) -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the program stands in parentheses and may hold anything. The times of the process are the 12th and
    // 13th field behind it, those of its children the 14th and 15th.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(first);
    let ticks = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

#[cfg(not(target_os = "linux"))]
fn of_fields(_: usize) -> Option<Duration> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_passes_for_work_on_both_clocks() {
        for clock in [Clock::Thread, Clock::Wall] {
            let (sum, took) = clock.time(|| (0..1_000_000_u64).fold(0, |a, b| std::hint::black_box(a ^ b)));
            assert!(sum < 1 << 20 && took > Duration::ZERO, "{clock:?}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_time_of_children_grows_by_what_they_used() {
        let before = of_ended_children().unwrap();
        let script = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done";
        assert!(std::process::Command::new("sh").args(["-c", script]).status().unwrap().success());
        assert!(of_ended_children().unwrap() > before);
    }

    #[test]
    #[cfg(unix)]
    fn waiting_is_no_time_of_the_thread() {
        let ((), took) = Clock::Thread.time(|| std::thread::sleep(Duration::from_millis(50)));
        assert!(took < Duration::from_millis(50), "{took:?}");
    }
}
