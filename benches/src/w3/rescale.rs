//! The cost of a restore with another number of subtasks.

use std::time::Duration;

use strandline_state_api::Result;
use strandline_state_api::backend::{BackendFactory, SnapshotSource, SnapshotWriter};
use strandline_state_api::snapshot::KeyedSnapshot;

use super::{Counters, wrong};
use crate::snapshots::Cuts;

/// A rescale. Every value was checked.
#[derive(Clone, Copy, Debug)]
pub struct RescaleCost {
    /// The restores of all new subtasks, one after the other.
    pub restore: Duration,
    /// The longest of them: a job waits for it when each subtask has a core.
    pub longest: Duration,
    /// Reading every key once, afterwards.
    pub check: Duration,
    /// How many entries there are.
    pub entries: u64,
}

impl<F: BackendFactory> Counters<F> {
    /// Restores the newest snapshot of the counters, taken by `from` subtasks, into `to` subtasks that
    /// `elsewhere` makes. With a factory that shares nothing with that of the counters, that is a restore on
    /// another machine.
    ///
    /// # Errors
    /// What the backend or the store fails with, and an error when a value is not the one that was written.
    pub fn rescale(&self, elsewhere: &F, from: u32, to: u32) -> Result<RescaleCost> {
        let snapshots = match from {
            1 => vec![self.latest.clone()],
            _ => (0..from).map(|part| self.part(part, from)).collect::<Result<Vec<_>>>()?,
        };
        let none = Duration::ZERO;
        let mut cost = RescaleCost { restore: none, longest: none, check: none, entries: 0 };
        for part in 0..to {
            let (mut restored, took) = self.restored(elsewhere, part, to, &snapshots)?;
            let (check, entries) = self.check(&mut restored)?;
            cost.restore += took;
            cost.longest = cost.longest.max(took);
            cost.check += check;
            cost.entries += entries;
        }
        if cost.entries == self.count {
            Ok(cost)
        } else {
            Err(wrong(&format!("the parts hold {} entries instead of {}", cost.entries, self.count)))
        }
    }

    /// Takes the snapshot of one of `of` subtasks that restored the newest snapshot.
    fn part(&self, part: u32, of: u32) -> Result<KeyedSnapshot> {
        let latest = std::slice::from_ref(&self.latest);
        let ((mut backend, _), _) = self.restored(&self.factory, part, of, latest)?;
        let writer = backend.take_writer()?;
        let snapshot = Cuts::default().snapshot(&mut backend)?;
        let store = self.storage.segments(1, snapshot.checkpoint);
        self.runtime.block_on(writer.commit(snapshot.prepared, &store))
    }
}
