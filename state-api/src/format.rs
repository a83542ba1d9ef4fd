//! The portable snapshot format.
