//! Where an entry stands in its state.

use strandline_state_api::backend::At;
use strandline_state_api::{KeyHash, StateKey, Timestamp};

/// Where an entry stands in its state, encoded: what a table of bytes looks entries up by.
///
/// Addresses are ordered by time, key, namespace and map key: timers come in the order of their times, and
/// the entries of one map stand together, in the order of their map keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryAddress {
    /// The time of a timer, in milliseconds; 0 in a state that is no timer service.
    pub time: i64,
    /// The key.
    pub key: Vec<u8>,
    /// The namespace; empty in a state without namespaces.
    pub namespace: Vec<u8>,
    /// The map key; empty in a state that is no map.
    pub map_key: Vec<u8>,
}

impl EntryAddress {
    /// Encodes the address of a value or a list.
    pub fn of<K: StateKey, N: StateKey>(at: At<'_, K, N>) -> Self {
        let (key, namespace) = (encoded(at.key.key()), encoded(at.namespace));
        Self { time: 0, key, namespace, map_key: Vec::new() }
    }

    /// Encodes the address of an entry of a map.
    pub fn of_entry<K: StateKey, N: StateKey>(at: At<'_, K, N>, map_key: &impl StateKey) -> Self {
        Self { map_key: encoded(map_key), ..Self::of(at) }
    }

    /// Encodes the address of a timer.
    pub fn of_timer<K: StateKey, N: StateKey>(at: At<'_, K, N>, time: Timestamp) -> Self {
        Self { time: time.as_millis(), ..Self::of(at) }
    }

    /// Returns the hash of the key.
    pub fn key_hash(&self) -> KeyHash {
        KeyHash::of_encoded(&self.key)
    }
}

fn encoded(part: &impl StateKey) -> Vec<u8> {
    let mut bytes = Vec::new();
    part.encode(&mut bytes);
    bytes
}
