//! Where the description of a job enters the consumer of each stream, and an attempt builds it.

use std::sync::{Arc, Mutex};

use strandline_state_api::Result;

use super::Collector;
use super::assembly::Assembly;
use super::stateless::Discard;
use crate::sync::lock;

/// Builds a chain from here to its end.
pub(crate) type Builder<T> = Arc<dyn Fn(&mut Assembly) -> Result<Collector<T>> + Send + Sync>;

/// Where the consumer of a stream will be entered.
pub(crate) struct Slot<T>(Arc<Mutex<Option<Builder<T>>>>);

impl<T> Clone for Slot<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Send + 'static> Slot<T> {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(None)))
    }

    /// Enters the consumer.
    pub(crate) fn enter(&self, b: impl Fn(&mut Assembly) -> Result<Collector<T>> + Send + Sync + 'static) {
        *lock(&self.0) = Some(Arc::new(b));
    }

    /// Builds the consumer that was entered; without one, records are dropped.
    pub(crate) fn build(&self, assembly: &mut Assembly) -> Result<Collector<T>> {
        let builder = lock(&self.0).clone();
        builder.map_or_else(|| Ok(Box::new(Discard) as Collector<T>), |builder| builder(assembly))
    }
}
