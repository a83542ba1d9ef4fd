//! What every thread of a job uses: locks without poison, panics as errors, where an error happened, the error
//! of a cancelled task.

use std::any::Any;
use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use strandline_state_api::{Error, ErrorKind, OperatorId, Result};

/// Locks plain data, which no panic leaves half changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Turns a panic into an error.
pub(crate) fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(panicked(panic.as_ref())))
}

/// Turns a panic of a future into an error.
pub(crate) async fn guarded_async<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let mut work = pin!(work);
    poll_fn(|context| {
        let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context)));
        polled.unwrap_or_else(|panic| Poll::Ready(Err(panicked(panic.as_ref()))))
    })
    .await
}

/// Adds operator and subtask to an error, unless it names its operator.
pub(crate) fn located(error: Error, operator: &OperatorId, subtask: u32) -> Error {
    match error.context("operator") {
        Some(_) => error,
        None => error.with("operator", operator).with("subtask", subtask),
    }
}

fn panicked(panic: &(dyn Any + Send)) -> Error {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    let text = text.unwrap_or_else(|| "no message".to_owned());
    Error::new(ErrorKind::User, format!("a thread panicked: {text}"))
}

/// Marks the error of a task that gave up because another one failed.
#[derive(Debug)]
struct Cancelled;

impl fmt::Display for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("another task failed, or the job was cancelled")
    }
}

impl std::error::Error for Cancelled {}

/// The error of a task that has to give up.
pub(crate) fn cancelled() -> Error {
    Error::new(ErrorKind::Unavailable, "the task was cancelled").caused_by(Cancelled)
}

/// Whether `error` only follows from another failure.
pub(crate) fn is_cancelled(error: &Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<Cancelled>())
}
