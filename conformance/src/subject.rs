//! What is under test, and what it says it can do.

use strandline_state_api::{BackendFactory, BackendScope, KeyGroupRange, OperatorId, StateKey};

/// What a backend can do beyond the contract that binds all of them. Cases read it and ask for no more.
///
/// Everything is declared by default, so that a backend has to say what it leaves out:
///
/// ```
/// use strandline_conformance::Capabilities;
///
/// let modest = Capabilities { incremental: false, ..Capabilities::default() };
/// assert!(modest.several_in_flight);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// An incremental snapshot writes in proportion to what changed. Without it, it may write everything each time.
    pub incremental: bool,
    /// Incremental snapshots are in the portable format, as full ones always are. Without it they may be in a format of the
    /// backend's own.
    pub portable_increments: bool,
    /// A snapshot may be prepared while older ones are under way. Without it the suite finishes one before the next.
    pub several_in_flight: bool,
    /// [`entries`](strandline_state_api::KeyedBackend::entries) is exact, and not only an estimate.
    pub counts_entries: bool,
    /// [`clean_up`](strandline_state_api::KeyedBackend::clean_up) removes what has expired, at the latest after a snapshot.
    pub cleans_up: bool,
    /// A full snapshot leaves out what had expired at its barrier, where the state asks for it.
    pub filters_full_snapshots: bool,
}

impl Capabilities {
    /// Everything, which is the default.
    pub const ALL: Self = Self {
        incremental: true,
        portable_increments: true,
        several_in_flight: true,
        counts_entries: true,
        cleans_up: true,
        filters_full_snapshots: true,
    };
}

impl Default for Capabilities {
    fn default() -> Self {
        Self::ALL
    }
}

/// A backend under test: how to make one, and what it declares.
#[derive(Clone, Debug)]
pub struct Subject<F> {
    factory: F,
    capabilities: Capabilities,
}

impl<F: BackendFactory> Subject<F> {
    /// A backend that declares everything.
    pub fn new(factory: F) -> Self {
        Self { factory, capabilities: Capabilities::default() }
    }

    /// Declares what it can do.
    #[must_use]
    pub fn with_capabilities(mut self, capabilities: Capabilities) -> Self {
        self.capabilities = capabilities;
        self
    }

    /// What it can do.
    pub fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    /// An empty backend for all key groups.
    pub(crate) fn backend<K: StateKey>(&self) -> F::Backend<K> {
        self.backend_of(KeyGroupRange::ALL)
    }

    /// An empty backend for `key_groups`.
    pub(crate) fn backend_of<K: StateKey>(&self, key_groups: KeyGroupRange) -> F::Backend<K> {
        let operator = OperatorId::new("conformance").unwrap();
        self.factory.create(BackendScope { operator, subtask: 0, key_groups }).unwrap()
    }
}
