//! Creates backends of equal options.

use strandline_state_api::backend::{BackendFactory, BackendScope};
use strandline_state_api::{Result, StateKey};

use crate::backend::MemoryBackend;
use crate::options::MemoryOptions;

/// Creates [`MemoryBackend`]s.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MemoryBackendFactory {
    /// The options of every backend that the factory creates.
    pub options: MemoryOptions,
}

impl BackendFactory for MemoryBackendFactory {
    type Backend<K: StateKey> = MemoryBackend<K>;

    fn name(&self) -> &'static str {
        "memory"
    }

    fn create<K: StateKey>(&self, scope: BackendScope) -> Result<MemoryBackend<K>> {
        Ok(MemoryBackend::new(scope, self.options.clone()))
    }
}

impl MemoryBackend<()> {
    /// Returns a factory of backends with default options, for keys of any type.
    ///
    /// ```
    /// use strandline_backend_memory::MemoryBackend;
    /// use strandline_state_api::backend::{BackendFactory, BackendScope};
    ///
    /// let factory = MemoryBackend::factory();
    /// let backend: MemoryBackend<String> = factory.create(BackendScope::whole("words")?)?;
    /// # Ok::<(), strandline_state_api::Error>(())
    /// ```
    pub fn factory() -> MemoryBackendFactory {
        MemoryBackendFactory::default()
    }
}
