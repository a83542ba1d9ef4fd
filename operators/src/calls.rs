//! Asynchronous calls: a look-up elsewhere for each record, many of them under way at once.

mod calling;
mod in_flight;
mod reply;
mod retry;
mod spawned;

pub use calling::Calling;
pub use reply::Replier;
pub use retry::Retry;
pub use spawned::{Spawned, SpawnedFuture};

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use strandline_state_api::{Error, KeyedBackend, Open, Result, StateKey, TimerDescriptor, ValueDescriptor};

use crate::Storage;
use crate::window::millis;
use calling::States;
use in_flight::Rules;

/// Starts calls to another system, such as a look-up in a database or a request to a service.
///
/// A closure that takes key, record and [`Replier`] is one; [`Calls::spawned`] makes one of a function that
/// returns a future.
pub trait Call<K, T, R>: Send + 'static {
    /// Starts the call for a record, and returns at once: the reply goes to `replier`, from any thread.
    ///
    /// The same call may start again: after a failure where there are [retries](Calls::retry), and after the job was
    /// restored from a checkpoint.
    fn start(&mut self, key: &K, record: &T, replier: Replier<R>);
}

impl<K, T, R, F> Call<K, T, R> for F
where
    F: FnMut(&K, &T, Replier<R>) + Send + 'static,
{
    fn start(&mut self, key: &K, record: &T, replier: Replier<R>) {
        self(key, record, replier);
    }
}

/// Calls another system for each record, and emits the record with the reply (Flink: `AsyncDataStream`).
///
/// Up to [`capacity`](Self::capacity) calls are in flight at once. A call in flight is part of every checkpoint, and
/// starts again after a restore: the other system sees a call at least once, and each record has one [`Answer`].
///
/// Answers come in any order, or [in the order of the records](Self::ordered). Either way no watermark passes an
/// answer: the operator [holds it back](strandline_state_api::Operator::output_watermark) until the records up to its
/// time have theirs. Records behind it are called meanwhile, and barriers pass.
///
/// ```
/// use std::time::Duration;
///
/// use strandline_backend_memory::MemoryBackendFactory;
/// use strandline_operators::calls::{Calls, Replier};
/// use strandline_state_testing::Harness;
///
/// # fn main() -> strandline_state_api::Result<()> {
/// let look_up = |_: &u64, word: &String, replier: Replier<usize>| {
///     let word = word.clone();
///     std::thread::spawn(move || replier.reply(Ok(word.len())));
/// };
/// let calls = Calls::new(Duration::from_secs(10), look_up);
/// let mut harness =
///     Harness::new(MemoryBackendFactory::default(), "lengths", move |ctx| calls.open::<u64, _>(ctx))?;
/// harness.processing_time(0)?;
/// harness.process(7u64, "strand".to_owned(), 1_000)?;
/// harness.watermark(1_000)?;
/// harness.end()?; // waits for the reply
/// let (answer, time) = harness.take_output().into_iter().next().expect("an answer");
/// assert_eq!((answer.record.as_str(), answer.reply?, time), ("strand", 6, Some(1_000.into())));
/// # Ok(())
/// # }
/// ```
pub struct Calls<T, R, C> {
    call: C,
    rules: Rules,
    retry: Retry<R>,
    storage: Storage,
    emits_failures: bool,
    types: PhantomData<fn(T, R)>,
}

/// A record, and what a call has replied to it.
#[derive(Clone, Debug)]
pub struct Answer<K, T, R> {
    /// The key.
    pub key: K,
    /// The record.
    pub record: T,
    /// The reply; an error only where failures are [emitted](Calls::emit_failures).
    pub reply: Result<R>,
}

impl<T, R, C> Calls<T, R, C> {
    /// Calls with `call`. A record has its answer after `timeout` at the latest, with all retries: then the call has
    /// failed.
    pub fn new(timeout: Duration, call: C) -> Self {
        Self {
            call,
            rules: Rules { timeout: millis(timeout), capacity: 100, ordered: false },
            retry: Retry::never(),
            storage: Storage::Compact,
            emits_failures: false,
            types: PhantomData,
        }
    }

    /// Emits answers in the order of the records (Flink: `orderedWait`), and not as replies come
    /// (`unorderedWait`). A call that takes long then holds up the answers behind it.
    #[must_use]
    pub fn ordered(mut self) -> Self {
        self.rules.ordered = true;
        self
    }

    /// Sets how many calls a subtask has in flight at most; 100 unless set. Where they are used up, the next
    /// record waits for an answer, and with it the input of the subtask.
    #[must_use]
    pub fn capacity(mut self, capacity: usize) -> Self {
        self.rules.capacity = capacity;
        self
    }

    /// Sets which calls start again, and when; none unless set.
    #[must_use]
    pub fn retry(mut self, retry: Retry<R>) -> Self {
        self.retry = retry;
        self
    }

    /// Emits the failures of calls as answers. Unless set, a call that has failed for the last time, or was not
    /// answered in time, fails the task, and the job starts again from its newest checkpoint.
    #[must_use]
    pub fn emit_failures(mut self) -> Self {
        self.emits_failures = true;
        self
    }

    /// Sets how records in flight are stored.
    #[must_use]
    pub fn storage(mut self, storage: Storage) -> Self {
        self.storage = storage;
        self
    }
}

impl<T, R, F, S> Calls<T, R, Spawned<F, S>> {
    /// Calls with the futures that `function` returns for key and record. `spawn` hands them to an executor, for
    /// example to one of tokio: `move |future| drop(handle.spawn(future))`.
    pub fn spawned(timeout: Duration, function: F, spawn: S) -> Self {
        Self::new(timeout, Spawned::new(function, spawn))
    }
}

impl<T, R, C> Calls<T, R, C>
where
    T: Serialize + DeserializeOwned + Send + 'static,
    R: Send + 'static,
{
    /// Makes the operator of one subtask and registers its states.
    ///
    /// # Errors
    /// [`Invalid`](strandline_state_api::ErrorKind::Invalid) for a capacity of 0 or a timeout below 1 ms; and the
    /// errors of [`Open::register`].
    pub fn open<K: StateKey, B: KeyedBackend<Key = K>>(
        &self,
        ctx: &mut Open<'_, B, u64>,
    ) -> Result<Calling<K, T, R, C>>
    where
        C: Call<K, T, R> + Clone,
    {
        if self.rules.capacity == 0 {
            return Err(Error::invalid("no call could ever be in flight: choose a capacity of at least 1"));
        }
        if self.rules.timeout == 0 {
            return Err(Error::invalid(
                "no call could be answered in time: choose a timeout of at least 1 ms",
            ));
        }
        let states = States {
            records: ctx.register(&ValueDescriptor::evolving("in-flight", self.storage.of()).namespaced())?,
            timeouts: ctx.register(&TimerDescriptor::processing_time("timeouts"))?,
            polls: ctx.register(&TimerDescriptor::processing_time("polls"))?,
        };
        Ok(Calling::new(self.call.clone(), states, self.rules, self.retry, self.emits_failures))
    }
}

impl<T, R, C: Clone> Clone for Calls<T, R, C> {
    fn clone(&self) -> Self {
        Self { call: self.call.clone(), ..*self }
    }
}

impl<T, R, C> fmt::Debug for Calls<T, R, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Calls")
            .field("rules", &self.rules)
            .field("retry", &self.retry)
            .finish_non_exhaustive()
    }
}
