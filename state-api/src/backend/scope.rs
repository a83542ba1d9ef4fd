//! The subtask that a backend belongs to, and the factory that creates backends.

use super::CheckpointedBackend;
use crate::{Error, KeyGroupRange, Keyed, OperatorId, Result, StateKey};

/// The subtask whose state a backend holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendScope {
    /// The operator.
    pub operator: OperatorId,
    /// The index of the subtask, from 0.
    pub subtask: u32,
    /// The number of subtasks of the operator.
    pub parallelism: u32,
    /// The key groups that the subtask owns.
    pub key_groups: KeyGroupRange,
}

impl BackendScope {
    /// Creates the scope of subtask `subtask` of `parallelism`, with the key groups that it owns.
    pub fn new(operator: OperatorId, subtask: u32, parallelism: u32) -> Self {
        let key_groups = KeyGroupRange::of_subtask(subtask, parallelism);
        Self { operator, subtask, parallelism, key_groups }
    }

    /// Creates the scope of an operator's only subtask, which owns all key groups.
    ///
    /// # Errors
    /// Those of [`OperatorId::new`].
    pub fn whole(operator: &str) -> Result<Self> {
        Ok(Self::new(OperatorId::new(operator)?, 0, 1))
    }

    /// Adds operator and subtask to an error.
    pub fn locate(&self, error: Error) -> Error {
        error.with("operator", &self.operator).with("subtask", self.subtask)
    }

    /// Returns the error for a key that another subtask owns.
    #[cold]
    pub fn foreign_key<K: StateKey>(&self, key: Keyed<'_, K>) -> Error {
        Error::invalid("the key does not belong to the key groups of this subtask")
            .with("operator", &self.operator)
            .with("subtask", self.subtask)
            .with("key group", key.group())
            .with("key groups", self.key_groups)
    }
}

/// Creates backends of one kind. Jobs, conformance runs and benches are generic over the factory.
pub trait BackendFactory: Clone + Send + Sync + 'static {
    /// The backend for keys of type `K`.
    type Backend<K: StateKey>: CheckpointedBackend<Key = K> + 'static;

    /// Returns the name in job files and reports, for example `memory`.
    fn name(&self) -> &'static str;

    /// Creates an empty backend.
    ///
    /// # Errors
    /// Fails when a resource of the backend is unavailable.
    fn create<K: StateKey>(&self, scope: BackendScope) -> Result<Self::Backend<K>>;
}
