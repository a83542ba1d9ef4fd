//! Streams out of futures that hand out items on their way.

use std::future::{Future, poll_fn};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use futures::Stream;
use futures::stream;
use strandline_state_api::Result;

/// Hands items to the stream.
pub(crate) struct Yielder<T>(Arc<Mutex<Option<T>>>);

impl<T> Yielder<T> {
    fn take(&self) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn is_taken(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// Hands out an item; returns when the reader of the stream has taken it and wants the next one.
    pub(crate) async fn give(&self, item: T) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(item);
        // The stream polls this future again after it has handed out the item.
        poll_fn(|_| if self.is_taken() { Poll::Ready(()) } else { Poll::Pending }).await;
    }
}

/// Returns the items that the future of `make` gives, and its error behind them.
pub(crate) fn stream<T, F>(
    make: impl FnOnce(Yielder<T>) -> F,
) -> impl Stream<Item = Result<T>> + Send + 'static
where
    T: Send + 'static,
    F: Future<Output = Result<()>> + Send + 'static,
{
    let slot = Arc::new(Mutex::new(None));
    let given = Yielder(Arc::clone(&slot));
    let mut future = Some(Box::pin(make(Yielder(slot))));
    let mut error = None;
    stream::poll_fn(move |cx| {
        if let Some(running) = &mut future
            && let Poll::Ready(result) = running.as_mut().poll(cx)
        {
            future = None;
            error = result.err();
        }
        match (given.take(), &future) {
            (Some(item), _) => Poll::Ready(Some(Ok(item))),
            (None, Some(_)) => Poll::Pending,
            (None, None) => Poll::Ready(error.take().map(Err)),
        }
    })
}
