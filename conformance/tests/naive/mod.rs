//! The smallest backend that passes the suite: how to implement one.
//!
//! Every state is a sorted map from (time, key, namespace, map key), encoded, to a native value. A snapshot encodes everything
//! at the barrier, and its writer makes one segment of it. Nothing is fast, nothing is incremental: it declares so.

// Shared by several test programs, of which not each uses all.
#![allow(dead_code, unused_imports)]

mod backend;
mod broken;
mod snapshot;
mod table;

pub use broken::{Broken, Flaw};

use strandline_conformance::Capabilities;
use strandline_state_api::{BackendFactory, BackendScope, Result, StateKey};

pub use backend::Naive;

/// Makes [`Naive`] backends.
#[derive(Clone, Debug, Default)]
pub struct NaiveFactory;

impl NaiveFactory {
    /// It writes everything each time.
    pub const CAPABILITIES: Capabilities = Capabilities {
        incremental: false,
        cleans_up: false,
        filters_full_snapshots: false,
        ..Capabilities::ALL
    };
}

impl BackendFactory for NaiveFactory {
    type Backend<K: StateKey> = Naive<K>;

    fn name(&self) -> &'static str {
        "naive"
    }

    fn create<K: StateKey>(&self, scope: BackendScope) -> Result<Naive<K>> {
        Ok(Naive::new(scope))
    }
}
