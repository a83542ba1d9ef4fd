//! What a job does after a failure.

use std::time::Duration;

use strandline_runtime::RestartStrategy;

use super::problem::Problem;
use super::section::Section;

const STRATEGIES: [&str; 4] = ["exponential-delay", "fixed-delay", "failure-rate", "none"];

/// How often a job restarts in a row unless the file has another number.
const ATTEMPTS: u32 = 10;

/// Reads `[restart]` of a job.
pub(super) fn parse(job: &Section<'_>) -> Result<RestartStrategy, Problem> {
    let Some(node) = job.optional("restart") else { return exponential(None, ATTEMPTS) };
    let any = Section::open(node, "[restart]")?;
    let of = |what, keys: &[&str]| Section::new(node, what, &[&["strategy"], keys].concat());
    let strategy = match any.text("strategy")? {
        Some(strategy) => strategy,
        // Before there were strategies, a delay was fixed.
        None if any.optional("delay").is_some() => "fixed-delay",
        None => "exponential-delay",
    };
    let strategy = match strategy {
        "exponential-delay" => {
            let keys = ["attempts", "initial_delay", "max_delay", "multiplier", "reset_after"];
            let section = of("[restart] with growing delays", &keys)?;
            let attempts = section.small_integer("attempts", 0)?.unwrap_or(ATTEMPTS);
            exponential(Some(&section), attempts)?
        }
        "fixed-delay" => {
            let section = of("[restart] with a fixed delay", &["attempts", "delay"])?;
            let attempts = section.small_integer("attempts", 0)?.unwrap_or(3);
            let delay = section.duration("delay")?.unwrap_or(Duration::from_secs(1));
            RestartStrategy::FixedDelay { attempts, delay }
        }
        "failure-rate" => {
            let section = of("[restart] by the rate of failures", &["failures", "interval", "delay"])?;
            RestartStrategy::FailureRate {
                failures: section.small_integer("failures", 1)?.unwrap_or(3),
                interval: section.duration("interval")?.unwrap_or(Duration::from_secs(60)),
                delay: section.duration("delay")?.unwrap_or(Duration::from_secs(1)),
            }
        }
        "none" => of("[restart] without a strategy", &[]).map(|_| RestartStrategy::None)?,
        other => {
            let location = &any.required("strategy")?.location;
            return Err(Problem::unknown(location, "restart strategy", other, &STRATEGIES));
        }
    };
    Ok(match strategy {
        RestartStrategy::FixedDelay { attempts: 0, .. }
        | RestartStrategy::ExponentialDelay { attempts: 0, .. } => RestartStrategy::None,
        strategy => strategy,
    })
}

fn exponential(section: Option<&Section<'_>>, attempts: u32) -> Result<RestartStrategy, Problem> {
    let duration = |key: &str| section.map_or(Ok(None), |section| section.duration(key));
    let multiplier = match section.map(|section| section.number("multiplier", 1.0)) {
        Some(multiplier) => multiplier?,
        None => None,
    };
    let initial = duration("initial_delay")?.unwrap_or(Duration::from_secs(1));
    Ok(RestartStrategy::ExponentialDelay {
        initial,
        max: duration("max_delay")?.unwrap_or(Duration::from_secs(30).max(initial)),
        multiplier: multiplier.unwrap_or(1.5),
        reset_after: duration("reset_after")?.unwrap_or(Duration::from_secs(60)),
        attempts,
    })
}
