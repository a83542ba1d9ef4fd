//! Where the threads of a job run and block: threads of the system, or those of a [`Scheduler`].
//!
//! Everything that blocks, takes the time or draws random numbers goes through here. On threads of the system
//! that costs one branch where a thread blocks anyway.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use futures::future::{AbortHandle as Stepped, abortable};
use strandline_checkpoint_storage::{CommitLog, TimeSource};
use strandline_state_api::{Error, ErrorKind, Result};
use tokio::runtime::Handle;
use tokio::task::AbortHandle as Spawned;

use crate::scheduler::{Ready, Scheduler, block_on_with};
use crate::sync::guarded;

/// What the threads of a job run on.
#[derive(Clone, Debug)]
pub(crate) enum Threads {
    /// Threads of the system; stores are worked on in this runtime.
    OfSystem(Handle),
    /// Those of a scheduler, where stores are worked on, too.
    Stepped(Arc<dyn Scheduler>),
}

impl Threads {
    pub(crate) fn spawn(&self, name: String, work: impl FnOnce() + Send + 'static) -> Result<Thread> {
        match self {
            Self::OfSystem(_) => {
                let spawned = std::thread::Builder::new().name(name).spawn(work);
                let no_thread =
                    |error| Error::new(ErrorKind::Unavailable, "no thread can be started").caused_by(error);
                spawned.map(Thread::OfSystem).map_err(no_thread)
            }
            Self::Stepped(scheduler) => {
                let ended = SetAtEnd::default();
                let is_over = Arc::clone(&ended.0);
                let work = move || {
                    // Set also where the scheduler ends the thread.
                    let _ended = ended;
                    work();
                };
                scheduler.spawn(&name, Box::new(work))?;
                Ok(Thread::Stepped(Arc::clone(scheduler), is_over))
            }
        }
    }

    /// Works on a future that does not need the caller.
    pub(crate) fn spawn_future(
        &self,
        name: &str,
        future: impl Future<Output = ()> + Send + 'static,
    ) -> Result<Aborter> {
        match self {
            Self::OfSystem(runtime) => Ok(Aborter::OfSystem(runtime.spawn(future).abort_handle())),
            Self::Stepped(_) => {
                let (future, aborter) = abortable(future);
                let threads = self.clone();
                self.spawn(name.to_owned(), move || {
                    // Dropped when it is aborted or panics, as the runtime does.
                    let _ = guarded(|| Ok(threads.block_on(future)));
                })?;
                Ok(Aborter::Stepped(aborter))
            }
        }
    }

    pub(crate) fn block_on<F: Future>(&self, future: F) -> F::Output {
        match self {
            Self::OfSystem(runtime) => runtime.block_on(future),
            Self::Stepped(scheduler) => block_on_with(future, |ready| scheduler.wait(ready, None)),
        }
    }

    /// Does what blocks, within a future.
    pub(crate) async fn block<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        match self {
            Self::OfSystem(_) => {
                let done = tokio::task::spawn_blocking(move || guarded(work)).await;
                done.unwrap_or_else(|_| {
                    let message = "the runtime was shut down before this was done";
                    Err(Error::new(ErrorKind::Unavailable, message))
                })
            }
            // The future has a thread of its own.
            Self::Stepped(_) => guarded(work),
        }
    }

    pub(crate) fn now(&self) -> Instant {
        match self {
            Self::OfSystem(_) => Instant::now(),
            Self::Stepped(scheduler) => scheduler.now(),
        }
    }

    /// Returns how long ago `then` was.
    pub(crate) fn since(&self, then: Instant) -> Duration {
        self.now().saturating_duration_since(then)
    }

    /// Lets other threads run where the order is the scheduler's.
    pub(crate) fn pass(&self) {
        if let Self::Stepped(scheduler) = self {
            scheduler.pass();
        }
    }

    /// Receives a message, at most until the deadline.
    pub(crate) fn recv<T: Send + 'static>(
        &self,
        receiver: &Receiver<T>,
        deadline: Option<Instant>,
    ) -> std::result::Result<T, RecvTimeoutError> {
        match (self, deadline) {
            (Self::OfSystem(_), None) => receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
            (Self::OfSystem(_), Some(deadline)) => receiver.recv_deadline(deadline),
            (Self::Stepped(scheduler), deadline) => loop {
                match receiver.try_recv() {
                    Ok(message) => return Ok(message),
                    Err(error) if error.is_disconnected() => return Err(RecvTimeoutError::Disconnected),
                    Err(_) if deadline.is_some_and(|deadline| deadline <= scheduler.now()) => {
                        return Err(RecvTimeoutError::Timeout);
                    }
                    Err(_) => scheduler.wait(receivable(receiver), deadline),
                }
            },
        }
    }

    /// Receives a message, at most for so long; `None` is for ever.
    pub(crate) fn recv_within<T: Send + 'static>(
        &self,
        receiver: &Receiver<T>,
        time: Option<Duration>,
    ) -> std::result::Result<T, RecvTimeoutError> {
        let deadline = time.and_then(|time| self.now().checked_add(time));
        self.recv(receiver, deadline)
    }

    /// Returns what draws the tokens of a commit log.
    pub(crate) fn tokens(&self) -> Box<dyn FnMut() -> Result<u128> + Send> {
        match self {
            Self::OfSystem(_) => Box::new(CommitLog::random_tokens()),
            Self::Stepped(scheduler) => {
                let scheduler = Arc::clone(scheduler);
                Box::new(move || Ok(scheduler.random()))
            }
        }
    }

    /// Returns the process that the calling thread is part of, for messages.
    pub(crate) fn process(&self) -> String {
        match self {
            Self::OfSystem(_) => std::process::id().to_string(),
            Self::Stepped(scheduler) => scheduler.process(),
        }
    }
}

impl TimeSource for Threads {
    fn now(&self) -> Instant {
        Self::now(self)
    }

    fn wall(&self) -> SystemTime {
        match self {
            Self::OfSystem(_) => SystemTime::now(),
            Self::Stepped(scheduler) => scheduler.wall(),
        }
    }
}

/// Whether a receiver has a message, or never will have one.
pub(crate) fn receivable<T: Send + 'static>(receiver: &Receiver<T>) -> Ready {
    let receiver = receiver.clone();
    // No other thread runs, so nothing is received that was not there; `Select` would spin before it returns.
    Box::new(move || !receiver.is_empty() || receiver.try_recv().is_err_and(|error| error.is_disconnected()))
}

/// Whether one of these is true.
pub(crate) fn any(ready: Vec<Ready>) -> Ready {
    Box::new(move || ready.iter().any(|ready| ready()))
}

/// A thread of a job.
pub(crate) enum Thread {
    OfSystem(JoinHandle<()>),
    Stepped(Arc<dyn Scheduler>, Arc<AtomicBool>),
}

impl Thread {
    /// Waits until it has ended. A panic in it has become an error of its own.
    pub(crate) fn join(self) {
        match self {
            Self::OfSystem(thread) => drop(thread.join()),
            Self::Stepped(scheduler, is_over) => {
                while !is_over.load(SeqCst) && !std::thread::panicking() {
                    let is_over = Arc::clone(&is_over);
                    scheduler.wait(Box::new(move || is_over.load(SeqCst)), None);
                }
            }
        }
    }
}

/// Threads that have ended when this is dropped.
#[derive(Default)]
pub(crate) struct Joined(pub(crate) Vec<Thread>);

impl Drop for Joined {
    fn drop(&mut self) {
        self.0.drain(..).for_each(Thread::join);
    }
}

/// Drops a future that runs on its own.
pub(crate) enum Aborter {
    OfSystem(Spawned),
    Stepped(Stepped),
}

impl Aborter {
    pub(crate) fn abort(&self) {
        match self {
            Self::OfSystem(task) => task.abort(),
            Self::Stepped(task) => task.abort(),
        }
    }
}

#[derive(Default)]
struct SetAtEnd(Arc<AtomicBool>);

impl Drop for SetAtEnd {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}
