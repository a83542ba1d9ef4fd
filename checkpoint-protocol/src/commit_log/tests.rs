mod branches;
mod client;
mod fold;
mod restating;
mod simulation;

use std::collections::BTreeMap;

use strandline_state_api::CheckpointId;

use super::*;
use crate::{Action, CheckpointKind, CommitRight, Coordinator, Millis, Policy, TaskId};

/// The right to commit `checkpoint`, the only way there is: a coordinator whose only task acknowledges.
fn right(checkpoint: u64) -> CommitRight {
    right_of(checkpoint, CheckpointKind::Api)
}

fn right_of(checkpoint: u64, kind: CheckpointKind) -> CommitRight {
    let (now, task) = (Millis(0), TaskId::new(0, 0));
    let mut coordinator = Coordinator::new(Policy::default(), CheckpointId(checkpoint));
    coordinator.start(now, [task]);
    coordinator.request(now, kind);
    let (_, actions) = coordinator.ack(now, task, CheckpointId(checkpoint), ());
    match actions.into_iter().next() {
        Some(Action::Commit(permit)) => permit.into_parts().0,
        other => panic!("no permit but {other:?}"),
    }
}

fn manifest(checkpoint: u64) -> ManifestRef {
    ManifestRef { name: format!("manifest-{checkpoint}"), len: 1, hash: "00".into() }
}

fn term_entry(slot: u64, floor: u64, term: u64) -> LogEntry {
    let kind = EntryKind::Term { term: Term(term), holder: "test".into(), restated: None };
    LogEntry { slot, floor, oldest: floor, token: Token(u128::from(slot) + 1_000), kind }
}

fn checkpoint_entry(slot: u64, floor: u64, term: u64, checkpoint: u64) -> LogEntry {
    let kind = EntryKind::Checkpoint {
        term: Term(term),
        checkpoint: CheckpointId(checkpoint),
        manifest: manifest(checkpoint),
        kind: CheckpointKind::Periodic,
        branch: Branch::default(),
        late: false,
        open_savepoint: None,
    };
    LogEntry { slot, floor, oldest: floor, token: Token(u128::from(slot) + 1_000), kind }
}

fn ids(completed: &[CompletedEntry]) -> Vec<u64> {
    completed.iter().map(|entry| entry.checkpoint.0).collect()
}
