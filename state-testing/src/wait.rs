//! Waiting for a future without a runtime.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs `future` on the calling thread, which sleeps while it waits. Tests and small programs without an
/// async runtime write and restore snapshots with it.
///
/// The future must not need a runtime of a certain kind (the stores in memory need none; those of
/// `strandline-checkpoint-storage` need tokio).
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            // If a wake-up occurs between the poll and this call, `park` returns at once.
            Poll::Pending => thread::park(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_future_that_another_thread_completes() {
        let (mut asked, mut polls) = (None, 0);
        let future = std::future::poll_fn(|context| {
            polls += 1;
            if asked.as_ref().is_some_and(thread::JoinHandle::is_finished) {
                return Poll::Ready(7);
            }
            let waker = context.waker().clone();
            let thread = asked.get_or_insert_with(|| thread::spawn(|| ()));
            // The helper thread wakes late, and more often than needed.
            let done = thread.thread().clone();
            thread::spawn(move || {
                done.unpark();
                thread::yield_now();
                waker.wake();
            });
            Poll::Pending
        });
        assert_eq!(block_on(future), 7);
        assert!(polls > 1);
    }
}
