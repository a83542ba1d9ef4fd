//! One attempt: everything from the claim of the storage to the last thread's end.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, unbounded};
use strandline_checkpoint_protocol::TaskId;
use strandline_state_api::Result;
use tokio::sync::watch;

use super::commit::Committer;
use super::driver::{Controls, Driver, TaskHandle};
use super::{Ended, Run};
use crate::chain::assembly::{Assembly, Attempt};
use crate::channel::Wiring;
use crate::config::Unaligned;
use crate::event::JobEvent;
use crate::mailbox::{Control, Events, Mailbox, TaskEvent};
use crate::pipeline::graph::Vertex;
use crate::report::Outcome;
use crate::summary::TaskSummary;
use crate::sync::{guarded, located};
use crate::threads::{Joined, Thread};
use crate::urgency::Urgency;

impl Run<'_> {
    /// Runs the job once, until it is over or fails. All threads have ended when it returns.
    pub(super) fn attempt(&mut self) -> Ended {
        match self.prepare() {
            Ok(PreparedAttempt::Finished) if self.attempts == 1 => Ended::Over(Outcome::AlreadyFinished),
            // The final checkpoint was complete, and only what follows it had failed.
            Ok(PreparedAttempt::Finished) => Ended::Over(Outcome::Finished),
            Ok(PreparedAttempt::Ready(attempt, committer, cancel)) => {
                self.drive(&Arc::new(*attempt), *committer, &cancel)
            }
            Err(error) => Ended::Failed { error, opening: true },
        }
    }

    fn prepare(&mut self) -> Result<PreparedAttempt> {
        let chained = self.job.chained(&self.config);
        if self.config.unaligned() != Unaligned::Off {
            self.job.check_unaligned(&chained)?;
        }
        let mut claim = self.claim()?;
        let mut restored = match &claim {
            Some(claim) => self.assign(claim)?,
            None => None,
        };
        let from = restored.as_ref().map(|restored| restored.checkpoint);
        if self.attempts == 1 {
            self.resumed_from = from;
        }
        self.plan_sources(restored.as_mut())?;
        self.recover_outputs(claim.as_mut(), restored.as_ref())?;
        if restored.as_ref().is_some_and(|restored| restored.is_finished) {
            return Ok(PreparedAttempt::Finished);
        }
        let (cancel, cancelled) = watch::channel(false);
        let term = claim.as_ref().map(|claim| claim.term);
        self.metrics.begin_attempt(from);
        let attempt = Attempt {
            config: self.config.clone(),
            label: format!("{}-{}", self.label(), self.attempts),
            term: term.unwrap_or_default(),
            wiring: Wiring::new(self.config.parallelism, self.config.channel_capacity, self.threads.clone()),
            restored,
            threads: self.threads.clone(),
            cancelled,
            metrics: Arc::clone(&self.metrics),
            chained,
            is_keyed: self.job.is_keyed(),
        };
        let committer = Committer::new(&self.job, &self.config, term.unwrap_or_default(), from, claim);
        Ok(PreparedAttempt::Ready(Box::new(attempt), Box::new(committer), cancel))
    }

    fn drive(&mut self, attempt: &Arc<Attempt>, committer: Committer, cancel: &watch::Sender<bool>) -> Ended {
        if let Some(host) = self.host.take() {
            let ended = self.drive_hosted(host, attempt, committer, cancel);
            self.host = Some(host);
            return ended;
        }
        let job = self.job.clone();
        let (events, inbox) = unbounded();
        // Dropped last: the tasks end when their handles are gone.
        let mut threads = Joined::default();
        let mut tasks = Vec::new();
        let life = self.life(&committer);
        for (number, vertex) in (0..).zip(&job.vertices) {
            if vertex.is_chained(&attempt.chained) {
                continue;
            }
            for subtask in 0..self.config.parallelism {
                let task = TaskId { vertex: number, subtask, attempt: life };
                let urgency = Arc::new(Urgency::new(self.threads.now()));
                match spawn(attempt, vertex, task, &urgency, &events) {
                    Ok((control, thread)) => {
                        tasks.push(TaskHandle::new(task, vertex, Controls::Own(control), urgency));
                        threads.0.push(thread);
                    }
                    Err(error) => {
                        attempt.wiring.close();
                        let _ = cancel.send(true);
                        return Ended::Failed { error, opening: true };
                    }
                }
            }
        }
        drop(events);
        self.coordinate(attempt, committer, cancel, tasks, inbox)
    }

    /// What distinguishes the tasks of this attempt from all others, also of other processes.
    pub(super) fn life(&self, committer: &Committer) -> u64 {
        committer.term().0.max(u64::from(self.attempts))
    }

    pub(super) fn coordinate(
        &mut self,
        attempt: &Attempt,
        committer: Committer,
        cancel: &watch::Sender<bool>,
        tasks: Vec<TaskHandle>,
        inbox: Receiver<TaskEvent>,
    ) -> Ended {
        let mut driver = Driver::new(self, committer, tasks, inbox);
        let ended = driver.run();
        if let Ended::Failed { .. } | Ended::Over(Outcome::Cancelled) = &ended {
            // Closed channels and the flag reach every task wherever it waits.
            let _ = cancel.send(true);
            attempt.wiring.close();
        }
        driver.settle();
        let summary = driver.summary();
        drop(driver);
        if let Ended::Over(outcome) = &ended {
            self.summarize(&summary);
            tracing::debug!(?outcome, "the attempt is over");
        }
        ended
    }

    fn summarize(&mut self, summary: &TaskSummary) {
        let sinks = self.job.sinks.iter();
        self.sinks = sinks.map(|sink| (sink.id.to_string(), summary.figures(&sink.id))).collect();
    }

    pub(super) fn started(&self, from: Option<strandline_state_api::CheckpointId>) {
        self.notify(&JobEvent::Started { attempt: self.attempts, from });
    }
}

/// What an attempt needs before its tasks start.
enum PreparedAttempt {
    /// Nothing is left to do.
    Finished,
    Ready(Box<Attempt>, Box<Committer>, watch::Sender<bool>),
}

fn spawn(
    attempt: &Arc<Attempt>,
    vertex: &Arc<Vertex>,
    task: TaskId,
    urgency: &Arc<Urgency>,
    events: &Sender<TaskEvent>,
) -> Result<(Sender<Control>, Thread)> {
    let (control, commands) = unbounded();
    let mailbox = Mailbox { task, control: commands, events: Events::Coordinator(events.clone()) };
    let (of_task, its_vertex, urgency) = (Arc::clone(attempt), Arc::clone(vertex), Arc::clone(urgency));
    let name = format!("{}-{}", vertex.id, task.subtask);
    let spawned = attempt.threads.spawn(name, move || run_task(of_task, &its_vertex, urgency, &mailbox));
    Ok((control, spawned.map_err(|error| located(error, &vertex.id, task.subtask))?))
}

/// The body of a task's thread.
fn run_task(attempt: Arc<Attempt>, vertex: &Vertex, urgency: Arc<Urgency>, mailbox: &Mailbox) {
    let subtask = mailbox.task.subtask;
    urgency.attach();
    let located = |error| located(error, &vertex.id, subtask);
    let built = guarded(|| {
        let mut assembly = Assembly::new(attempt, vertex.id.clone(), subtask, urgency);
        (vertex.build)(&mut assembly)?.into_task(&assembly)
    });
    match built {
        Ok(mut task) => {
            mailbox.send(TaskEvent::Opened);
            let ended = guarded(|| task.run(mailbox)).map_err(located);
            // Sent before the task is dropped, which may take a while when a snapshot is being written.
            mailbox.send(TaskEvent::Exited(mailbox.task, ended));
        }
        Err(error) => mailbox.send(TaskEvent::Exited(mailbox.task, Err(located(error)))),
    }
}
