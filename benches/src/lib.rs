//! Criterion benches that compare the backends with each other and with the raw stores under them.
