//! Worlds with a sink whose processes sleep.

use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model};

use crate::outputs::Rule;
use crate::overtaking::Barriers;
use crate::world::Budget;
use crate::{Limits, explore, large, walk};

/// A job that falls back, goes on, and falls back once more.
const TWO_FALLBACKS: Budget = Budget { starts: 3, crashes: 2, requests: 4, fallbacks: 2, ..Budget::NONE };

/// Sinks that recover and clean up while other processes sleep: between any two operations on the output.
fn of_the_output(rule: Rule) -> Limits {
    let more = u8::from(large());
    Limits {
        budget: Budget {
            starts: 3 + more,
            crashes: 1 + more,
            requests: 3 + more,
            fallbacks: 1,
            ..Budget::default()
        },
        concurrent: 1,
        records: 8,
        calm_tasks: true,
        calm_log: true,
        finishing: false,
        aborts: false,
        rule,
        barriers: Barriers::Aligned,
        recovery_sample: 200,
        must_see: &[
            "a stale coordinator is fenced",
            "a dead file is removed",
            "a stale sink does not find its file",
            "a checkpoint completes after a restart",
        ],
    }
}

#[test]
fn sleeping_sinks() {
    explore("sleeping sinks", &of_the_output(Rule::Dead));
}

/// Two fallbacks, the second of which starts where the first one had given up something.
#[test]
fn sleeping_sinks_that_fall_back_twice() {
    let must_see = &["a dead file is removed", "a job falls back behind what was given up"];
    let limits = Limits { budget: TWO_FALLBACKS, must_see, ..of_the_output(Rule::Dead) };
    explore("sleeping sinks that fall back twice", &limits);
}

/// The same deeper, with answers of the log that get lost and slots that are deleted.
#[test]
fn many_sleeping_sinks() {
    let budget = Budget {
        starts: 6,
        crashes: 4,
        requests: 10,
        lost_answers: 2,
        failed_manifests: 1,
        deletions: 6,
        fallbacks: 3,
        ..Budget::default()
    };
    let must_see = &["a stale coordinator is fenced", "a dead file is removed", "a lost answer is settled"];
    let limits = Limits { budget, calm_log: false, records: 20, must_see, ..of_the_output(Rule::Dead) };
    walk("many sleeping sinks", &limits, 60_000);
}

/// The model finds what is wrong with rules that look right.
#[test]
fn rules_that_need_luck_are_found() {
    for (rule, property) in [
        (Rule::Above, "no result is lost"),
        (Rule::Early, "no result is lost"),
        (Rule::Backwards, "no result is visible twice"),
        (Rule::AnyPast, "no rule is broken on the way"),
    ] {
        let began = Instant::now();
        let mut limits = of_the_output(rule);
        if rule == Rule::AnyPast {
            limits.budget = TWO_FALLBACKS;
        }
        let checker = limits.checker().threads(2);
        let checker = checker.finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
        let (states, seconds) = (checker.unique_state_count(), began.elapsed().as_secs_f64());
        let path = checker.discovery(property);
        let path = path.unwrap_or_else(|| panic!("{rule:?}: {property}, in {states} states"));
        println!("{rule:?}: not {property}, after {states} states, {seconds:.1} s");
        println!("    {:?}", path.into_actions());
    }
}
