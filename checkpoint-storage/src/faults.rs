//! Stores that fail on purpose, for tests of storages and of what stands on them.
//!
//! [`Faults`] decides when and how; [`Faults::wrap`] puts it around any [`Storage`]. Nothing waits and
//! nothing is left to chance but what a seed decides, so a failure can be repeated.
//!
//! ```
//! use strandline_checkpoint_storage::faults::{Fault, Faults};
//! use strandline_checkpoint_storage::{CommitLog, CommitLogOptions, Manifest, Storage};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> strandline_state_api::Result<()> {
//! let storage = Storage::in_memory()?;
//! // The answer to the first operation that changes anything, the claim of the term, gets lost.
//! let faults = Faults::at(0, Fault::AnswerLost).only_writes();
//! let options = CommitLogOptions::new("unlucky");
//! let claimed = CommitLog::claim(&faults.wrap(&storage), options, CommitLog::random_tokens()).await?;
//! assert_eq!((claimed.log.term(), faults.injected()), (1, 1));
//! # Ok(())
//! # }
//! ```

mod wrapped;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use strandline_state_api::{Error, ErrorKind};

use crate::Storage;
use wrapped::{FaultyBlobs, FaultyClaims};

/// How an operation fails. In each case its caller gets an [`ErrorKind::Unavailable`] error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// It is not done.
    NotDone,
    /// It is done, and its answer is lost.
    AnswerLost,
    /// Of what was to be written the first half is there: a store that breaks the law of
    /// [`BlobStore`](crate::BlobStore) or [`ClaimStore`](crate::ClaimStore). For other operations as
    /// [`NotDone`](Self::NotDone).
    Torn,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::NotDone, Self::AnswerLost, Self::Torn];
}

/// When operations fail. Clones share one count of operations.
#[derive(Clone, Debug)]
pub struct Faults(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    when: When,
    only_writes: bool,
    operations: u64,
    injected: u64,
}

#[derive(Debug)]
enum When {
    Never,
    At {
        operation: u64,
        fault: Fault,
    },
    /// And everything afterwards.
    From {
        operation: u64,
        fault: Fault,
    },
    Random {
        random: fastrand::Rng,
        rate: f64,
        kinds: Vec<Fault>,
    },
}

impl Faults {
    /// None; for counting operations.
    pub fn never() -> Self {
        Self::when(When::Never)
    }

    /// The operation with this number fails, counted from 0.
    pub fn at(operation: u64, fault: Fault) -> Self {
        Self::when(When::At { operation, fault })
    }

    /// The process dies in the operation with this number: that one fails in this way, and nothing is done
    /// afterwards.
    pub fn crash_at(operation: u64, fault: Fault) -> Self {
        Self::when(When::From { operation, fault })
    }

    /// Each operation fails with probability `rate`, in one of the ways of `kinds`.
    pub fn random(seed: u64, rate: f64, kinds: &[Fault]) -> Self {
        let random = fastrand::Rng::with_seed(seed);
        Self::when(When::Random { random, rate, kinds: kinds.to_vec() })
    }

    fn when(when: When) -> Self {
        Self(Arc::new(Mutex::new(State { when, only_writes: false, operations: 0, injected: 0 })))
    }

    /// Counts, and lets fail, only what changes the store: put, claim and delete.
    #[must_use]
    pub fn only_writes(self) -> Self {
        self.state().only_writes = true;
        self
    }

    /// Wraps a storage so that it fails. The original is unharmed and sees the same files.
    pub fn wrap(&self, storage: &Storage) -> Storage {
        let blobs = FaultyBlobs { faults: self.clone(), inner: Arc::clone(storage.blobs()) };
        let claims = FaultyClaims { faults: self.clone(), inner: Arc::clone(storage.claims()) };
        Storage::from_parts(storage.uri(), Arc::new(blobs), Arc::new(claims))
    }

    /// No more faults from now on.
    pub fn stop(&self) {
        self.state().when = When::Never;
    }

    /// How many operations were called so far.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// How many of them failed.
    pub fn injected(&self) -> u64 {
        self.state().injected
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an operation; returns how it fails, if it does.
    fn next(&self, writes: bool) -> Option<Fault> {
        let mut state = self.state();
        if state.only_writes && !writes {
            // A dead process does not read either.
            let dead = matches!(state.when, When::From { operation, .. } if state.operations > operation);
            return dead.then_some(Fault::NotDone);
        }
        let now = state.operations;
        state.operations += 1;
        let fault = match &mut state.when {
            When::Never => None,
            When::At { operation, fault } => (*operation == now).then_some(*fault),
            When::From { operation, fault } if *operation == now => Some(*fault),
            When::From { operation, .. } => (*operation < now).then_some(Fault::NotDone),
            When::Random { random, rate, kinds } => {
                (random.f64() < *rate).then(|| random.choice(kinds).copied()).flatten()
            }
        };
        state.injected += u64::from(fault.is_some());
        fault
    }
}

fn injected(path: &str) -> Error {
    Error::new(ErrorKind::Unavailable, "injected fault").with("file", path)
}
