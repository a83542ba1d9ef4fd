//! The backend under test, and its declared capabilities.

use std::fmt;

use strandline_state_api::backend::{BackendFactory, BackendScope};
use strandline_state_api::{KeyGroupRange, StateKey};

/// A kind of state that a backend may leave out. Every backend has values, and with them reducing and
/// aggregating state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OptionalKind {
    /// List states.
    Lists,
    /// Map states.
    Maps,
    /// Timer services.
    Timers,
}

impl fmt::Display for OptionalKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lists => "lists",
            Self::Maps => "maps",
            Self::Timers => "timers",
        })
    }
}

/// The capabilities of a backend beyond the contract that binds all backends. Cases ask for no more than is
/// declared.
///
/// A backend declares everything by default, so that it has to name what it leaves out:
///
/// ```
/// use strandline_conformance::Capabilities;
///
/// let modest = Capabilities { incremental: false, ..Capabilities::default() };
/// assert!(modest.several_in_flight);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// The backend has list states.
    pub lists: bool,
    /// The backend has map states.
    pub maps: bool,
    /// The backend has timers.
    pub timers: bool,
    /// An incremental snapshot writes in proportion to what changed. Without this capability, each snapshot
    /// may write everything.
    pub incremental: bool,
    /// A snapshot of a few hundred kilobytes has at most 24 objects, whatever the increments before it were.
    pub few_objects: bool,
    /// Incremental snapshots are in the portable format, as full ones always are. Without this capability
    /// they may be in a format of the backend's own.
    pub portable_increments: bool,
    /// After a restore that migrates values, an incremental snapshot writes in proportion to what changed,
    /// too: what does not change keeps the form in which it is stored.
    pub keeps_older_forms: bool,
    /// A snapshot may be prepared while older ones are under way. Without this capability the suite finishes
    /// one before it prepares the next.
    pub several_in_flight: bool,
    /// [`entries`](strandline_state_api::KeyedBackend::entries) is exact, and not only an estimate.
    pub counts_entries: bool,
    /// [`clean_up`](strandline_state_api::KeyedBackend::clean_up) removes expired values, at the latest after
    /// a snapshot.
    pub cleans_up: bool,
    /// A full snapshot leaves out the values that had expired at its barrier, where the state asks for it.
    pub filters_full_snapshots: bool,
}

impl Capabilities {
    /// Everything, which is the default.
    pub const ALL: Self = Self {
        lists: true,
        maps: true,
        timers: true,
        incremental: true,
        few_objects: true,
        portable_increments: true,
        keeps_older_forms: true,
        several_in_flight: true,
        counts_entries: true,
        cleans_up: true,
        filters_full_snapshots: true,
    };

    /// Returns the same capabilities for a backend with exactly these kinds of state, and values.
    #[must_use]
    pub fn with_kinds(self, kinds: &[OptionalKind]) -> Self {
        let has = |kind| kinds.contains(&kind);
        let (lists, maps) = (has(OptionalKind::Lists), has(OptionalKind::Maps));
        Self { lists, maps, timers: has(OptionalKind::Timers), ..self }
    }

    /// Returns whether the backend has a kind of state.
    pub fn has(&self, kind: OptionalKind) -> bool {
        match kind {
            OptionalKind::Lists => self.lists,
            OptionalKind::Maps => self.maps,
            OptionalKind::Timers => self.timers,
        }
    }
}

impl Default for Capabilities {
    fn default() -> Self {
        Self::ALL
    }
}

/// A backend under test: its factory, and its capabilities.
#[derive(Clone, Debug)]
pub struct Subject<F> {
    factory: F,
    capabilities: Capabilities,
}

impl<F: BackendFactory> Subject<F> {
    /// Creates the subject for a backend that declares everything.
    pub fn new(factory: F) -> Self {
        Self { factory, capabilities: Capabilities::default() }
    }

    /// Declares the capabilities of the backend.
    #[must_use]
    pub fn with_capabilities(mut self, capabilities: Capabilities) -> Self {
        self.capabilities = capabilities;
        self
    }

    /// Returns the declared capabilities.
    pub fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    /// Returns the factory of the backend.
    pub(crate) fn factory(&self) -> &F {
        &self.factory
    }

    /// Creates an empty backend for all key groups.
    pub(crate) fn backend<K: StateKey>(&self) -> F::Backend<K> {
        self.backend_of(KeyGroupRange::ALL)
    }

    /// Creates an empty backend for `key_groups`.
    pub(crate) fn backend_of<K: StateKey>(&self, key_groups: KeyGroupRange) -> F::Backend<K> {
        self.factory.create(BackendScope { key_groups, ..Self::scope() }).unwrap()
    }

    /// Returns the scope of a backend for all key groups.
    pub(crate) fn scope() -> BackendScope {
        BackendScope::whole("conformance").unwrap()
    }
}
