//! The claim primitive: of all who race for a slot one wins, in threads and in processes, and a kill leaves
//! it free or whole.

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Barrier};

use strandline_checkpoint_storage::{ClaimOutcome, ClaimStore, LocalDir, ObjectStore, slot_path};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::common::cases;

const DIR: &str = "STRANDLINE_TEST_CLAIM_DIR";
/// Long enough that a torn write would show.
const LEN: usize = 20_000;

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn content(who: u8) -> Vec<u8> {
    vec![who; LEN]
}

/// Eight threads race for each slot; `store` opens a thread's own handle.
fn race(rounds: u64, store: impl Fn() -> Arc<dyn ClaimStore> + Sync) {
    const THREADS: u8 = 8;
    let barrier = Barrier::new(THREADS.into());
    let wins = |who: u8| {
        let (runtime, store) = (runtime(), store());
        let mut won = Vec::new();
        for round in 0..rounds {
            barrier.wait();
            let outcome = runtime.block_on(store.claim(&slot_path(round), content(who).into())).unwrap();
            // Whoever lost finds the winner's entry, whole.
            let found = runtime.block_on(store.read(&slot_path(round), LEN as u64)).unwrap().unwrap();
            assert_eq!(found, content(found[0]), "slot {round}");
            assert_eq!(outcome == ClaimOutcome::Created, found[0] == who, "slot {round}");
            won.extend((outcome == ClaimOutcome::Created).then_some(round));
        }
        won
    };
    let mut won: Vec<u64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|who| scope.spawn(move || wins(who))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    won.sort_unstable();
    assert_eq!(won, (0..rounds).collect::<Vec<_>>(), "every slot has exactly one winner");
}

#[test]
fn of_eight_threads_one_wins_on_a_local_disk() {
    let dir = TempDir::new().unwrap();
    race(cases(150), || Arc::new(LocalDir::new(dir.path()).unwrap()));
    let left: Vec<_> =
        std::fs::read_dir(dir.path().join("log")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().ends_with(".tmp")), "{left:?}");
}

#[test]
fn of_eight_threads_one_wins_in_memory() {
    let store = ObjectStore::in_memory().unwrap();
    race(cases(1_000), || Arc::new(store.clone()));
}

#[test]
fn a_store_that_checks_then_renames_is_refused() {
    let dir = TempDir::new().unwrap();
    let fs = opendal::services::Fs::default().root(dir.path().to_str().unwrap());
    let store = ObjectStore::new(opendal::Operator::new(fs).unwrap());
    let error = runtime().block_on(store.claim("log/0", content(0).into())).unwrap_err();
    assert_eq!(error.kind(), strandline_state_api::ErrorKind::Unsupported);
    assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none(), "nothing may be written");
}

/// A process that claims the slots it reads from its standard input, and answers on its standard output.
struct Claimer {
    child: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Claimer {
    fn start(dir: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["claims::claimer_process", "--exact", "--nocapture"]).env(DIR, dir);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (orders, answers) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, orders, answers: BufReader::new(answers).lines() }
    }

    fn order(&mut self, slot: u64) {
        writeln!(self.orders, "{slot}").unwrap();
        self.orders.flush().unwrap();
    }

    /// What became of the oldest order without an answer.
    fn answer(&mut self) -> Option<(u64, bool)> {
        loop {
            let line = self.answers.next()?.unwrap();
            // The test harness prints its own lines, and may leave one unfinished.
            if let Some((_, answer)) = line.split_once("claim: ") {
                let (slot, won) = answer.split_once(' ').unwrap();
                return Some((slot.parse().unwrap(), won == "won"));
            }
        }
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Not a test: the other processes are this program, which a variable makes run only this.
#[test]
fn claimer_process() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let (runtime, store) = (runtime(), LocalDir::new(dir).unwrap());
    let who = std::process::id().to_string();
    for order in std::io::stdin().lines() {
        let slot: u64 = order.unwrap().parse().unwrap();
        let content = who.repeat(LEN / who.len());
        let outcome = runtime.block_on(store.claim(&slot_path(slot), content.into())).unwrap();
        println!("claim: {slot} {}", if outcome == ClaimOutcome::Created { "won" } else { "lost" });
    }
}

#[test]
fn of_four_processes_one_wins() {
    let dir = TempDir::new().unwrap();
    let (runtime, store) = (runtime(), LocalDir::new(dir.path()).unwrap());
    let mut claimers: Vec<_> = (0..4).map(|_| Claimer::start(dir.path())).collect();
    for round in 0..cases(1_000) {
        claimers.iter_mut().for_each(|claimer| claimer.order(round));
        let winners: Vec<_> = claimers
            .iter_mut()
            .filter_map(|claimer| {
                let (slot, won) = claimer.answer().unwrap();
                assert_eq!(slot, round);
                won.then(|| claimer.pid().to_string())
            })
            .collect();
        let [winner] = &winners[..] else { panic!("slot {round} was won by {winners:?}") };
        let found =
            runtime.block_on(ClaimStore::read(&store, &slot_path(round), LEN as u64)).unwrap().unwrap();
        assert_eq!(found, winner.repeat(LEN / winner.len()));
    }
    claimers.into_iter().for_each(Claimer::kill);
}

#[test]
fn a_kill_in_the_middle_of_a_claim_leaves_the_slot_free_or_whole() {
    let dir = TempDir::new().unwrap();
    let (runtime, store) = (runtime(), LocalDir::new(dir.path()).unwrap());
    let mut random = fastrand::Rng::with_seed(7);
    let (mut next, mut free, mut whole, mut leftovers) = (0, 0, 0, 0);
    for _ in 0..cases(40) {
        let mut claimer = Claimer::start(dir.path());
        // Once it has answered it runs; then it works on the other orders, and dies somewhere in the middle.
        (next..next + 50).for_each(|slot| claimer.order(slot));
        for _ in 0..random.u64(1..20) {
            claimer.answer().unwrap();
        }
        for n in 0..random.u32(0..200_000) {
            std::hint::black_box(n);
        }
        let who = claimer.pid().to_string();
        claimer.kill();
        let last = loop {
            match runtime.block_on(ClaimStore::read(&store, &slot_path(next), LEN as u64)).unwrap() {
                Some(found) => assert_eq!(found, who.repeat(LEN / who.len()), "slot {next} is torn"),
                None => break next,
            }
            next += 1;
            whole += 1;
        };
        free += 1;
        // The slot in which it died, or the one after, is not blocked.
        let outcome = runtime.block_on(store.claim(&slot_path(last), content(9).into())).unwrap();
        assert_eq!(outcome, ClaimOutcome::Created);
        next += 1;
        let files = runtime.block_on(ClaimStore::list(&store, "log")).unwrap();
        leftovers = files.iter().filter(|file| ClaimStore::leftover_of(&store, &file.name).is_some()).count();
    }
    println!("{whole} slots whole, {free} kills, {leftovers} temporary files left behind");
}
