//! An attempt whose tasks a host runs.

use std::sync::Arc;

use crossbeam_channel::unbounded;
use strandline_checkpoint_protocol::TaskId;
use tokio::sync::watch;

use super::commit::Committer;
use super::driver::{Controls, TaskHandle};
use super::{Ended, Run};
use crate::chain::assembly::Attempt;
use crate::host::{self, AttemptParts, Host, Plan};
use crate::urgency::Urgency;

impl Run<'_> {
    pub(super) fn drive_hosted(
        &mut self,
        host: &mut dyn Host,
        attempt: &Arc<Attempt>,
        committer: Committer,
        cancel: &watch::Sender<bool>,
    ) -> Ended {
        let (events, inbox) = unbounded();
        let (commands, of_host) = unbounded();
        let life = self.life(&committer);
        let plan = Plan::new(&self.job, &self.config);
        let mut tasks = Vec::new();
        for vertex in plan.vertices() {
            for subtask in 0..self.config.parallelism {
                let task = TaskId { vertex: vertex.number, subtask, attempt: life };
                let controls = Controls::Host { commands: commands.clone(), vertex: vertex.number, subtask };
                let urgency = Arc::new(Urgency::new(self.threads.now()));
                tasks.push(TaskHandle::new(task, &vertex.vertex, controls, urgency));
            }
        }
        drop(commands);
        let parts = AttemptParts {
            inner: Arc::clone(attempt),
            plan,
            life,
            first_checkpoint: self.next_checkpoint,
            manifest: self.manifest.take(),
            reopened: std::mem::take(&mut self.reopened),
            commands: of_host,
            events,
        };
        // Dropped last: its tasks end when the commands do.
        let _running = match host.start(host::Attempt::new(parts)) {
            Ok(running) => running,
            Err(error) => return Ended::Failed { error, opening: true },
        };
        self.coordinate(attempt, committer, cancel, tasks, inbox)
    }
}
