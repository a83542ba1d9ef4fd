//! What a job runs on where it does not run on threads of the system.

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Instant, SystemTime};

use strandline_state_api::Result;

/// Steps the threads of a job, one at a time, in an order, at times and with random numbers of its own: what
/// a deterministic simulation implements. [`run_stepped`](crate::run_stepped) runs a job on it, with the same
/// code that [`run`](crate::run) runs on threads of the system.
///
/// Wherever a thread of the job would block, it calls [`wait`](Self::wait). In between it may be as long as it
/// likes without a call; where it works for long it calls [`pass`](Self::pass), once for each batch.
///
/// # Threads that are to end
/// A scheduler may end a thread in `wait` or `pass`, as the crash of a process does, by a panic
/// ([`resume_unwind`](std::panic::resume_unwind)). The thread then drops what it holds, and that may call
/// again: while a thread [unwinds](std::thread::panicking), both calls must return at once. The job takes such
/// a panic for an error of the user's code, so the scheduler must end the thread again at its next call.
pub trait Scheduler: Send + Sync + 'static {
    /// Starts a thread that does `work`.
    ///
    /// # Errors
    /// When there is no thread for it.
    fn spawn(&self, name: &str, work: Box<dyn FnOnce() + Send>) -> Result<()>;

    /// Blocks the calling thread. Returns at some time after `ready` returns true, or after the deadline if
    /// there is one; it may return too early. Whoever steps the threads may call `ready` on any of them, as
    /// often as it likes, until this returns.
    fn wait(&self, ready: Ready, deadline: Option<Instant>);

    /// Lets other threads run, or not.
    fn pass(&self);

    /// Returns the time that passes. It never goes back.
    fn now(&self) -> Instant;

    /// Returns the time of the day.
    fn wall(&self) -> SystemTime;

    /// Returns a random number: of attempts of one job, all that they draw must differ.
    fn random(&self) -> u128;

    /// Returns the name of the process that the calling thread is part of, for messages.
    fn process(&self) -> String;
}

/// Whether a thread that waits may go on.
pub type Ready = Box<dyn Fn() -> bool + Send>;

/// Runs a future on the calling thread, which blocks by `wait` until what that gets returns true: how a thread
/// of a [`Scheduler`] waits for one.
pub fn block_on_with<F: Future>(future: F, wait: impl Fn(Ready)) -> F::Output {
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let (mut context, mut future) = (Context::from_waker(&waker), pin!(future));
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        let of_wait = Arc::clone(&woken);
        wait(Box::new(move || of_wait.0.load(SeqCst)));
        woken.0.store(false, SeqCst);
    }
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, SeqCst);
    }
}

impl fmt::Debug for dyn Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scheduler")
    }
}
