//! Futures in a simulation: who runs them, and those that are ready after a time.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use crate::baton::Baton;
use crate::state::Timer;

impl Baton {
    /// Runs a future on the calling thread.
    pub(crate) fn block_on<F: Future>(&self, future: F) -> F::Output {
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let (mut context, mut future) = (Context::from_waker(&waker), pin!(future));
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                return output;
            }
            let of_wait = Arc::clone(&woken);
            self.wait(Box::new(move || of_wait.0.load(SeqCst)), None);
            woken.0.store(false, SeqCst);
        }
    }

    /// A future that is ready after so long.
    pub(crate) fn timer(&self, time: Duration) -> Sleep {
        Sleep { baton: self.clone(), until: self.elapsed() + time, registered: None }
    }

    /// Does something after so long, whoever is alive then.
    pub(crate) fn later(&self, time: Duration, work: impl FnOnce() + Send + 'static) {
        let mut state = self.state();
        let at = state.now + time;
        state.add_timer(at, Timer::Do(Box::new(work)));
    }

    /// Lets everything happen that is still to come, however late.
    pub(crate) fn settle(&self) {
        loop {
            let last = self.state().timers.keys().next_back().map(|(at, _)| *at);
            let Some(last) = last else { return };
            self.wait(Box::new(|| false), Some(last));
        }
    }
}

/// Ready at an instant of the simulation.
pub(crate) struct Sleep {
    baton: Baton,
    until: Duration,
    registered: Option<(Duration, u64)>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let (until, registered) = (self.until, self.registered.take());
        let baton = self.baton.clone();
        let mut state = baton.state();
        let before = registered.and_then(|at| state.timers.remove(&at));
        let is_over = until <= state.now;
        if !is_over {
            self.registered = Some(state.add_timer(until, Timer::Wake(context.waker().clone())));
        }
        drop(state);
        drop(before);
        if is_over { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        let timer = self.registered.and_then(|at| self.baton.state().timers.remove(&at));
        drop(timer);
    }
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, SeqCst);
    }
}
