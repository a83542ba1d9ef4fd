//! Leaves expired values out, of full snapshots above all.

use std::collections::BTreeMap;

use strandline_state_api::Ttl;
use strandline_state_api::backend::{StateTime, expired_bytes};
use strandline_state_api::schema::{StateKind, StateMeta};

use crate::list;

/// Leaves out of a full snapshot the values that had expired at its barrier.
///
/// The time of the barrier decides, not a later one: a restore sets the watermark of the barrier, and a value
/// that had not expired then must exist.
#[derive(Clone, Debug, Default)]
pub struct ExpiryFilter {
    clock: StateTime,
    /// The time-to-live of each state, by name.
    states: BTreeMap<String, Ttl>,
}

/// How much of an encoded value remains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// The whole value remains.
    Whole,
    /// Some elements of a list remain, and are in the buffer.
    Part,
    /// Nothing remains.
    Nothing,
}

impl ExpiryFilter {
    /// Creates the filter of a full snapshot at `clock`, for those states (with their time-to-live) whose
    /// [clean-up](strandline_state_api::Cleanup::in_full_snapshots) asks for it.
    pub fn of<'s>(
        clock: StateTime,
        states: impl IntoIterator<Item = (&'s StateMeta, Option<&'s Ttl>)>,
    ) -> Self {
        let expiring = states.into_iter().filter_map(|(meta, ttl)| Some((meta, ttl?)));
        let filtered = expiring.filter(|(_, ttl)| ttl.cleanup_options().in_full_snapshots);
        Self { clock, states: filtered.map(|(meta, ttl)| (meta.name.clone(), *ttl)).collect() }
    }

    /// Returns whether the filter leaves out nothing at all.
    pub fn is_empty(&self) -> bool {
        self.states.is_empty()
    }

    /// Returns how much of a value remains that is stored as `state` describes. If a list loses some
    /// elements, `part` holds the remaining ones.
    pub fn keep(&self, state: &StateMeta, value: &[u8], part: &mut Vec<u8>) -> Kept {
        // Values of an older form, from before the state had a time-to-live, have no stamp to go by.
        let Some(ttl) = self.states.get(&state.name).filter(|_| state.stamped) else { return Kept::Whole };
        unexpired(ttl, state.kind, value, &self.clock, part)
    }
}

/// Returns how much of an encoded value of a state of this kind has not expired at `clock`. If a list loses
/// some elements, `part` holds the remaining ones.
pub fn unexpired(ttl: &Ttl, kind: StateKind, value: &[u8], clock: &StateTime, part: &mut Vec<u8>) -> Kept {
    let expired = |bytes| expired_bytes(ttl, bytes, clock);
    if kind != StateKind::List {
        return if expired(value) { Kept::Nothing } else { Kept::Whole };
    }
    part.clear();
    let mut all = true;
    for element in list::elements(value) {
        match element {
            Ok(element) if expired(element) => all = false,
            Ok(element) => list::push(part, element),
            // The next read of the list fails and names the damage.
            Err(_) => return Kept::Whole,
        }
    }
    match (all, part.is_empty()) {
        (true, _) => Kept::Whole,
        (false, true) => Kept::Nothing,
        (false, false) => Kept::Part,
    }
}
