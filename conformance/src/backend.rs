//! Cases for keyed state backends; each takes the [`Subject`](crate::Subject) and panics with what differs.

pub mod lists;
pub mod maps;
pub mod registration;
mod simple;
pub mod timers;
pub mod values;
