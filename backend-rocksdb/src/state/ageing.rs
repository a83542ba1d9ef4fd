//! What the states of all kinds have in common whose values may expire or be stored in an older form.

use strandline_state_api::format::StateMeta;
use strandline_state_api::{
    Decoder, Expiry, KeyGroupRange, KeyHash, Migration, Reading, Result, StateKey, StateTime, Ttl,
};

use super::{Place, VisitKey};
use crate::expiry::expired;
use crate::store::{Order, Store};

/// How stored values are read, and when they expire.
pub(super) struct Ageing<V> {
    decoder: Decoder<V>,
    /// For what is being restored, where it is stored in an older form.
    migration: Option<Migration<V>>,
    expiry: Option<Expiry<V>>,
    /// Where the clean-up goes on.
    cursor: Option<Vec<u8>>,
}

impl<V: 'static> Ageing<V> {
    pub(super) fn new(decoder: &Decoder<V>, expiry: Option<Expiry<V>>) -> Self {
        Self { decoder: decoder.clone(), migration: None, expiry, cursor: None }
    }

    pub(super) fn accept(&mut self, stored: &StateMeta, wanted: &StateMeta) -> Result<bool> {
        self.migration = match self.decoder.reading(stored, wanted)? {
            Reading::AsIs => None,
            Reading::Migrate(migration) => Some(migration),
        };
        Ok(self.migration.is_some())
    }

    /// Writes the form of today of what is stored to `out`, replacing what is there; `rewrite` does so where it is an older one.
    pub(super) fn migrate(
        &self,
        stored: &[u8],
        out: &mut Vec<u8>,
        rewrite: impl FnOnce(&Migration<V>, &mut Vec<u8>) -> Result<()>,
    ) -> Result<()> {
        out.clear();
        match &self.migration {
            Some(migration) => rewrite(migration, out),
            None => {
                out.extend_from_slice(stored);
                Ok(())
            }
        }
    }

    pub(super) fn ttl(&self) -> Option<Ttl> {
        self.expiry.map(|expiry| *expiry.ttl())
    }

    /// Removes what has expired of the entries that `records` records pay for. Only where compactions do not: those cost no
    /// reads.
    pub(super) fn clean_up(
        &mut self,
        place: &Place,
        store: &mut Store,
        order: Order,
        (records, clock): (usize, &StateTime),
    ) -> Result<u64> {
        let Some(ttl) = self.ttl() else { return Ok(0) };
        let cleanup = ttl.cleanup_options();
        let budget = records.saturating_mul(cleanup.per_record as usize);
        if cleanup.in_compactions || budget == 0 {
            return Ok(0);
        }
        let (kind, from) = (place.meta().kind, self.cursor.take());
        let (gone, next) = store.remove_some(place.id, from.as_deref(), order, budget, |value| {
            expired(&ttl, kind, value, clock)
        })?;
        self.cursor = next;
        Ok(gone)
    }
}

/// Visits each key and namespace of a state once.
pub(super) fn for_each_key<K: StateKey, N: StateKey>(
    place: &Place,
    store: &mut Store,
    (range, order): (KeyGroupRange, Order),
    visit: VisitKey<'_>,
) -> Result<()> {
    // The entries of a map stand together.
    let mut last: Option<(Vec<u8>, Vec<u8>)> = None;
    store.scan_state(place.id, range, order, |address, _| {
        let parts = place.layout.split(address)?;
        if last.as_ref().is_some_and(|(key, namespace)| *key == *parts.key && *namespace == *parts.namespace)
        {
            return Ok(true);
        }
        let (key, namespace) = (K::decode(&parts.key)?, N::decode(&parts.namespace)?);
        visit(KeyHash::of_encoded(&parts.key), &key, &namespace)?;
        last = Some((parts.key.into_owned(), parts.namespace.into_owned()));
        Ok(true)
    })
}
