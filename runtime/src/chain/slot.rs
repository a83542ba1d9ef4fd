//! Where the description of a job enters the consumer of each stream, and an attempt builds it.

use std::sync::{Arc, Mutex};

use strandline_state_api::{OperatorId, Result};

use super::Collector;
use super::assembly::Assembly;
use super::stateless::Discard;
use crate::sync::lock;

/// Builds a chain from here to its end.
pub(crate) type Builder<T> = Arc<dyn Fn(&mut Assembly) -> Result<Collector<T>> + Send + Sync>;

/// Where the consumer of a stream will be entered.
pub(crate) struct Slot<T> {
    /// The operator whose records pass here; `None` where the id of that is a mistake.
    origin: Option<OperatorId>,
    builder: Arc<Mutex<Option<Builder<T>>>>,
}

impl<T> Clone for Slot<T> {
    fn clone(&self) -> Self {
        Self { origin: self.origin.clone(), builder: Arc::clone(&self.builder) }
    }
}

impl<T: Send + 'static> Slot<T> {
    pub(crate) fn new(origin: Option<OperatorId>) -> Self {
        Self { origin, builder: Arc::new(Mutex::new(None)) }
    }

    /// A slot for records that come from the same operator.
    pub(crate) fn behind<U: Send + 'static>(&self) -> Slot<U> {
        Slot::new(self.origin.clone())
    }

    /// The operator whose records pass here.
    pub(crate) fn origin(&self) -> Option<&OperatorId> {
        self.origin.as_ref()
    }

    /// Enters the consumer.
    pub(crate) fn enter(&self, b: impl Fn(&mut Assembly) -> Result<Collector<T>> + Send + Sync + 'static) {
        *lock(&self.builder) = Some(Arc::new(b));
    }

    /// Builds the consumer that was entered; without one, records are dropped.
    pub(crate) fn build(&self, assembly: &mut Assembly) -> Result<Collector<T>> {
        let builder = lock(&self.builder).clone();
        builder.map_or_else(|| Ok(Box::new(Discard) as Collector<T>), |builder| builder(assembly))
    }
}
