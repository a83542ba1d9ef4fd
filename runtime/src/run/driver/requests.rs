//! Who waits for which checkpoint.

use std::collections::BTreeMap;

use strandline_checkpoint_protocol::{Refusal, RequestId, RequestOutcome};
use strandline_state_api::{CheckpointId, Error, Result};

use super::Driver;
use crate::report::CheckpointReport;
use crate::request::Requester;

/// The requests of this attempt that have no answer.
#[derive(Default)]
pub(super) struct Requests {
    queued: BTreeMap<RequestId, Requester<CheckpointReport>>,
    triggered: BTreeMap<CheckpointId, Requester<CheckpointReport>>,
}

impl Requests {
    /// The checkpoint that answers a request was triggered.
    pub(super) fn triggered(&mut self, request: Option<RequestId>, checkpoint: CheckpointId) {
        if let Some(requester) = request.and_then(|request| self.queued.remove(&request)) {
            self.triggered.insert(checkpoint, requester);
        }
    }

    pub(super) fn dropped(&mut self, request: RequestId, reason: Refusal) {
        if let Some(requester) = self.queued.remove(&request) {
            requester.refuse(reason);
        }
    }

    pub(super) fn ended(&mut self, checkpoint: CheckpointId, answer: Result<CheckpointReport>) {
        if let Some(requester) = self.triggered.remove(&checkpoint) {
            requester.answer(answer);
        }
    }

    /// The attempt ends, and whether what was triggered exists is open.
    pub(super) fn give_up(&mut self, error: &Error) {
        let Self { queued, triggered } = std::mem::take(self);
        for requester in queued.into_values().chain(triggered.into_values()) {
            requester.answer(Err(error.clone()));
        }
    }
}

impl Driver<'_, '_> {
    /// Takes on what the holders of the [`JobControl`](crate::JobControl) asked for.
    pub(super) fn take_requests(&mut self) {
        for (kind, requester) in self.run.control.take_requests() {
            if self.committer.storage.is_none() {
                let message = "the job takes no checkpoints: configure `checkpointing`";
                requester.answer(Err(Error::invalid(message).with("job", &self.run.job.name)));
                continue;
            }
            let (outcome, actions) = self.coordinator.request(self.now(), kind);
            match outcome {
                RequestOutcome::Started(id) | RequestOutcome::Queued(id) => {
                    self.requests.queued.insert(id, requester);
                }
                RequestOutcome::Refused(refusal) => requester.refuse(refusal),
            }
            self.act(actions);
        }
    }
}
