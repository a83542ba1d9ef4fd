//! The behaviour of a storage, on a local disk and in memory.

mod basics;
mod claims;
mod common;
mod damage;
mod faulty;
mod sweeping;
