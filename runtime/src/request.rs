//! A checkpoint that was asked for, and its answer.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use futures::channel::oneshot;
use strandline_checkpoint_protocol::Refusal;
use strandline_state_api::{Error, ErrorKind, Result};

use crate::report::CheckpointReport;

/// A checkpoint that was asked for with
/// [`JobControl::trigger_checkpoint`](crate::JobControl::trigger_checkpoint). [`wait`](Self::wait) for it in
/// a thread, or await it in a task. Nobody has to: a request that is dropped is served all the same.
///
/// The answer is the checkpoint, which is in the commit log then; or the error for which there is none:
///
/// * of the kind of its cause, with that and where it happened, when it was aborted;
/// * [`Unavailable`](ErrorKind::Unavailable) when the job ended or restarted before it was taken, or too many
///   requests wait;
/// * [`Fenced`](ErrorKind::Fenced) when another run took over, which may have found the checkpoint complete;
/// * [`Invalid`](ErrorKind::Invalid) in a job without checkpoints.
#[derive(Debug)]
pub struct CheckpointRequest(oneshot::Receiver<Result<CheckpointReport>>);

/// The other side of a [`CheckpointRequest`].
#[derive(Debug)]
pub(crate) struct Requester(oneshot::Sender<Result<CheckpointReport>>);

impl CheckpointRequest {
    pub(crate) fn new() -> (Self, Requester) {
        let (sender, receiver) = oneshot::channel();
        (Self(receiver), Requester(sender))
    }

    /// Blocks until there is an answer: for ever, if the job never starts.
    ///
    /// # Errors
    /// Why the checkpoint does not exist: see above.
    pub fn wait(mut self) -> Result<CheckpointReport> {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut context = Context::from_waker(&waker);
        loop {
            match Pin::new(&mut self).poll(&mut context) {
                Poll::Ready(answer) => return answer,
                Poll::Pending => thread::park(),
            }
        }
    }
}

impl Future for CheckpointRequest {
    type Output = Result<CheckpointReport>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|answer| answer.unwrap_or_else(|_| Err(job_over())))
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

impl Requester {
    /// Whoever asked may have dropped its end.
    pub(crate) fn answer(self, answer: Result<CheckpointReport>) {
        let _ = self.0.send(answer);
    }

    pub(crate) fn refuse(self, refusal: Refusal) {
        self.answer(Err(refused(refusal)));
    }
}

pub(crate) fn job_over() -> Error {
    Error::new(ErrorKind::Unavailable, "the job ended before the checkpoint was taken")
}

pub(crate) fn refused(refusal: Refusal) -> Error {
    match refusal {
        Refusal::NotRunning => {
            let message =
                "the job stopped or restarts before the checkpoint was taken; ask again once it runs";
            Error::new(ErrorKind::Unavailable, message)
        }
        Refusal::Ended => job_over(),
        Refusal::Fenced => Error::new(ErrorKind::Fenced, "a newer coordinator has taken over this storage"),
        Refusal::TooMany => Error::new(
            ErrorKind::Unavailable,
            "too many requests for checkpoints wait already; ask again later",
        ),
    }
}
