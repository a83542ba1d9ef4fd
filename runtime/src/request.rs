//! What the holder of a [`JobControl`](crate::JobControl) asked for, and its answer.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use futures::channel::oneshot;
use strandline_checkpoint_protocol::Refusal;
use strandline_state_api::{Error, ErrorKind, Result};

use crate::live::LiveState;
use crate::report::CheckpointReport;

/// Something that a running job was asked for. [`wait`](Self::wait) for the answer in a thread, or await it in a
/// task. Nobody has to: a checkpoint is taken even where its request is dropped.
///
/// The answer is what was asked for; or the error for which there is none:
///
/// * of the kind of its cause, with that and where it happened, when the snapshot of an operator failed;
/// * [`Unavailable`](ErrorKind::Unavailable) when the job ended or restarted before, when it took too long, or too
///   many requests wait;
/// * [`Fenced`](ErrorKind::Fenced) when another run took over, which may have found the checkpoint complete;
/// * [`Invalid`](ErrorKind::Invalid) in a job without checkpoints.
#[derive(Debug)]
pub struct Request<T>(oneshot::Receiver<Result<T>>);

/// A checkpoint that was asked for with
/// [`JobControl::trigger_checkpoint`](crate::JobControl::trigger_checkpoint). Once there is an answer, it is in the
/// commit log.
pub type CheckpointRequest = Request<CheckpointReport>;

/// Live state that was asked for with [`JobControl::live_state`](crate::JobControl::live_state).
pub type LiveStateRequest = Request<LiveState>;

/// The other side of a [`Request`].
#[derive(Debug)]
pub(crate) struct Requester<T>(oneshot::Sender<Result<T>>);

impl<T> Request<T> {
    pub(crate) fn new() -> (Self, Requester<T>) {
        let (sender, receiver) = oneshot::channel();
        (Self(receiver), Requester(sender))
    }

    /// Blocks until there is an answer: for ever, if the job never starts.
    ///
    /// # Errors
    /// Why there is nothing: see above.
    pub fn wait(mut self) -> Result<T> {
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

impl<T> Future for Request<T> {
    type Output = Result<T>;

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

impl<T> Requester<T> {
    /// Whoever asked may have dropped its end.
    pub(crate) fn answer(self, answer: Result<T>) {
        let _ = self.0.send(answer);
    }

    pub(crate) fn refuse(self, refusal: Refusal) {
        self.answer(Err(refused(refusal)));
    }

    /// Whether nobody waits for the answer any more.
    pub(crate) fn is_dropped(&self) -> bool {
        self.0.is_canceled()
    }
}

pub(crate) fn job_over() -> Error {
    Error::new(ErrorKind::Unavailable, "the job ended before the checkpoint was taken")
}

/// The answer to who asks for live state of a job that ends.
pub(crate) fn no_longer_live() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "the job ends or restarts, so there is no live state: read its checkpoints",
    )
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
