//! What a table with a time-to-live needs beside its entries.

use strandline_state_api::Expiry;

use crate::table::Cursor;

/// When values expire, and how far the clean-up is.
pub(crate) struct Ageing<V> {
    pub(crate) expiry: Expiry<V>,
    pub(crate) cursor: Cursor,
}

impl<V> Ageing<V> {
    pub(crate) fn new(expiry: Expiry<V>) -> Self {
        Self { expiry, cursor: Cursor::default() }
    }

    /// How many entries are looked at after so many records.
    pub(crate) fn budget(&self, records: usize) -> usize {
        records.saturating_mul(self.expiry.ttl().cleanup_options().per_record as usize)
    }
}
