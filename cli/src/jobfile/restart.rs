//! What a job does after a failure.

use std::time::Duration;

use strandline_runtime::RestartStrategy;

use super::keys;
use super::problem::Problems;
use super::section::Section;
use super::tree::Node;

/// How often a job restarts in a row unless the file has another number.
const ATTEMPTS: u32 = 10;

/// Reads `[restart]` of a job.
pub(super) fn parse(node: Option<&Node>, problems: &Problems) -> RestartStrategy {
    let Some(node) = node else { return exponential(None, ATTEMPTS) };
    // Before there were strategies, a delay was fixed.
    let default = if node.has("delay") { "fixed-delay" } else { "exponential-delay" };
    let Some((strategy, section)) = Section::choose(node, &keys::RESTART, Some(default), problems) else {
        return RestartStrategy::None;
    };
    let strategy = match strategy {
        "fixed-delay" => RestartStrategy::FixedDelay {
            attempts: section.small_integer("attempts").unwrap_or(3),
            delay: section.duration("delay").unwrap_or(Duration::from_secs(1)),
        },
        "failure-rate" => RestartStrategy::FailureRate {
            failures: section.small_integer("failures").unwrap_or(3),
            interval: section.duration("interval").unwrap_or(Duration::from_secs(60)),
            delay: section.duration("delay").unwrap_or(Duration::from_secs(1)),
        },
        "none" => RestartStrategy::None,
        _ => exponential(Some(&section), section.small_integer("attempts").unwrap_or(ATTEMPTS)),
    };
    match strategy {
        RestartStrategy::FixedDelay { attempts: 0, .. }
        | RestartStrategy::ExponentialDelay { attempts: 0, .. } => RestartStrategy::None,
        strategy => strategy,
    }
}

fn exponential(section: Option<&Section<'_>>, attempts: u32) -> RestartStrategy {
    let duration = |key: &str| section.and_then(|section| section.duration(key));
    let initial = duration("initial_delay").unwrap_or(Duration::from_secs(1));
    RestartStrategy::ExponentialDelay {
        initial,
        max: duration("max_delay").unwrap_or(Duration::from_secs(30).max(initial)),
        multiplier: section.and_then(|section| section.number("multiplier")).unwrap_or(1.5),
        reset_after: duration("reset_after").unwrap_or(Duration::from_secs(60)),
        attempts,
    }
}
