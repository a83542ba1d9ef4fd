//! All that can happen next, and what it does.

use strandline_checkpoint_protocol::{
    AckOutcome, Action, Anchor, CheckpointKind, CommitParts, CommitPermit, CommitResult, Coordinator,
    CreateResult, DeclineReason, LogClient, LogEntry, LogOutcome, LogStep, ManifestRef, Millis, Policy,
    Token,
};
use strandline_state_api::CheckpointId;

use crate::check;
use crate::outputs::{Content, File, Operation, Rule, files};
use crate::world::{Claim, Cut, Job, Mail, Node, SOURCES, Snap, Tasks, World, sink_id, source_id};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Start(usize),
    Crash(usize),
    FailTask(usize),
    Redeploy(usize),
    /// A coordinator resumes from the newest checkpoint, or from the nth before it that the rule permits.
    Resume(usize, usize),
    /// The next operation on the output happens.
    Operate(usize),
    Request(usize, CheckpointKind),
    Expire(usize),
    /// The manifest is written.
    Commit(usize),
    FailManifest(usize),
    /// The store answers.
    Answer(usize),
    /// The answer to a create is lost.
    Lost(usize, Fate),
    /// A delayed create reaches the store.
    Arrive(usize),
    Delete(u64),
    /// A message arrives at a node; it may arrive again if `again`.
    Deliver {
        node: usize,
        mail: Mail,
        again: bool,
    },
    Lose(Mail),
    /// A source cannot take the snapshot that a trigger asks for.
    Decline(usize, Mail),
    Emit(usize, usize),
    End(usize, usize),
    /// The sink notices what has arrived on its channels.
    Notice(usize),
    /// An alignment of the sink is overdue.
    Overdue(usize),
    Read(usize, usize),
}

/// What became of a create whose answer is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Happened,
    Delayed,
    Dropped,
}

pub(crate) const NOW: Millis = Millis(0);

impl World {
    /// Does `step`, and what happens by itself after it within the limits; false when nothing changes.
    pub(crate) fn step(&mut self, step: Step, limits: &crate::Limits) -> bool {
        if !self.act(step, limits) {
            return false;
        }
        for node in 0..self.nodes.len() {
            if limits.calm_tasks {
                self.run_tasks(node);
            }
            for round in 0.. {
                if !limits.calm_log || !self.has_question(node) {
                    break;
                }
                self.answer(node, None, limits);
                if round == 100 {
                    self.broken = Some("questions to the log without end");
                    break;
                }
            }
        }
        true
    }

    fn act(&mut self, step: Step, limits: &crate::Limits) -> bool {
        match step {
            Step::Start(node) => {
                self.left.starts -= 1;
                self.lives += 1;
                let mut client = LogClient::new(format!("life {}", self.lives));
                let question = client.claim(Token(u128::from(self.lives) << 8));
                self.nodes[node] = Node::Starting(Box::new(Claim { client, question }));
            }
            Step::Crash(node) => {
                self.left.crashes -= 1;
                self.nodes[node] = Node::Off;
            }
            Step::FailTask(node) => {
                self.left.task_failures -= 1;
                self.with(node, |job| {
                    job.tasks = None;
                    job.coordinator.suspend(NOW)
                });
            }
            Step::Redeploy(node) => self.redeploy(node),
            Step::Resume(node, nth) => {
                self.left.fallbacks -= u8::from(nth > 0);
                self.resume(node, nth, limits.rule);
            }
            Step::Operate(node) => self.operate(node),
            Step::Request(node, kind) => {
                self.left.requests -= 1;
                self.left.savepoints -= u8::from(kind == CheckpointKind::Savepoint);
                if limits.calm_tasks {
                    self.tasks(node, |tasks| {
                        tasks.emit(usize::from(tasks.sources[0].emitted > tasks.sources[1].emitted));
                        Vec::new()
                    });
                }
                self.with(node, |job| job.coordinator.request(NOW, kind).1);
            }
            Step::Expire(node) => {
                self.left.expiries -= 1;
                self.with(node, |job| job.coordinator.tick(Millis(u64::MAX)));
            }
            Step::Commit(node) => self.commit(node),
            Step::FailManifest(node) => {
                self.left.failed_manifests -= 1;
                self.with(node, |job| {
                    let permit = job.permit.take();
                    let checkpoint = permit.map(|permit| permit.checkpoint());
                    checkpoint.map_or_else(Vec::new, |checkpoint| {
                        job.coordinator.commit_result(NOW, checkpoint, CommitResult::Failed)
                    })
                });
            }
            Step::Answer(node) => self.answer(node, None, limits),
            Step::Lost(node, fate) => {
                self.left.lost_answers -= 1;
                self.answer(node, Some(fate), limits);
            }
            Step::Arrive(nth) => {
                let entry = self.delayed.remove(nth);
                self.create(&entry);
            }
            Step::Delete(slot) => {
                self.left.deletions -= 1;
                self.is_cut |= slot == 0;
                self.store.remove(&slot);
            }
            Step::Deliver { node, mail, again } => return self.deliver(node, mail, again),
            Step::Decline(node, mail) => {
                self.left.declines -= 1;
                self.mail.remove(&mail);
                let Mail::Trigger(task, checkpoint) = mail else { return false };
                self.tasks(node, |tasks| {
                    let ack = tasks.source(task).and_then(|source| tasks.trigger(source, checkpoint));
                    let decline = Mail::Decline { task, checkpoint, is_superseded: false };
                    ack.map(|_| decline).into_iter().collect()
                });
            }
            Step::Lose(mail) => {
                self.left.losses -= 1;
                self.mail.remove(&mail);
            }
            Step::Emit(node, source) => self.tasks(node, |tasks| {
                tasks.emit(source);
                Vec::new()
            }),
            Step::End(node, source) => self.tasks(node, |tasks| vec![tasks.end(source)]),
            Step::Notice(node) => self.sink_acts(node, Tasks::notice),
            Step::Overdue(node) => {
                self.left.overdue -= 1;
                self.sink_acts(node, Tasks::overdue);
            }
            Step::Read(node, channel) => self.sink_acts(node, |tasks, file| tasks.read(channel, file)),
        }
        true
    }

    fn has_question(&self, node: usize) -> bool {
        match &self.nodes[node] {
            Node::Off => false,
            Node::Starting(_) => true,
            Node::Running(job) => job.question.is_some(),
        }
    }

    /// All messages of a node's own tasks arrive, and the sink reads all that it can.
    fn run_tasks(&mut self, node: usize) {
        loop {
            let Node::Running(job) = &self.nodes[node] else { return };
            let own = self.mail.iter().find(|mail| mail.task().attempt == job.attempt).copied();
            let readable = |channel: &usize| job.tasks.as_ref().is_some_and(|tasks| tasks.can_read(*channel));
            match (own, (0..SOURCES).find(readable)) {
                (Some(mail), _) => drop(self.deliver(node, mail, false)),
                (None, Some(channel)) => self.sink_acts(node, |tasks, file| tasks.read(channel, file)),
                (None, None) => return,
            }
        }
    }

    /// Lets the sink act, which may close a file.
    fn sink_acts(
        &mut self,
        node: usize,
        act: impl FnOnce(&mut Tasks, &mut Option<(CheckpointId, Content)>) -> Vec<Mail>,
    ) {
        let mut file = None;
        self.tasks(node, |tasks| act(tasks, &mut file));
        if let (Node::Running(job), Some((checkpoint, content))) = (&self.nodes[node], file) {
            self.output.hidden.insert(File { term: job.term, checkpoint }, content);
        }
    }

    fn tasks(&mut self, node: usize, act: impl FnOnce(&mut Tasks) -> Vec<Mail>) {
        if let Node::Running(job) = &mut self.nodes[node]
            && let Some(tasks) = &mut job.tasks
        {
            self.mail.extend(act(tasks));
        }
    }

    /// Lets a coordinator act and does what it wants done.
    pub(crate) fn with(&mut self, node: usize, act: impl FnOnce(&mut Job) -> Vec<Action<Snap>>) {
        let Node::Running(mut job) = std::mem::take(&mut self.nodes[node]) else { return };
        let actions = act(&mut job);
        let mut fenced = false;
        for action in actions {
            match action {
                Action::Trigger { checkpoint, kind, .. } => {
                    if let Some(tasks) = &mut job.tasks {
                        tasks.aligned |= u128::from(kind == CheckpointKind::Savepoint) << checkpoint.0;
                    }
                    for task in job.tasks.iter().flat_map(Tasks::running).filter(|task| task.vertex == 0) {
                        self.mail.insert(Mail::Trigger(task, checkpoint));
                    }
                }
                Action::Commit(permit) => {
                    if job.permit.replace(permit).is_some() || job.question.is_some() {
                        self.broken = Some("two commits at once");
                    }
                }
                Action::NotifyComplete { checkpoint, .. } => {
                    if !check::is_completed(self, job.term, checkpoint) {
                        self.broken = Some("told of a completed checkpoint that is not in the log");
                    }
                    self.seen.completed_after_restart |= job.attempt > (1 << 8) + 1;
                    self.seen.completed_after_abort |= self.seen.aborted;
                    self.seen.late_savepoint |= job.coordinator.latest_completed() > Some(checkpoint);
                    if let Some(tasks) = &job.tasks
                        && job.rule != Rule::None
                    {
                        let up_to = files(job.term, tasks.sink.pending & ((2 << checkpoint.0) - 1));
                        job.operations.extend(up_to.map(Operation::Commit));
                    }
                }
                Action::NotifyAborted { checkpoint, .. } => {
                    self.told_aborted.insert((job.term, checkpoint));
                    if job.hears_aborts {
                        let running = job.tasks.iter().flat_map(Tasks::running);
                        let sink = running.filter(|task| *task == sink_id(job.attempt));
                        self.mail.extend(sink.map(|task| Mail::Aborted(task, checkpoint)));
                    }
                    self.seen.aborted = true;
                }
                Action::Fenced => fenced = true,
                Action::FailJob { .. } => self.broken = Some("a job failed that tolerates every failure"),
                Action::DropRequest { .. } => {}
            }
        }
        self.seen.fenced |= fenced;
        self.nodes[node] = if fenced { Node::Off } else { Node::Running(job) };
    }

    /// Writes the manifest, then starts to claim the slot.
    fn commit(&mut self, node: usize) {
        let Node::Running(job) = &mut self.nodes[node] else { return };
        let Some((right, parts)) = job.permit.take().map(CommitPermit::into_parts) else { return };
        let name = format!("{}-{}", job.term, right.checkpoint());
        let token = Token(u128::from(job.term.0) << 64 | u128::from(right.checkpoint().0) << 8);
        self.seen.completed_with_finished |= !parts.finished.is_empty();
        let cut = cut(job, &parts);
        self.seen.overtaken |= cut.has_overtaken();
        self.manifests.insert(name.clone(), cut);
        let manifest = ManifestRef { name, len: 0, hash: String::new() };
        // Two are retained, and what a fallback passed over does not count.
        let branch = job.client.branch().clone();
        let mut own = job.client.view().completed().iter().rev();
        let oldest =
            own.find(|known| known.kind != CheckpointKind::Savepoint && !branch.gave_up(known.checkpoint));
        let oldest = oldest.map_or(0, |oldest| oldest.slot);
        match job.client.commit(&right, token, manifest, oldest) {
            LogStep::Done(_) => self.broken = Some("the log client was misused"),
            question => job.question = Some(question),
        }
    }

    pub(crate) fn redeploy(&mut self, node: usize) {
        let Node::Running(job) = &self.nodes[node] else { return };
        let newest = job.client.view().newest();
        // Before the first commit of the term that may be an older one.
        let own = newest.filter(|newest| newest.term == job.term).map(|newest| &newest.manifest.name);
        let from = own.or(job.parent.as_ref());
        let cut = from.and_then(|name| self.manifests.get(name)).cloned();
        self.seen.restored_overtaken |= cut.as_ref().is_some_and(Cut::has_overtaken);
        self.with(node, |job| {
            job.attempt += 1;
            let tasks = Tasks::restore(cut.as_ref(), job.attempt, job.rule, job.barriers);
            let actions = job.coordinator.start(NOW, tasks.running());
            job.tasks = Some(tasks);
            actions
        });
    }

    fn create(&mut self, entry: &LogEntry) -> CreateResult {
        if self.store.contains_key(&entry.slot) {
            return CreateResult::Exists;
        }
        self.seen.ghost |= self.truth.contains_key(&entry.slot);
        self.store.insert(entry.slot, entry.clone());
        self.truth.entry(entry.slot).or_insert_with(|| entry.clone());
        CreateResult::Created
    }

    fn anchor(&self, slot: Option<u64>) -> Anchor {
        match slot {
            None if self.is_cut => Anchor::Gone,
            None => Anchor::Start,
            Some(slot) => self.store.get(&slot).map_or(Anchor::Gone, |entry| Anchor::Entry(entry.token)),
        }
    }

    /// The store answers the open question of a node, or does not.
    fn answer(&mut self, node: usize, lost: Option<Fate>, limits: &crate::Limits) {
        let (mut client, question) = match std::mem::take(&mut self.nodes[node]) {
            Node::Starting(claim) => (claim.client, claim.question),
            Node::Running(mut job) => {
                let Some(question) = job.question.take() else { return };
                let client = job.client.clone();
                self.nodes[node] = Node::Running(job);
                (client, question)
            }
            Node::Off => return,
        };
        let next = match question {
            LogStep::Tail => client.on_tail(self.store.values().last()),
            LogStep::Read(slot) => {
                let step = client.on_read(slot, self.store.get(&slot));
                // Somebody else's entry would have been taken in.
                self.seen.settled_as_ours |= matches!(step, LogStep::Confirm(_))
                    && self.store.contains_key(&slot)
                    && client.view().next_slot() == slot;
                step
            }
            LogStep::Create(entry) => {
                let result = match lost {
                    None => self.create(&entry),
                    Some(fate) => {
                        match fate {
                            Fate::Happened => drop(self.create(&entry)),
                            Fate::Delayed => self.delayed.push(entry.clone()),
                            Fate::Dropped => {}
                        }
                        CreateResult::Unknown
                    }
                };
                client.on_create(entry.slot, result)
            }
            LogStep::Confirm(slot) => {
                let step = client.on_confirm(self.anchor(slot));
                self.seen.unconfirmed |= step == LogStep::Tail;
                step
            }
            LogStep::Done(_) => unreachable!("an outcome is no question"),
        };
        self.answered(node, client, next, limits);
    }

    fn answered(&mut self, node: usize, client: LogClient, next: LogStep, limits: &crate::Limits) {
        let LogStep::Done(outcome) = next else {
            match &mut self.nodes[node] {
                Node::Running(job) => {
                    job.client = client;
                    job.question = Some(next);
                }
                place @ (Node::Off | Node::Starting(_)) => {
                    *place = Node::Starting(Box::new(Claim { client, question: next }));
                }
            }
            return;
        };
        match outcome {
            LogOutcome::Claimed { term, completed } => {
                if completed != check::completed_before(self, term) {
                    self.broken = Some("a claim does not see what is completed");
                }
                let first = client.view().last_completed().map_or(CheckpointId::FIRST, CheckpointId::next);
                let policy = Policy {
                    max_concurrent: limits.concurrent,
                    tolerable_failures: u32::MAX,
                    ..Policy::default()
                };
                let coordinator = Coordinator::new(policy, first);
                let attempt = term.0 << 8;
                let job = Job {
                    term,
                    coordinator,
                    client,
                    question: None,
                    permit: None,
                    tasks: None,
                    attempt,
                    rule: limits.rule,
                    barriers: limits.barriers,
                    hears_aborts: limits.aborts,
                    resumed: false,
                    from: None,
                    parent: None,
                    operations: Default::default(),
                    swept: false,
                };
                self.nodes[node] = Node::Running(Box::new(job));
                if limits.rule == Rule::None {
                    self.resume(node, 0, Rule::None);
                }
            }
            LogOutcome::Committed(done) if limits.rule == Rule::None => {
                self.commit_result(node, client, done.checkpoint, CommitResult::Committed);
            }
            LogOutcome::Committed(done) => {
                if let Node::Running(job) = &mut self.nodes[node] {
                    job.client = client;
                }
                self.before_notifying(node, done.checkpoint, limits.rule);
            }
            LogOutcome::Fenced { .. } => {
                let Node::Running(job) = &self.nodes[node] else { return };
                let Some(checkpoint) = job.coordinator.commit_in_flight() else { return };
                self.commit_result(node, client, checkpoint, CommitResult::Fenced);
            }
            LogOutcome::Leading(_) | LogOutcome::Misuse(_) => {
                self.broken = Some("the log client was misused");
            }
        }
    }

    fn commit_result(
        &mut self,
        node: usize,
        client: LogClient,
        checkpoint: CheckpointId,
        result: CommitResult,
    ) {
        self.with(node, |job| {
            job.client = client;
            job.coordinator.commit_result(NOW, checkpoint, result)
        });
    }

    fn deliver(&mut self, node: usize, mail: Mail, again: bool) -> bool {
        let before = self.nodes[node].clone();
        if !again {
            self.mail.remove(&mail);
        }
        match mail {
            Mail::Trigger(task, checkpoint) => self.tasks(node, |tasks| {
                tasks.source(task).and_then(|source| tasks.trigger(source, checkpoint)).into_iter().collect()
            }),
            Mail::Ack(task, checkpoint, snap) => {
                let mut late = false;
                self.with(node, |job| {
                    let (outcome, actions) = job.coordinator.ack(NOW, task, checkpoint, snap);
                    late = outcome == AckOutcome::Late;
                    actions
                });
                self.seen.late_ack |= late;
            }
            Mail::Decline { task, checkpoint, is_superseded } => {
                let reason = match is_superseded {
                    true => DeclineReason::Superseded,
                    false => DeclineReason::SnapshotFailed,
                };
                self.with(node, |job| job.coordinator.decline(NOW, task, checkpoint, reason).1);
            }
            Mail::Aborted(_, checkpoint) => {
                self.sink_acts(node, |tasks, file| tasks.aborted(checkpoint, file));
            }
            Mail::Finished(task, last) => {
                self.with(node, |job| job.coordinator.task_finished(NOW, task, last));
            }
        }
        if again && self.nodes[node] != before {
            self.left.duplicates -= 1;
            return true;
        }
        !again
    }
}

/// The contents of the acknowledgements. A task without one had ended.
fn cut(job: &Job, parts: &CommitParts<Snap>) -> Cut {
    let mut cut = Cut {
        emitted: [None; SOURCES],
        received: None,
        overtaken: [0; SOURCES],
        pending: 0,
        term: job.term,
        checkpoint: parts.checkpoint,
        restored: job.from,
        parent: job.parent.clone(),
    };
    for source in 0..SOURCES {
        if let Some(Snap::Emitted(emitted)) = parts.acks.get(&source_id(source, job.attempt)) {
            cut.emitted[source] = Some(*emitted);
        }
    }
    if let Some(Snap::Received(sink)) = parts.acks.get(&sink_id(job.attempt)) {
        (cut.received, cut.overtaken, cut.pending) = (Some(sink.received), sink.overtaken, sink.pending);
    }
    cut
}
