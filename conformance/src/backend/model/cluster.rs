//! All subtasks of one operator, their checkpoints, and the contents that each must hold.

use std::any::Any;
use std::collections::{BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use strandline_state_api::backend::{BackendFactory, SnapshotKind};
use strandline_state_api::snapshot::{KeyedSnapshot, SegmentName};
use strandline_state_api::{CheckpointId, ErrorKind, KeyGroupRange};

use super::step::Step;
use crate::Subject;
use crate::segments::{FaultySegments, StoreFault};
use crate::world::{Contents, Failure, InFlight, Op, Prepared, World, check_restored, group_of};

/// The number of complete checkpoints that the job retains, savepoints not counted.
const RETAINED: usize = 3;

/// The number of savepoints that exist before the oldest is deleted.
const SAVEPOINTS: usize = 2;

/// The maximum number of snapshots under way.
const IN_FLIGHT: usize = 3;

pub(super) struct Cluster<F: BackendFactory> {
    subject: Subject<F>,
    store: Arc<FaultySegments>,
    subtasks: Vec<Subtask<F>>,
    /// The complete checkpoints, newest last.
    complete: Vec<Complete>,
    /// The checkpoints that wait for subtasks, oldest first.
    pending: VecDeque<Pending>,
    last: CheckpointId,
    /// The term of the coordinator, which each restore raises.
    term: u64,
    /// The newest complete checkpoint of this term, savepoints not counted.
    completed: CheckpointId,
    /// The system clock, which no restore sets back.
    now: i64,
}

struct Subtask<F: BackendFactory> {
    world: World<F>,
    /// The checkpoints whose snapshots are not ready, oldest first.
    cuts: VecDeque<CheckpointId>,
    handed_over: VecDeque<(CheckpointId, Prepared<F>)>,
    /// The commits that hang, oldest first.
    in_flight: Vec<(CheckpointId, InFlight)>,
}

struct Pending {
    checkpoint: CheckpointId,
    kind: SnapshotKind,
    contents: Contents,
    snapshots: Vec<Option<KeyedSnapshot>>,
}

struct Complete {
    kind: SnapshotKind,
    contents: Contents,
    snapshots: Vec<KeyedSnapshot>,
}

impl<F: BackendFactory> Cluster<F> {
    /// Runs a program; a panic of the backend is a failure, too.
    pub(super) fn run(subject: &Subject<F>, program: &[Step]) -> Result<(), Failure> {
        let all = AssertUnwindSafe(|| {
            let mut cluster = Self::start(subject)?;
            for step in program {
                cluster.step(step).map_err(|Failure(why)| Failure(format!("at {step:?}:\n   {why}")))?;
            }
            cluster.finish()
        });
        catch_unwind(all).unwrap_or_else(|panic| Err(Failure(format!("a panic: {}", message(&*panic)))))
    }

    fn start(subject: &Subject<F>) -> Result<Self, Failure> {
        let (store, complete, pending) = (Arc::default(), Vec::new(), VecDeque::new());
        let (subject, subtasks, last) = (subject.clone(), Vec::new(), CheckpointId(0));
        let (term, completed) = (0, last);
        let mut cluster = Self { subject, store, subtasks, complete, pending, last, term, completed, now: 0 };
        cluster.restore(&[], &Contents::default(), 1, false)?;
        Ok(cluster)
    }

    fn step(&mut self, step: &Step) -> Result<(), Failure> {
        match step {
            Step::Do(subtask, op) => self.apply(*subtask, op),
            Step::Prepare(kind) => self.prepare(*kind),
            Step::Advance(subtask, budget) => self.advance(*subtask, *budget),
            Step::Commit(subtask) => self.commit(*subtask),
            Step::CommitFails(subtask, after, fault) => self.commit_fails(*subtask, *after, *fault),
            Step::CommitHangs(subtask, operations) => self.commit_hangs(*subtask, *operations),
            Step::Release(subtask, which) => self.release(*subtask, *which),
            Step::DropCommit(subtask, which) => {
                let number = subtask % self.subtasks.len();
                let in_flight = &mut self.subtasks[number].in_flight;
                if !in_flight.is_empty() {
                    let (checkpoint, _) = in_flight.remove(which % in_flight.len());
                    self.pending.retain(|pending| pending.checkpoint != checkpoint);
                }
                Ok(())
            }
            Step::DropPrepared(subtask) => {
                let number = subtask % self.subtasks.len();
                if let Some((checkpoint, _)) = self.subtasks[number].handed_over.pop_front() {
                    self.pending.retain(|pending| pending.checkpoint != checkpoint);
                }
                Ok(())
            }
            Step::Abort => {
                self.pending.pop_front();
                Ok(())
            }
            Step::Check => self.subtasks.iter_mut().try_for_each(|subtask| subtask.world.check()),
            Step::Verify { which, parallelism } => self.verify(*which, *parallelism),
            Step::Restore { which, parallelism, clipped } => {
                // Without a complete checkpoint this step has no effect.
                let Some(from) = self.complete.len().checked_sub(1 + which % RETAINED) else { return Ok(()) };
                self.complete.truncate(from + 1);
                let Complete { kind, contents, snapshots } = self.complete.remove(from);
                self.restore(&snapshots, &contents, *parallelism, *clipped)?;
                self.complete.push(Complete { kind, contents, snapshots });
                Ok(())
            }
            Step::Sweep => {
                self.sweep();
                Ok(())
            }
        }
    }

    fn apply(&mut self, subtask: usize, op: &Op) -> Result<(), Failure> {
        if let Op::Tick(_, processing) = op {
            self.now += processing;
            return self.subtasks.iter_mut().try_for_each(|subtask| subtask.world.apply(op));
        }
        let owner = match op.key() {
            Some(key) => self.subtasks.iter().position(|s| s.world.range.contains(group_of(key))),
            None => Some(subtask % self.subtasks.len()),
        };
        let owner = owner.ok_or_else(|| Failure(format!("no subtask owns {op:?}")))?;
        self.subtasks[owner].world.apply(op)
    }

    fn prepare(&mut self, kind: SnapshotKind) -> Result<(), Failure> {
        let limit = if self.subject.capabilities().several_in_flight { IN_FLIGHT } else { 1 };
        if self.subtasks.iter().any(|s| s.cuts.len() + s.handed_over.len() + s.in_flight.len() >= limit) {
            return Ok(());
        }
        self.last = self.last.next();
        let mut contents = Contents::default();
        for subtask in &mut self.subtasks {
            contents = contents.union(subtask.world.prepare(kind)?);
            subtask.cuts.push_back(self.last);
        }
        let snapshots = vec![None; self.subtasks.len()];
        self.pending.push_back(Pending { checkpoint: self.last, kind, contents, snapshots });
        Ok(())
    }

    fn advance(&mut self, subtask: usize, budget: usize) -> Result<(), Failure> {
        let subtask = subtask % self.subtasks.len();
        let Subtask { world, cuts, handed_over, .. } = &mut self.subtasks[subtask];
        let Some(oldest) = cuts.front().copied() else { return Ok(()) };
        if let Some(prepared) = world.advance(oldest, budget)? {
            cuts.pop_front();
            handed_over.push_back((oldest, prepared));
        }
        Ok(())
    }

    fn commit(&mut self, subtask: usize) -> Result<(), Failure> {
        let number = subtask % self.subtasks.len();
        let subtask = &mut self.subtasks[number];
        let Some((checkpoint, prepared)) = subtask.handed_over.pop_front() else { return Ok(()) };
        self.store.write_for(self.term, checkpoint);
        let snapshot = subtask.world.commit(prepared)?;
        self.acknowledge(number, checkpoint, snapshot)
    }

    fn commit_hangs(&mut self, subtask: usize, operations: usize) -> Result<(), Failure> {
        let number = subtask % self.subtasks.len();
        let subtask = &mut self.subtasks[number];
        let Some((checkpoint, prepared)) = subtask.handed_over.pop_front() else { return Ok(()) };
        let gate = self.store.gate(self.term, checkpoint, operations);
        let mut commit = subtask.world.start_commit(prepared, gate);
        match commit.poll() {
            Some(snapshot) => self.acknowledge(number, checkpoint, snapshot?),
            None => {
                subtask.in_flight.push((checkpoint, commit));
                Ok(())
            }
        }
    }

    fn release(&mut self, subtask: usize, which: usize) -> Result<(), Failure> {
        let number = subtask % self.subtasks.len();
        let in_flight = &mut self.subtasks[number].in_flight;
        if in_flight.is_empty() {
            return Ok(());
        }
        let (checkpoint, commit) = in_flight.remove(which % in_flight.len());
        match commit.finish() {
            Ok(snapshot) => self.acknowledge(number, checkpoint, snapshot),
            // Once a newer checkpoint is complete, a sweep deletes what this one may have to read.
            Err(error) if self.pending.iter().any(|p| p.checkpoint == checkpoint) => Err(error.into()),
            Err(_) => Ok(()),
        }
    }

    fn acknowledge(
        &mut self,
        number: usize,
        checkpoint: CheckpointId,
        snapshot: KeyedSnapshot,
    ) -> Result<(), Failure> {
        if let Some(pending) = self.pending.iter_mut().find(|p| p.checkpoint == checkpoint) {
            pending.snapshots[number] = Some(snapshot);
        }
        self.read_views()?;
        self.complete_what_is();
        Ok(())
    }

    /// Reads the views that are whole. They complete no checkpoint, and abort none.
    fn read_views(&mut self) -> Result<(), Failure> {
        let is_whole = |p: &Pending| p.kind == SnapshotKind::View && p.snapshots.iter().all(Option::is_some);
        while let Some(at) = self.pending.iter().position(is_whole) {
            let Some(Pending { contents, snapshots, .. }) = self.pending.remove(at) else { break };
            let snapshots: Vec<_> = snapshots.into_iter().flatten().collect();
            let contents = &contents.at(self.now);
            check_restored(&self.subject, &self.store, KeyGroupRange::ALL, &snapshots, contents)?;
        }
        Ok(())
    }

    fn commit_fails(&mut self, subtask: usize, after: usize, fault: StoreFault) -> Result<(), Failure> {
        let number = subtask % self.subtasks.len();
        let subtask = &mut self.subtasks[number];
        let Some((checkpoint, prepared)) = subtask.handed_over.pop_front() else { return Ok(()) };
        self.store.write_for(self.term, checkpoint);
        self.store.fail(after, usize::MAX, fault);
        let committed = subtask.world.commit(prepared);
        self.store.heal();
        // The commit succeeds if it needs fewer puts than the store still accepts.
        match committed {
            Err(error) if error.kind() != ErrorKind::Unavailable => return Err(error.into()),
            _ => {}
        }
        // The job aborts the checkpoint in both cases: the answer of a commit may be lost, too.
        self.pending.retain(|pending| pending.checkpoint != checkpoint);
        Ok(())
    }

    /// Completes the newest checkpoint that has the snapshots of all subtasks, and aborts older ones.
    fn complete_what_is(&mut self) {
        let Some(done) = self.pending.iter().rposition(|p| p.snapshots.iter().all(Option::is_some)) else {
            return;
        };
        if let Some(Pending { checkpoint, kind, contents, snapshots }) =
            self.pending.drain(..=done).next_back()
        {
            let snapshots = snapshots.into_iter().flatten().collect();
            self.complete.push(Complete { kind, contents, snapshots });
            if kind == SnapshotKind::Savepoint {
                return;
            }
            self.completed = checkpoint;
        }
        self.delete_oldest(RETAINED, |kind| kind != SnapshotKind::Savepoint);
        // Only here, as the job may have been restored from that savepoint.
        self.delete_oldest(SAVEPOINTS, |kind| kind == SnapshotKind::Savepoint);
    }

    /// Deletes the oldest of those complete checkpoints that `counts` accepts, if there are more than `most`.
    fn delete_oldest(&mut self, most: usize, counts: impl Fn(SnapshotKind) -> bool) {
        let counted: Vec<usize> =
            (0..self.complete.len()).filter(|index| counts(self.complete[*index].kind)).collect();
        if counted.len() > most {
            self.complete.remove(counted[0]);
        }
    }

    fn verify(&mut self, which: usize, parallelism: u32) -> Result<(), Failure> {
        let Some(index) = self.complete.len().checked_sub(1 + which % RETAINED) else { return Ok(()) };
        let Complete { contents, snapshots, .. } = &self.complete[index];
        let contents = &contents.clone().at(self.now);
        for subtask in 0..parallelism {
            let range = KeyGroupRange::of_subtask(subtask, parallelism);
            check_restored(&self.subject, &self.store, range, snapshots, contents)?;
        }
        Ok(())
    }

    fn restore(
        &mut self,
        snapshots: &[KeyedSnapshot],
        contents: &Contents,
        parallelism: u32,
        clipped: bool,
    ) -> Result<(), Failure> {
        self.subtasks.clear();
        self.pending.clear();
        self.term += 1;
        self.completed = CheckpointId(0);
        let contents = &contents.clone().at(self.now);
        for number in 0..parallelism {
            let range = KeyGroupRange::of_subtask(number, parallelism);
            let clip =
                |snapshot: &KeyedSnapshot| if clipped { snapshot.clip(range) } else { snapshot.clone() };
            let given: Vec<_> = snapshots.iter().map(clip).collect();
            let store = Arc::clone(&self.store);
            let (world, _) = World::restored(&self.subject, range, store, &given, contents, self.last)?;
            let (cuts, handed_over, in_flight) = (VecDeque::new(), VecDeque::new(), Vec::new());
            self.subtasks.push(Subtask { world, cuts, handed_over, in_flight });
        }
        Ok(())
    }

    /// Deletes what a sweep of a storage would delete. A backend may rely on this: until one of its snapshots
    /// is part of a complete checkpoint, no sweep deletes a file that was written after the checkpoint
    /// before. Then files that the snapshot does not name may be deleted. A savepoint changes nothing. What a
    /// view names stays until it was read.
    fn sweep(&mut self) {
        let viewed = self.pending.iter().filter(|pending| pending.kind == SnapshotKind::View);
        let viewed = viewed.flat_map(|view| view.snapshots.iter().flatten());
        let snapshots = self.complete.iter().flat_map(|complete| &complete.snapshots).chain(viewed);
        let parts = snapshots.flat_map(|snapshot| &snapshot.parts);
        let marked: BTreeSet<SegmentName> = parts.map(|part| part.segment.name.clone()).collect();
        self.store.sweep(self.term, self.completed, &marked);
    }

    /// Finishes all snapshots under way, and verifies the newest checkpoint.
    fn finish(&mut self) -> Result<(), Failure> {
        for number in 0..self.subtasks.len() {
            while !self.subtasks[number].cuts.is_empty() {
                self.advance(number, usize::MAX)?;
            }
            while !self.subtasks[number].handed_over.is_empty() {
                self.commit(number)?;
            }
            while !self.subtasks[number].in_flight.is_empty() {
                self.release(number, 0)?;
            }
            self.subtasks[number].world.check()?;
        }
        self.verify(0, 1)?;
        self.verify(0, 3)
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a message".into())
}
