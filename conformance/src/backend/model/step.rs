//! One step of a program. Each makes sense in any order, so that any of them can be left out.

use fastrand::Rng;
use strandline_state_api::backend::SnapshotKind;

use crate::segments::StoreFault;
use crate::world::Op;

#[derive(Clone, Debug)]
pub(super) enum Step {
    /// An operation on the subtask that owns its key; a pop on the subtask of that number.
    Do(usize, Op),
    /// A barrier reaches all subtasks.
    Prepare(SnapshotKind),
    /// One bounded step of one subtask towards its oldest cut.
    Advance(usize, usize),
    /// A subtask writes the oldest snapshot that is handed over.
    Commit(usize),
    /// The same, but the store fails from some put on.
    CommitFails(usize, usize, StoreFault),
    /// The oldest checkpoint that is not complete is given up.
    Abort,
    /// Everything is compared with the model.
    Check,
    /// One of the complete checkpoints is restored into backends that are thrown away.
    Verify { which: usize, parallelism: u32 },
    /// The job stops and goes on from one of the complete checkpoints, at this parallelism.
    Restore { which: usize, parallelism: u32, clipped: bool },
    /// Files that nothing needs are deleted.
    Sweep,
}

impl Step {
    pub(super) fn any(rng: &mut Rng) -> Self {
        let subtask = rng.usize(..4);
        match rng.u8(..100) {
            0..=2 => {
                Self::Prepare(if rng.u8(..4) == 0 { SnapshotKind::Full } else { SnapshotKind::Incremental })
            }
            3..=10 => {
                let budgets = [1, 2, 5, 20, 1_000, usize::MAX];
                Self::Advance(subtask, budgets[rng.usize(..budgets.len())])
            }
            11..=17 => Self::Commit(subtask),
            18 | 24 => {
                let faults = [StoreFault::PutRefused, StoreFault::PutAnswerLost, StoreFault::ReadRefused];
                let fault = faults[rng.usize(..3)];
                Self::CommitFails(subtask, rng.usize(..2), fault)
            }
            19 if rng.bool() => Self::Abort,
            20 if rng.bool() => Self::Check,
            21 if rng.bool() => Self::Verify { which: rng.usize(..3), parallelism: rng.u32(1..9) },
            22 if rng.u8(..3) == 0 => {
                Self::Restore { which: rng.usize(..3), parallelism: rng.u32(1..9), clipped: rng.bool() }
            }
            23 => Self::Sweep,
            _ => Self::Do(subtask, Op::any(rng)),
        }
    }
}
