//! Calls by functions that return futures.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use strandline_state_api::Result;

use super::{Call, Replier};

/// A call in a box, for an executor.
pub type SpawnedFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Calls by a function that returns a future; see [`Calls::spawned`](super::Calls::spawned).
#[derive(Clone, Copy)]
pub struct Spawned<F, S> {
    function: F,
    spawn: S,
}

impl<F, S> Spawned<F, S> {
    pub(super) fn new(function: F, spawn: S) -> Self {
        Self { function, spawn }
    }
}

impl<K, T, R, F, Fut, S> Call<K, T, R> for Spawned<F, S>
where
    K: Clone,
    T: Clone,
    R: Send + 'static,
    F: FnMut(K, T) -> Fut + Send + 'static,
    Fut: Future<Output = Result<R>> + Send + 'static,
    S: FnMut(SpawnedFuture) + Send + 'static,
{
    fn start(&mut self, key: &K, record: &T, replier: Replier<R>) {
        let future = (self.function)(key.clone(), record.clone());
        (self.spawn)(Box::pin(async move { replier.reply(future.await) }));
    }
}

impl<F, S> fmt::Debug for Spawned<F, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Spawned")
    }
}
