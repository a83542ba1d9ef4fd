//! Cuts and drains: what a checkpoint does to a backend on the processing thread.

use std::time::{Duration, Instant};

use strandline_state_api::{CheckpointId, Progress, Result, SnapshotKind, SnapshotSource};

/// How many entries one step of a drain moves: as the executor does between batches.
pub const STEP: usize = 2048;

/// Takes the snapshots of one backend.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cuts {
    taken: u64,
    drained: u64,
}

/// What a drain cost the processing thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// All steps together.
    pub total: Duration,
    /// The longest.
    pub worst: Duration,
    /// How many there were.
    pub steps: u64,
}

impl Cuts {
    /// Marks a cut; gives its number and how long that took.
    ///
    /// # Errors
    /// Those of [`SnapshotSource::prepare`].
    pub fn cut(&mut self, backend: &mut impl SnapshotSource) -> Result<(CheckpointId, Duration)> {
        let checkpoint = CheckpointId(self.taken + 1);
        let start = Instant::now();
        backend.prepare(checkpoint, SnapshotKind::Incremental)?;
        let pause = start.elapsed();
        self.taken += 1;
        Ok((checkpoint, pause))
    }

    /// Drains the oldest cut; `None` when all are drained.
    ///
    /// # Errors
    /// Those of [`SnapshotSource::advance`].
    pub fn drain<B: SnapshotSource>(&mut self, backend: &mut B) -> Result<Option<(B::Prepared, Drained)>> {
        let mut drained = Drained::default();
        loop {
            let start = Instant::now();
            let progress = backend.advance(STEP)?;
            let took = start.elapsed();
            drained.total += took;
            drained.worst = drained.worst.max(took);
            drained.steps += 1;
            match progress {
                Progress::Idle => return Ok(None),
                Progress::More => {}
                Progress::Ready(_, prepared) => {
                    self.drained += 1;
                    return Ok(Some((prepared, drained)));
                }
            }
        }
    }

    /// Cuts, and drains everything: the next change of each entry is the first in its epoch.
    ///
    /// # Errors
    /// As [`cut`](Self::cut) and [`drain`](Self::drain).
    pub fn clean(&mut self, backend: &mut impl SnapshotSource) -> Result<()> {
        self.cut(backend)?;
        while self.drain(backend)?.is_some() {}
        Ok(())
    }

    /// How many cuts are not drained.
    pub fn under_way(&self) -> u64 {
        self.taken - self.drained
    }
}
