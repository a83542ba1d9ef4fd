//! The checkpoint protocol as pure state machines: coordinator, barrier alignment, commit and fencing, rescaling.
