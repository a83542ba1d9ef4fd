//! The behaviour suite that every state backend and every checkpoint storage must pass.
