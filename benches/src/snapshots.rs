//! Cuts and drains: the part of a checkpoint on the processing thread.

use std::time::{Duration, Instant};

use strandline_state_api::backend::{
    BackendFactory, BackendScope, KeyedBackendExt, Progress, SnapshotKind, SnapshotSource,
};
use strandline_state_api::{CheckpointId, Error, ErrorKind, Result, StateDescriptor};

/// A backend that `F` makes, and the handle of its only state.
pub(crate) type Opened<F, D> = (<F as BackendFactory>::Backend<u64>, <D as StateDescriptor>::State);

/// Makes an empty backend for all keys with one state.
pub(crate) fn open<F: BackendFactory, D: StateDescriptor>(
    factory: &F,
    descriptor: &D,
) -> Result<Opened<F, D>> {
    let mut backend = factory.create(BackendScope::whole("bench")?)?;
    let state = backend.register(descriptor)?;
    Ok((backend, state))
}

/// How many entries one step of a drain moves; the executor moves as many between batches.
pub const STEP: usize = 2048;

/// Takes the snapshots of one backend.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cuts {
    taken: u64,
}

/// A snapshot that waits to be written.
#[derive(Debug)]
pub struct Snapshot<P> {
    /// Its number.
    pub checkpoint: CheckpointId,
    /// How long the cut took.
    pub pause: Duration,
    /// The time of the drain.
    pub drained: Drained,
    /// The input of the writer.
    pub prepared: P,
}

/// The time of a drain on the processing thread.
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
    /// Marks a cut; returns its number and how long that took.
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
                Progress::Ready(_, prepared) => return Ok(Some((prepared, drained))),
            }
        }
    }

    /// Cuts and drains: all that a snapshot does on the processing thread. No earlier cut may be under way.
    ///
    /// # Errors
    /// As [`cut`](Self::cut) and [`drain`](Self::drain).
    pub fn snapshot<B: SnapshotSource>(&mut self, backend: &mut B) -> Result<Snapshot<B::Prepared>> {
        let (checkpoint, pause) = self.cut(backend)?;
        let drained = self.drain(backend)?;
        let (prepared, drained) =
            drained.ok_or_else(|| Error::new(ErrorKind::Internal, "the backend forgot its snapshot"))?;
        Ok(Snapshot { checkpoint, pause, drained, prepared })
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
}
