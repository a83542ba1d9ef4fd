//! The executor that composes the Strandline crates, and the reference binary.
