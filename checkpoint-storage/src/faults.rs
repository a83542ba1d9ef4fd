//! Stores that fail on purpose, for tests of storages and of what stands on them.
//!
//! A [`Target`] names the calls that fail, by kind, path and number; a [`Fault`] is how. [`Faults::wrap`]
//! puts both around any [`Storage`]. Nothing is left to chance but what a seed decides, so a failure can be
//! repeated.
//!
//! ```
//! use strandline_checkpoint_storage::faults::{Fault, Faults, Operation, Target};
//! use strandline_checkpoint_storage::{CommitLog, CommitLogOptions, Manifest, Storage};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> strandline_state_api::Result<()> {
//! let storage = Storage::in_memory()?;
//! // The answer to the first claim of a slot gets lost.
//! let faults = Faults::on(Target::of(Operation::Claim).path("log/").nth(0), Fault::AnswerLost);
//! let options = CommitLogOptions::new("unlucky");
//! let claimed = CommitLog::claim(&faults.wrap(&storage), options, CommitLog::random_tokens()).await?;
//! assert_eq!((claimed.history.term.0, faults.injected()), (1, 1));
//! // From now on the disk is full.
//! faults.add(Target::of(Operation::Put), Fault::NotDone);
//! # Ok(())
//! # }
//! ```

mod target;
mod wrapped;

use std::future::pending;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use strandline_state_api::{Error, ErrorKind};
use tokio::sync::watch;

use crate::Storage;
use target::Aim;
pub use target::{Operation, Target};
use wrapped::{FaultyBlobs, FaultyClaims};

/// How an operation fails. Unless it hangs, its caller gets an [`ErrorKind::Unavailable`] error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// It is not done.
    NotDone,
    /// It is done, and its answer is lost.
    AnswerLost,
    /// Of what was to be written the first half is there: a store that breaks the law of
    /// [`BlobStore`](crate::BlobStore) or [`ClaimStore`](crate::ClaimStore). For other operations as
    /// [`NotDone`](Self::NotDone).
    Torn,
    /// It is not done, and no answer comes, until its caller drops the future.
    Hangs,
    /// It waits for [`Faults::release`] and is done then: a process that sleeps, a network that is slow.
    Held,
}

impl Fault {
    /// Those that answer.
    pub const ALL: [Self; 3] = [Self::NotDone, Self::AnswerLost, Self::Torn];
}

/// Which operations fail, and how. Clones share one count of operations.
#[derive(Clone, Debug)]
pub struct Faults(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Notified with every fault.
    injected: Condvar,
    /// How often what is held was released.
    released: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    rules: Vec<Rule>,
    only_writes: bool,
    /// The process has died in an operation.
    crashed: bool,
    operations: u64,
    injected: u64,
}

#[derive(Debug)]
struct Rule {
    aim: Aim,
    /// One of them, as the seed decides; all the same if there is but one.
    faults: Vec<Fault>,
    random: fastrand::Rng,
    /// Nothing is done afterwards.
    is_crash: bool,
}

impl Faults {
    /// None; for counting operations.
    pub fn never() -> Self {
        let state =
            State { rules: Vec::new(), only_writes: false, crashed: false, operations: 0, injected: 0 };
        let (released, _) = watch::channel(0);
        Self(Arc::new(Shared { state: Mutex::new(state), injected: Condvar::new(), released }))
    }

    /// The calls of `target` fail.
    pub fn on(target: Target, fault: Fault) -> Self {
        let faults = Self::never();
        faults.add(target, fault);
        faults
    }

    /// The operation with this number fails, counted from 0.
    pub fn at(operation: u64, fault: Fault) -> Self {
        Self::on(Target::any().nth(operation), fault)
    }

    /// The process dies in the operation with this number: that one fails in this way, and nothing is done
    /// afterwards.
    pub fn crash_at(operation: u64, fault: Fault) -> Self {
        Self::crash_on(Target::any().nth(operation), fault)
    }

    /// The process dies in the first call of `target`: that one fails in this way, and nothing is done
    /// afterwards.
    pub fn crash_on(target: Target, fault: Fault) -> Self {
        let faults = Self::never();
        faults.rule(target, &[fault], 0, true);
        faults
    }

    /// Each operation fails with probability `rate`, in one of the ways of `kinds`.
    pub fn random(seed: u64, rate: f64, kinds: &[Fault]) -> Self {
        let faults = Self::never();
        faults.rule(Target::any().chance(seed, rate), kinds, seed, false);
        faults
    }

    /// From now on, the calls of `target` fail, too. Their numbers count from now. Where several targets name
    /// one call, it fails as the first of them demands.
    pub fn add(&self, target: Target, fault: Fault) {
        self.rule(target, &[fault], 0, false);
    }

    fn rule(&self, mut target: Target, faults: &[Fault], seed: u64, is_crash: bool) {
        let random = fastrand::Rng::with_seed(!seed);
        let mut state = self.state();
        if state.only_writes {
            target.kinds(Operation::is_write);
        }
        state.rules.push(Rule { aim: Aim::new(target), faults: faults.to_vec(), random, is_crash });
    }

    /// Counts, and lets fail, only what changes the store: put, claim and delete.
    #[must_use]
    pub fn only_writes(self) -> Self {
        let mut state = self.state();
        state.only_writes = true;
        state.rules.iter_mut().for_each(|rule| rule.aim.target.kinds(Operation::is_write));
        drop(state);
        self
    }

    /// Wraps a storage so that it fails. The original is unharmed and sees the same files.
    pub fn wrap(&self, storage: &Storage) -> Storage {
        let blobs = FaultyBlobs { faults: self.clone(), inner: Arc::clone(storage.blobs()) };
        let claims = FaultyClaims { faults: self.clone(), inner: Arc::clone(storage.claims()) };
        Storage::from_parts(storage.uri(), Arc::new(blobs), Arc::new(claims))
            .with_options(storage.options().clone())
    }

    /// No more faults from now on. What hangs goes on hanging, what is held is held.
    pub fn stop(&self) {
        let mut state = self.state();
        state.rules.clear();
        state.crashed = false;
    }

    /// Lets the operations be done that are [held](Fault::Held) now.
    pub fn release(&self) {
        self.0.released.send_modify(|times| *times += 1);
    }

    /// How many operations were called so far.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// How many of them failed, hang, or were held.
    pub fn injected(&self) -> u64 {
        self.state().injected
    }

    /// Blocks until so many have failed, hang, or were held.
    pub fn wait_injected(&self, faults: u64) {
        let waiting = |state: &mut State| state.injected < faults;
        let waited = self.0.injected.wait_while(self.state(), waiting);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call; returns how it fails, if it does. One that hangs, or is held, waits here.
    async fn meet(&self, operation: Operation, path: &str) -> Option<Fault> {
        let mut released = self.0.released.subscribe();
        match self.next(operation, path) {
            Some(Fault::Hangs) => pending().await,
            Some(Fault::Held) => {
                // An error means that there is nobody left who could release it.
                let _ = released.changed().await;
                None
            }
            fault => fault,
        }
    }

    fn next(&self, operation: Operation, path: &str) -> Option<Fault> {
        let mut state = self.state();
        let counts = !state.only_writes || operation.is_write();
        state.operations += u64::from(counts);
        let mut fault = state.crashed.then_some(Fault::NotDone);
        let mut crashed = state.crashed;
        for rule in &mut state.rules {
            if rule.aim.takes(operation, path) && fault.is_none() {
                fault = rule.random.choice(&rule.faults).copied();
                crashed |= rule.is_crash;
            }
        }
        state.crashed = crashed;
        if fault.is_some() && counts {
            state.injected += 1;
            self.0.injected.notify_all();
        }
        fault
    }
}

fn injected(path: &str) -> Error {
    Error::new(ErrorKind::Unavailable, "injected fault").with("file", path)
}
