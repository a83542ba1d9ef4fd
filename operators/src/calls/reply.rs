//! Replies on their way from other threads to the operator.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use strandline_state_api::{Error, ErrorKind, Result};

/// Which start of which call a reply belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    pub(super) call: u64,
    pub(super) attempt: u32,
}

/// Where the replies to the calls of one subtask come in.
pub(super) struct Inbox<R> {
    replies: Mutex<Vec<(Ticket, Result<R>)>>,
    came: Condvar,
}

impl<R> Inbox<R> {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { replies: Mutex::new(Vec::new()), came: Condvar::new() })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Ticket, Result<R>)>> {
        self.replies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves the replies that have come to `taken`.
    pub(super) fn take(&self, taken: &mut Vec<(Ticket, Result<R>)>) {
        taken.append(&mut self.lock());
    }

    /// Waits until there is a reply, for `most` at the longest. It may return earlier.
    pub(super) fn wait(&self, most: Option<Duration>) {
        let replies = self.lock();
        if !replies.is_empty() {
            return;
        }
        match most {
            None => drop(self.came.wait(replies)),
            Some(most) => drop(self.came.wait_timeout(replies, most)),
        }
    }
}

/// Takes the reply to one call, from any thread. A replier that is dropped without a reply fails the call.
pub struct Replier<R> {
    /// `None` once it has replied.
    inbox: Option<Arc<Inbox<R>>>,
    ticket: Ticket,
}

impl<R> Replier<R> {
    pub(super) fn new(inbox: &Arc<Inbox<R>>, ticket: Ticket) -> Self {
        Self { inbox: Some(Arc::clone(inbox)), ticket }
    }

    /// Answers the call. The reply is for nobody if the call was not answered in time.
    pub fn reply(mut self, reply: Result<R>) {
        self.send(|| reply);
    }

    fn send(&mut self, reply: impl FnOnce() -> Result<R>) {
        if let Some(inbox) = self.inbox.take() {
            inbox.lock().push((self.ticket, reply()));
            inbox.came.notify_one();
        }
    }
}

impl<R> Drop for Replier<R> {
    fn drop(&mut self) {
        self.send(|| {
            Err(Error::new(
                ErrorKind::User,
                "an asynchronous call ended without a reply: reply in every case",
            ))
        });
    }
}

impl<R> fmt::Debug for Replier<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replier").field("ticket", &self.ticket).finish_non_exhaustive()
    }
}
