//! The output of the job: what a two-phase sink writes, recovers and cleans up, one operation at a time, so
//! that its process may sleep before each.

use std::collections::{BTreeMap, VecDeque};

use strandline_checkpoint_protocol::{CommitResult, CompletedEntry, DeadOutputs, LogEntry, LogView, Term};
use strandline_state_api::CheckpointId;

use crate::check;
use crate::step::NOW;
use crate::world::{Node, SOURCES, World};

/// The name of a file of results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct File {
    pub(crate) term: Term,
    pub(crate) checkpoint: CheckpointId,
}

/// Which records of each source a file holds: from, to.
pub(crate) type Content = [(u8, u8); SOURCES];

/// What lies in the directory of results. A commit renames: a file is at one of both places.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Output {
    pub(crate) hidden: BTreeMap<File, Content>,
    pub(crate) visible: BTreeMap<File, Content>,
}

/// By which rule a recovery cleans up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Rule {
    /// There is no sink.
    None,
    /// What the log shows to be dead.
    Dead,
    /// Everything that the restored checkpoint does not name and that is above it: the rule before, which
    /// looks at no term.
    Above,
    /// As `Dead`, but what a fallback passes over goes at once, and not with the first commit.
    Early,
    /// As `Dead`, but what is visible is swept before what is hidden, so that a file which is renamed
    /// meanwhile is in neither sweep.
    Backwards,
    /// As `Dead`, but a fallback takes the next older checkpoint, also one that was given up.
    AnyPast,
}

/// What a process does to the output next.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Operation {
    Sweep {
        hidden: bool,
        what: What,
    },
    Remove {
        hidden: bool,
        file: File,
    },
    Commit(File),
    /// The output is ready for what the checkpoint commits: everybody is notified.
    Notify(CheckpointId),
}

/// What a sweep takes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum What {
    Dead(DeadOutputs),
    Above { restored: Option<CheckpointId>, named: Vec<File> },
}

impl What {
    fn takes(&self, hidden: bool, file: File) -> bool {
        match self {
            Self::Dead(dead) if hidden => dead.is_pre_committed_dead(file.term),
            Self::Dead(dead) => dead.is_committed_dead(file.term, file.checkpoint),
            Self::Above { named, .. } if named.contains(&file) => false,
            Self::Above { restored, .. } => hidden || Some(file.checkpoint) > *restored,
        }
    }

    /// Hidden files first: one that is renamed meanwhile is found among the visible ones then.
    fn sweeps(&self, rule: Rule) -> [Operation; 2] {
        let order = [rule != Rule::Backwards, rule == Rule::Backwards];
        order.map(|hidden| Operation::Sweep { hidden, what: self.clone() })
    }
}

/// The files that a set of checkpoints stands for.
pub(crate) fn files(term: Term, pending: u128) -> impl Iterator<Item = File> {
    let of = move |n: u64| File { term, checkpoint: CheckpointId(n) };
    (0..128).filter(move |n| pending & (1 << n) != 0).map(of)
}

/// The checkpoint of an entry, by itself.
fn completed(entry: &LogEntry) -> Option<CompletedEntry> {
    let mut view = LogView::starting_at(entry.slot);
    view.apply(entry);
    view.newest().cloned().filter(|newest| newest.slot == entry.slot)
}

impl World {
    /// The checkpoints from which a coordinator may resume, the newest first: those on its branch.
    pub(crate) fn candidates(&self, node: usize) -> Vec<CompletedEntry> {
        let Node::Running(job) = &self.nodes[node] else { return Vec::new() };
        match job.rule {
            Rule::AnyPast => {
                let oldest = job.client.view().oldest();
                let all = self.truth.range(oldest..).map(|(_, entry)| entry);
                let mut all: Vec<_> =
                    all.filter(|entry| entry.term() < job.term).filter_map(completed).collect();
                all.reverse();
                all
            }
            _ => job.client.view().branch().into_iter().cloned().collect(),
        }
    }

    /// The coordinator has chosen the checkpoint to resume from, and plans the recovery of the sink.
    pub(crate) fn resume(&mut self, node: usize, nth: usize, rule: Rule) {
        let from = self.candidates(node).get(nth).cloned();
        let cut = from.as_ref().and_then(|from| self.manifests.get(&from.manifest.name)).cloned();
        let Node::Running(job) = &mut self.nodes[node] else { return };
        let has_given_up = |newest: &CompletedEntry| !newest.branch.is_whole();
        self.seen.fell_back_twice |= nth > 0 && job.client.view().newest().is_some_and(has_given_up);
        job.client.resume(from.as_ref().map(|from| (from.checkpoint, &from.branch)));
        let named: Vec<_> = cut.iter().flat_map(|cut| files(cut.term, cut.pending)).collect();
        let commits = named.iter().map(|file| Operation::Commit(*file));
        job.operations = match (rule, &cut) {
            (Rule::None, _) => VecDeque::new(),
            (Rule::Above, cut) => {
                let restored = cut.as_ref().map(|cut| cut.checkpoint);
                commits.chain(What::Above { restored, named: named.clone() }.sweeps(rule)).collect()
            }
            (Rule::Dead | Rule::Backwards | Rule::AnyPast, cut) => {
                let terms = job.client.completed().iter().map(|done| done.term);
                let restored = cut.as_ref().map(|cut| (cut.term, cut.restored));
                let dead = DeadOutputs::at_start(job.term, restored, Some(terms));
                let known = job.client.completed().iter();
                let dead = dead.given_up_by(known.map(|done| (done.term, &done.branch)));
                What::Dead(dead).sweeps(rule).into_iter().chain(commits).collect()
            }
            (Rule::Early, cut) => {
                let dead = DeadOutputs::after_commit(job.term, cut.as_ref().map(|cut| cut.checkpoint));
                commits.chain(What::Dead(dead).sweeps(rule)).collect()
            }
        };
        job.from = cut.map(|cut| cut.checkpoint);
        job.parent = from.map(|from| from.manifest.name);
        job.resumed = true;
        if job.operations.is_empty() {
            self.redeploy(node);
        }
    }

    /// `checkpoint` is in the log: what has to happen to the output before anybody is notified.
    pub(crate) fn before_notifying(&mut self, node: usize, checkpoint: CheckpointId, rule: Rule) {
        let Node::Running(job) = &mut self.nodes[node] else { return };
        if matches!(rule, Rule::Dead | Rule::Backwards | Rule::AnyPast) && !job.swept {
            let dead = DeadOutputs::after_commit(job.term, job.from);
            job.operations.extend(What::Dead(dead).sweeps(rule));
        }
        job.swept = true;
        job.operations.push_back(Operation::Notify(checkpoint));
        if let [Operation::Notify(_)] = job.operations.make_contiguous() {
            self.operate(node);
        }
    }

    /// The next operation on the output happens.
    pub(crate) fn operate(&mut self, node: usize) {
        let Node::Running(job) = &mut self.nodes[node] else { return };
        let Some(operation) = job.operations.pop_front() else { return };
        let output = &mut self.output;
        match operation {
            Operation::Sweep { hidden, what } => {
                let place = if hidden { &output.hidden } else { &output.visible };
                let found: Vec<_> = place.keys().copied().filter(|file| what.takes(hidden, *file)).collect();
                for file in found.into_iter().rev() {
                    job.operations.push_front(Operation::Remove { hidden, file });
                }
            }
            Operation::Remove { hidden, file } => {
                let place = if hidden { &mut output.hidden } else { &mut output.visible };
                self.seen.swept |= place.remove(&file).is_some();
            }
            Operation::Commit(file) => {
                if let Some(content) = output.hidden.remove(&file) {
                    output.visible.insert(file, content);
                }
                if output.visible.contains_key(&file) {
                    if let Some(tasks) = job.tasks.as_mut().filter(|_| job.term == file.term) {
                        tasks.sink.pending &= !(1 << file.checkpoint.0);
                    }
                } else {
                    // The process ends with an error, as it must when its successor has gone another way.
                    let newest = self.truth.values().next_back();
                    if newest.is_none_or(|newest| newest.term() <= job.term) {
                        self.broken = Some("a file that a checkpoint names is lost");
                    }
                    self.seen.stale_sink = true;
                    self.nodes[node] = Node::Off;
                    return;
                }
            }
            Operation::Notify(checkpoint) => {
                return self.with(node, |job| {
                    job.coordinator.commit_result(NOW, checkpoint, CommitResult::Committed)
                });
            }
        }
        let Node::Running(job) = &self.nodes[node] else { return };
        if job.operations.is_empty() && job.tasks.is_none() && job.resumed {
            self.redeploy(node);
        }
    }

    /// The records that must be in the output, file by file: those of the newest checkpoint, of what it was
    /// restored from, and so on. False unless each of them is there, visible or named by that checkpoint.
    pub(crate) fn output_is_whole(&self) -> bool {
        let log = check::whole_log(self);
        let Some(newest) = log.newest() else { return true };
        let Some(newest) = self.manifests.get(&newest.manifest.name) else { return false };
        let Some(received) = newest.received else { return true };
        let committable: Vec<_> = files(newest.term, newest.pending).collect();
        let mut covered = [0; SOURCES];
        let mut life = Some(newest);
        while let Some(cut) = life {
            let range = File { term: cut.term, checkpoint: CheckpointId(0) }..=File {
                term: cut.term,
                checkpoint: cut.checkpoint,
            };
            let hidden =
                self.output.hidden.range(range.clone()).filter(|(file, _)| committable.contains(file));
            for (_, content) in self.output.visible.range(range).chain(hidden) {
                (0..SOURCES).for_each(|source| covered[source] += content[source].1 - content[source].0);
            }
            life = cut.parent.as_ref().and_then(|parent| self.manifests.get(parent));
        }
        covered == received
    }

    /// Whether no record is visible twice.
    pub(crate) fn output_is_exact(&self) -> bool {
        (0..SOURCES).all(|source| {
            let mut ranges: Vec<_> =
                self.output.visible.values().map(|content| content[source]).filter(|(a, b)| a < b).collect();
            ranges.sort_unstable();
            ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0)
        })
    }
}
