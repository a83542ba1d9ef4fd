//! Futures in a simulation: who runs them, and those that are ready after a time.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use strandline_runtime::block_on_with;

use crate::baton::Baton;
use crate::state::Timer;

impl Baton {
    /// Runs a future on the calling thread.
    pub(crate) fn block_on<F: Future>(&self, future: F) -> F::Output {
        block_on_with(future, |ready| self.wait(ready, None))
    }

    /// A future that is ready after so long.
    pub(crate) fn timer(&self, time: Duration) -> Sleep {
        Sleep { baton: self.clone(), until: self.elapsed() + time, registered: None }
    }

    /// Does something after so long, also where the process that asked for it has ended by then.
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
