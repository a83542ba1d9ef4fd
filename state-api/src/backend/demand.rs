//! Whether a prefetch is worth its work.

/// Decides whether the entries of announced keys are worth a prefetch: while a state is accessed for at least half of
/// the keys that the driver [announces](super::KeyedBackend::prefetch).
///
/// An operator may have many states and access one of them for each record. A backend keeps a `Demand` for each
/// state that it can prefetch.
///
/// ```
/// use strandline_state_api::backend::Demand;
///
/// let mut demand = Demand::default();
/// assert!(demand.announce(64), "so far nothing speaks against it");
/// while demand.announce(64) {} // a state that is not accessed
/// (0..60).for_each(|_| demand.access());
/// assert!(demand.announce(64));
/// ```
#[derive(Clone, Debug)]
pub struct Demand {
    /// The accesses beyond one for every other announced key.
    surplus: u64,
}

/// How many accesses an announcement looks back on at most: those of many announcements, as the driver announces keys
/// before it works on those in front of them.
const MOST: u64 = 1024;

impl Demand {
    /// Counts an access.
    #[inline]
    pub fn access(&mut self) {
        self.surplus = self.surplus.wrapping_add(1);
    }

    /// Counts announced keys; returns whether their entries are worth a prefetch.
    pub fn announce(&mut self, keys: usize) -> bool {
        self.surplus = self.surplus.min(MOST).saturating_sub(keys as u64 / 2);
        self.surplus > 0
    }
}

impl Default for Demand {
    /// Assumes that the state is accessed for most keys.
    fn default() -> Self {
        Self { surplus: MOST }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Announces batches of 64 keys, each before the batch in front of it is worked on, as the runtime does.
    fn prefetched(accesses: u64, batches: usize) -> usize {
        let mut demand = Demand::default();
        (0..batches)
            .filter(|_| {
                let wanted = demand.announce(64);
                (0..accesses).for_each(|_| demand.access());
                wanted
            })
            .count()
    }

    #[test]
    fn states_that_most_records_access_are_prefetched() {
        assert_eq!(prefetched(64, 1000), 1000);
        assert_eq!(prefetched(40, 1000), 1000);
        assert!(prefetched(20, 1000) < 100);
        assert!(prefetched(0, 1000) < 50);
    }
}
