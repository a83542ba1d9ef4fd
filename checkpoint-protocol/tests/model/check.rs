//! What must hold, and how it is found out.

use strandline_checkpoint_protocol::{Applied, CompletedEntry, EntryKind, LogEntry, LogView, Term};
use strandline_state_api::CheckpointId;

use crate::step::Step;
use crate::world::{Budget, Node, SOURCES, Tasks, World};
use crate::{Limits, enabled};

/// Whether the log shows that `checkpoint` was completed in `term`.
pub(crate) fn is_completed(world: &World, term: Term, checkpoint: CheckpointId) -> bool {
    world.truth.values().any(|entry| {
        matches!(entry.kind, EntryKind::Checkpoint { term: t, checkpoint: c, .. } if (t, c) == (term, checkpoint))
    })
}

/// The log as it was created, without deletions.
pub(crate) fn whole_log(world: &World) -> LogView {
    let mut view = LogView::default();
    for entry in world.truth.values() {
        view.apply(entry);
    }
    view
}

/// The completed checkpoints that the log held when `term` was claimed, whatever was deleted since.
pub(crate) fn completed_before(world: &World, term: Term) -> Vec<CompletedEntry> {
    let is_claim =
        |entry: &&LogEntry| matches!(entry.kind, EntryKind::Term { term: claimed, .. } if claimed == term);
    let Some(claim) = world.truth.values().find(is_claim) else { return Vec::new() };
    let mut view = LogView::default();
    for (_, entry) in world.truth.range(..=claim.slot) {
        view.apply(entry);
    }
    view.completed().to_vec()
}

/// The log has no gaps, terms never fall, ids rise but for late savepoints: no checkpoint has two entries,
/// and no coordinator committed after a higher term.
pub(crate) fn log_is_in_order(world: &World) -> bool {
    let mut view = LogView::default();
    (0..)
        .zip(world.truth.values())
        .all(|(slot, entry)| entry.slot == slot && !matches!(view.apply(entry), Applied::Void(_)))
}

/// In every completed checkpoint, the sink has received on each channel what the source had emitted, but for
/// what the barrier has overtaken, which is part of the checkpoint.
pub(crate) fn cuts_are_consistent(world: &World, limits: &Limits) -> bool {
    world.truth.values().all(|entry| {
        let EntryKind::Checkpoint { manifest, .. } = &entry.kind else { return true };
        let Some(cut) = world.manifests.get(&manifest.name) else { return false };
        let emitted = cut.emitted.map(|emitted| emitted.unwrap_or(limits.records));
        let received = cut.received.unwrap_or([limits.records; SOURCES]);
        (0..SOURCES).all(|source| emitted[source] == received[source] + cut.overtaken[source])
    })
}

/// What a job resumes from is ahead of all that it may fall back to, whatever came late.
pub(crate) fn newest_is_ahead(world: &World) -> bool {
    let view = whole_log(world);
    let received = |entry: &&CompletedEntry| {
        let cut = world.manifests.get(&entry.manifest.name)?;
        Some(cut.received.unwrap_or([u8::MAX; SOURCES]))
    };
    let branch: Vec<_> = view.branch().iter().map(received).collect();
    branch.windows(2).all(|pair| match pair {
        [Some(newer), Some(older)] => (0..SOURCES).all(|source| newer[source] >= older[source]),
        _ => false,
    })
}

/// Checkpoints that all have acknowledged wait for a commit, and for nothing else.
pub(crate) fn nobody_waits(world: &World) -> bool {
    world.nodes.iter().all(|node| match node {
        Node::Running(job) if job.coordinator.commit_in_flight().is_none() => {
            let mut pending = job.coordinator.pending();
            pending.all(|checkpoint| job.coordinator.missing(checkpoint).next().is_some())
        }
        _ => true,
    })
}

/// Starts that complete nothing do not make the log longer.
pub(crate) fn claims_are_few(world: &World) -> bool {
    let Some(tail) = world.truth.values().next_back() else { return true };
    let counts = world.truth.range(tail.floor..).map(|(_, entry)| &entry.kind);
    let checkpoints = whole_log(world).completed().len();
    let claims = counts.filter(|kind| matches!(kind, EntryKind::Term { .. })).count();
    claims <= 3 + 2 * checkpoints
}

/// A checkpoint that was reported as aborted stays out of the log: a sink may have rolled back what it held
/// for it.
pub(crate) fn aborted_stay_aborted(world: &World) -> bool {
    world.told_aborted.iter().all(|(term, checkpoint)| !is_completed(world, *term, *checkpoint))
}

/// No two coordinators that run hold the same term.
pub(crate) fn terms_are_unique(world: &World) -> bool {
    match &world.nodes {
        [Node::Running(one), Node::Running(other)] => one.term != other.term,
        _ => true,
    }
}

/// Whether progress is possible again: left without further faults, the world completes another checkpoint,
/// or the tasks come to the end of their input.
pub(crate) fn recovers(world: &World, limits: &Limits) -> bool {
    let mut world = world.clone();
    // What a calm world needs and has: coordinators that start, requests, timeouts.
    world.left = Budget { starts: 2, requests: 200, expiries: 200, ..Budget::default() };
    let before = world.truth.len();
    for _ in 0..1_000 {
        let newest = world.truth.values().next_back();
        let completed = newest.is_some_and(|entry| matches!(entry.kind, EntryKind::Checkpoint { .. }));
        if (completed && world.truth.len() > before) || has_ended(&world) {
            return true;
        }
        let mut steps = Vec::new();
        enabled(&world, limits, &mut steps);
        steps.sort_by_key(urgency);
        let next = steps.into_iter().find_map(|step| {
            let mut next = world.clone();
            next.step(step, limits).then_some(next)
        });
        match next {
            Some(next) => world = next,
            None => return false,
        }
    }
    false
}

fn has_ended(world: &World) -> bool {
    let ended = |tasks: &Tasks| tasks.running().is_empty();
    world.nodes.iter().any(|node| matches!(node, Node::Running(job) if job.tasks.as_ref().is_some_and(ended)))
}

/// The order in which a calm world does things: what is under way first; then new work; when nothing else is
/// left, time passes.
fn urgency(step: &Step) -> u8 {
    match step {
        Step::Answer(_) | Step::Commit(_) | Step::Arrive(_) | Step::Redeploy(_) => 0,
        Step::Operate(_) | Step::Resume(_, 0) => 0,
        Step::Deliver { .. } => 1,
        Step::Notice(_) | Step::Read(..) => 2,
        Step::Request(..) => 3,
        Step::Start(_) => 4,
        Step::Expire(_) => 5,
        _ => 6,
    }
}
