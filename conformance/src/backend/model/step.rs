//! One step of a program. Steps are valid in any order, so that a shorter program may leave out any of them.

use fastrand::Rng;
use strandline_state_api::backend::SnapshotKind;

use crate::segments::StoreFault;
use crate::world::Op;

#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Applies an operation in the subtask that owns its key, or a pop in the subtask of this number.
    Do(usize, Op),
    /// A barrier reaches all subtasks.
    Prepare(SnapshotKind),
    /// A subtask advances its oldest snapshot by one bounded step.
    Advance(usize, usize),
    /// A subtask writes its oldest snapshot that is ready.
    Commit(usize),
    /// A subtask writes its oldest snapshot that is ready, and the store fails from some operation on.
    CommitFails(usize, usize, StoreFault),
    /// A subtask starts to write its oldest snapshot that is ready, and the store hangs after some operations.
    CommitHangs(usize, usize),
    /// The store answers one of the commits of a subtask that hang.
    Release(usize, usize),
    /// A subtask drops one of its commits that hang.
    DropCommit(usize, usize),
    /// A subtask drops its oldest snapshot that is ready.
    DropPrepared(usize),
    /// The job aborts the oldest checkpoint that is not complete.
    Abort,
    /// The program compares all subtasks with the model.
    Check,
    /// Temporary backends restore one of the complete checkpoints.
    Verify { which: usize, parallelism: u32 },
    /// The job stops and continues from one of the complete checkpoints, at this parallelism.
    Restore { which: usize, parallelism: u32, clipped: bool },
    /// A sweep deletes the files that nothing needs.
    Sweep,
}

impl Step {
    pub(super) fn any(rng: &mut Rng) -> Self {
        let subtask = rng.usize(..4);
        match rng.u8(..100) {
            0..=2 => Self::Prepare(match rng.u8(..8) {
                0 => SnapshotKind::Full,
                1 | 2 => SnapshotKind::Savepoint,
                3 => SnapshotKind::View,
                _ => SnapshotKind::Incremental,
            }),
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
            25 | 26 => Self::CommitHangs(subtask, rng.usize(..4)),
            27 | 28 => Self::Release(subtask, rng.usize(..3)),
            29 if rng.bool() => Self::DropCommit(subtask, rng.usize(..3)),
            30 if rng.bool() => Self::DropPrepared(subtask),
            _ => Self::Do(subtask, Op::any(rng)),
        }
    }
}
