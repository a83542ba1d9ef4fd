//! Threads of this crate for stores on a network, and for callers without a runtime.
//!
//! A client of the network needs timers and sockets of a tokio runtime, keeps connections that die with it,
//! and panics where they are off. A caller may have a runtime without them, another one for each call, or
//! none. So requests run here, and a caller awaits nothing but their end.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use strandline_state_api::{Error, ErrorKind, Result};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;

/// Two, so that one request that is slow to encode holds up no other.
const THREADS: usize = 2;

/// Started by the first use, and there until the process ends.
fn threads() -> Result<Handle> {
    static RUNTIME: Mutex<Option<Runtime>> = Mutex::new(None);
    let mut runtime = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(runtime) = &*runtime {
        return Ok(runtime.handle().clone());
    }
    let mut builder = Builder::new_multi_thread();
    let built = builder.worker_threads(THREADS).thread_name("strandline-storage").enable_all().build();
    let built = built.map_err(|error| {
        Error::new(ErrorKind::Unavailable, "the threads for storage cannot be started").caused_by(error)
    })?;
    Ok(runtime.insert(built).handle().clone())
}

/// Runs `work` on the threads of this crate, which have the timers and sockets of a tokio runtime: whatever the
/// caller's runtime has, or without one. When the returned future is dropped, `work` is dropped, too.
///
/// # Errors
/// [`Unavailable`](ErrorKind::Unavailable) when the threads cannot be started, [`Internal`](ErrorKind::Internal)
/// when `work` panics.
pub async fn in_background<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Result<T> {
    Task(threads()?.spawn(work)).await
}

/// Runs `work`, which blocks, on a thread for that: of the caller's runtime if there is one.
pub(crate) async fn block<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let handle = match Handle::try_current() {
        Ok(handle) => handle,
        Err(_) => threads()?,
    };
    ended(handle.spawn_blocking(work).await)
}

/// Waits, whether the caller's runtime has timers or not.
pub(crate) async fn sleep(time: Duration) -> Result<()> {
    in_background(async move { tokio::time::sleep(time).await }).await
}

fn ended<T>(result: Result<T, tokio::task::JoinError>) -> Result<T> {
    result.map_err(|error| match error.is_cancelled() {
        true => Error::new(ErrorKind::Unavailable, "the runtime that the storage worked on was shut down"),
        false => Error::new(ErrorKind::Internal, "a thread of the storage panicked").caused_by(error),
    })
}

/// Aborts what nobody waits for any more.
struct Task<T>(JoinHandle<T>);

impl<T> Future for Task<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let result = ready!(Pin::new(&mut self.0).poll(context));
        Poll::Ready(ended(result))
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
