//! What it costs to go on with another number of subtasks.

use std::time::Duration;

use strandline_state_api::{
    BackendFactory, Error, ErrorKind, KeyGroupRange, KeyedSnapshot, Result, SnapshotSource, SnapshotWriter,
};

use super::{Counters, Opened, wrong};
use crate::snapshots::Cuts;

/// A rescale. Every value was checked.
#[derive(Clone, Copy, Debug)]
pub struct RescaleCost {
    /// The restores of all new subtasks, one after the other.
    pub restore: Duration,
    /// The longest of them, which is what a job waits for when each has a core.
    pub longest: Duration,
    /// Reading every key once, afterwards.
    pub check: Duration,
    /// How many entries there are.
    pub entries: u64,
}

impl<F: BackendFactory> Counters<F> {
    /// Brings the counters, as the newest snapshot has them, from `from` subtasks to `to`. The new ones are made by `elsewhere`: on
    /// another machine, if it is a factory that shares nothing with that of the counters.
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
            let range = KeyGroupRange::of_subtask(part, to);
            let (mut restored, took) = self.restored(elsewhere, range, &snapshots)?;
            let (check, entries) = self.check(&mut restored, range)?;
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

    /// The snapshot of one of `of` subtasks that went on from the newest snapshot.
    fn part(&self, part: u32, of: u32) -> Result<KeyedSnapshot> {
        let range = KeyGroupRange::of_subtask(part, of);
        let ((mut backend, _), _): (Opened<F>, _) =
            self.restored(&self.factory, range, std::slice::from_ref(&self.latest))?;
        let (mut writer, mut cuts) = (backend.take_writer()?, Cuts::default());
        let (checkpoint, _) = cuts.cut(&mut backend)?;
        let drained = cuts.drain(&mut backend)?;
        let (prepared, _) =
            drained.ok_or_else(|| Error::new(ErrorKind::Internal, "the backend forgot its snapshot"))?;
        let store = self.storage.segments(1, checkpoint);
        self.runtime.block_on(writer.commit(prepared, &store))
    }
}
