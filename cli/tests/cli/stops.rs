//! Processes that are stopped at random moments and go on when others have taken their place: each result
//! occurs once, whoever wakes when.

use std::time::{Duration, Instant};

use crate::support::{Folder, ORDERS_JOB, Orders, Running, assert_same, cases};

/// Stops fall anywhere: between a claim and the recovery of the output, into commits, before the first
/// checkpoint.
#[test]
fn results_are_exact_after_many_stops() {
    let orders = Orders::new(60_000, 13);
    let folder = Folder::new(ORDERS_JOB);
    folder.write("orders.csv", &orders.csv);
    let mut random = fastrand::Rng::with_seed(13);
    let rate = format!("--set=source.rate={}", 60_000 / cases(6));
    let (mut window, mut stopped, mut awake) = (Duration::ZERO, Vec::<Running>::new(), Vec::new());
    let mut start = |folder: &Folder, random: &mut fastrand::Rng| {
        let (began, parallelism) = (Instant::now(), format!("--parallelism={}", random.u32(1..4)));
        let mut running = folder.start(&[&parallelism, &rate, "--set=checkpoint.interval=20ms"]);
        if window.is_zero() {
            running.wait_for_checkpoints(3);
            window = began.elapsed();
        }
        running.stop_at(began + window.mul_f64(random.f64()));
        running
    };
    for _ in 0..cases(6) {
        stopped.push(start(&folder, &mut random));
        if random.bool() {
            let woken: Running = stopped.swap_remove(random.usize(..stopped.len()));
            woken.go_on();
            awake.push(woken);
        }
    }
    // Whoever is awake works, is fenced, or ends; nobody is stuck.
    awake.into_iter().for_each(|running| drop(running.end()));
    let (still, asleep) = (stopped.len(), stopped);
    let report = folder.run(&["--parallelism=2"]);
    assert!(matches!(report["outcome"].as_str(), Some("finished" | "already-finished")), "{report}");
    assert_same(&folder.visible("results"), &orders.sums, &format!("with {still} processes asleep"));

    for running in asleep {
        running.go_on();
        running.end();
    }
    assert_same(&folder.visible("results"), &orders.sums, "after all have woken");
    // What the sleepers left goes with the next start.
    assert_eq!(folder.run(&[])["outcome"], "already-finished");
    assert_same(&folder.results("results"), &orders.sums, "in the end");
}
