//! Cases for keyed state backends; each takes the [`Subject`](crate::Subject) and panics with the difference.

pub mod aborts;
pub mod cleanup;
pub mod compatibility;
pub mod cuts;
pub mod evolution;
pub mod expiry;
pub mod faults;
pub mod folding;
pub mod forms;
pub mod increments;
pub mod keys;
pub mod limits;
pub mod lists;
pub mod look_ups;
pub mod maps;
pub mod model;
pub mod objects;
pub mod portability;
pub mod registration;
pub mod rescales;
pub mod restores;
pub mod savepoints;
pub mod timers;
pub mod values;

mod expiring_states;
mod simple;
