//! A thread of this module's own, for requests.
//!
//! A client of the network needs timers and sockets of a tokio runtime. A sink runs on a thread without one,
//! or within one that must not be blocked twice.

use std::sync::{Mutex, PoisonError, mpsc};

use strandline_state_api::{Error, ErrorKind, Result};
use tokio::runtime::{Builder, Handle, Runtime};

/// Started by the first use, and there until the process ends.
fn handle() -> Result<Handle> {
    static RUNTIME: Mutex<Option<Runtime>> = Mutex::new(None);
    let mut runtime = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(runtime) = &*runtime {
        return Ok(runtime.handle().clone());
    }
    let mut builder = Builder::new_multi_thread();
    let built = builder.worker_threads(1).thread_name("strandline-output").enable_all().build();
    let built = built.map_err(|error| {
        Error::new(ErrorKind::Unavailable, "the thread for output objects cannot be started").caused_by(error)
    })?;
    Ok(runtime.insert(built).handle().clone())
}

/// Runs `request` there, and blocks until it ends.
pub(super) fn wait<T: Send + 'static>(request: impl Future<Output = T> + Send + 'static) -> Result<T> {
    let (done, answer) = mpsc::sync_channel(1);
    handle()?.spawn(async move {
        // Whoever waits is there until the answer comes.
        let _ = done.send(request.await);
    });
    answer.recv().map_err(|error| {
        Error::new(ErrorKind::Internal, "a request for an output object panicked").caused_by(error)
    })
}
