//! A small backend with every kind of state.
//!
//! Every state is a sorted map from (time, key, namespace, map key), encoded, to a native value; the kit takes
//! whole snapshots. The backend is neither fast nor incremental, and declares so. `tests/values_only.rs` is
//! smaller still.

// Several test programs share this module, and not each of them uses everything.
#![allow(dead_code, unused_imports, missing_debug_implementations)]

mod backend;
mod broken;
mod cells;
mod flawed;

pub use broken::{Broken, Flaw};

use strandline_conformance::Capabilities;
use strandline_snapshot_format::whole::WholeStates;
use strandline_state_api::backend::{BackendFactory, BackendScope};
use strandline_state_api::{Result, StateKey};

pub use backend::Naive;

/// Creates [`Naive`] backends.
#[derive(Clone, Debug, Default)]
pub struct NaiveFactory;

impl NaiveFactory {
    /// Each snapshot writes everything.
    pub const CAPABILITIES: Capabilities =
        Capabilities { incremental: false, cleans_up: false, ..Capabilities::ALL };
}

impl BackendFactory for NaiveFactory {
    type Backend<K: StateKey> = Naive<K>;

    fn name(&self) -> &'static str {
        "naive"
    }

    fn create<K: StateKey>(&self, scope: BackendScope) -> Result<Naive<K>> {
        Ok(Naive(WholeStates::new(scope)))
    }
}
