//! The setting in which everything that the protocol promises meets: three tasks, three checkpoints in flight
//! of which one is a savepoint, two coordinators at once, two crashes, snapshots that fail, aborts, messages
//! that are lost and repeated.
//!
//! Its states cannot all be visited. With `STRANDLINE_MODEL=large` the test visits all up to a depth, breadth
//! first, until their number reaches a bound, and walks at random beyond; without, it only walks.
//!
//! One large run, with `STRANDLINE_CASES=8` on two busy cores: breadth first 1,025,422 states, 346,094 of
//! them different, to depth 12, in 35 s; at random 9,600,053 states to depth 57 in 8.5 minutes. Nothing was
//! violated.

use std::time::{Duration, Instant};

use stateright::{Checker, HasDiscoveries, Model};

use crate::outputs::Rule;
use crate::overtaking::Barriers;
use crate::world::Budget;
use crate::{Limits, large, report, walk};

/// How many states are reached breadth first. Each takes some 5 KiB until its successors are known.
const STATES: usize = 1_000_000;
/// How long they may take at most.
const TIME: Duration = Duration::from_secs(8 * 60);

fn limits() -> Limits {
    Limits {
        budget: Budget {
            starts: 3,
            crashes: 2,
            requests: 3,
            savepoints: 1,
            declines: 1,
            losses: 1,
            duplicates: 1,
            ..Budget::default()
        },
        concurrent: 3,
        records: 1,
        calm_tasks: false,
        calm_log: false,
        finishing: false,
        aborts: true,
        rule: Rule::None,
        barriers: Barriers::Aligned,
        recovery_sample: 500,
        must_see: &[],
    }
}

#[test]
fn three_tasks_three_checkpoints_two_coordinators() {
    let name = "three tasks, three checkpoints, two coordinators";
    if large() {
        let began = Instant::now();
        let checker = limits().checker().threads(2).target_state_count(STATES).timeout(TIME);
        let checker = checker.finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
        let all = checker.state_count() < STATES && began.elapsed() < TIME;
        report(&format!("{name}, breadth first"), &limits(), began, all, &checker);
    }
    let must_see = &["a checkpoint is aborted", "an acknowledgement is late"];
    walk(&format!("{name}, at random"), &Limits { must_see, ..limits() }, 60_000);
}
