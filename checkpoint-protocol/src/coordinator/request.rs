//! Requests for checkpoints, and the queue of those that wait for their turn.

use strandline_state_api::CheckpointKind;

/// Operators and people stand in one line; everything else in the order of the variants.
fn rank(kind: CheckpointKind) -> u8 {
    match kind {
        CheckpointKind::Savepoint => 0,
        CheckpointKind::Final => 1,
        CheckpointKind::Api | CheckpointKind::Operator => 2,
        CheckpointKind::Periodic => 3,
    }
}

/// The number that the coordinator assigns to a request, by which the requester finds the checkpoint that
/// answers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// What became of a request at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RequestOutcome {
    /// Its checkpoint starts now: there is a [`Trigger`](super::Action::Trigger) with this id among the
    /// actions.
    Started(RequestId),
    /// It waits for its turn.
    Queued(RequestId),
    /// There will be none.
    Refused(Refusal),
}

/// Why a request is not, or no longer, going to be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The job does not run: not started, suspended or failed. Ask again once it does.
    NotRunning,
    /// All tasks have finished, or the final checkpoint is complete: there is nothing left to take one of.
    Ended,
    /// A newer coordinator has taken over.
    Fenced,
    /// Too many requests [wait](super::Policy::max_requests) already, none of them less urgent.
    TooMany,
}

/// A request that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Request {
    pub(super) id: RequestId,
    pub(super) kind: CheckpointKind,
}

/// Waiting requests, the most urgent first and then the oldest (Flink: `CheckpointRequestDecider`).
///
/// Periodic checkpoints are never in it: one that is due is due, however often its time came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Queue(Vec<Request>);

/// What [`Queue::push`] did.
pub(super) enum Pushed {
    Queued,
    /// In the place of this one, which was less urgent.
    Displaced(Request),
    Full,
}

impl Queue {
    pub(super) fn push(&mut self, request: Request, capacity: usize) -> Pushed {
        let of_request = rank(request.kind);
        let place = self.0.partition_point(|waiting| rank(waiting.kind) <= of_request);
        if self.0.len() >= capacity {
            // `place` at the end means that none is less urgent.
            if place == self.0.len() {
                return Pushed::Full;
            }
            let displaced = self.0.pop();
            self.0.insert(place, request);
            return displaced.map_or(Pushed::Queued, Pushed::Displaced);
        }
        self.0.insert(place, request);
        Pushed::Queued
    }

    /// The first whose kind fits.
    pub(super) fn find(&self, fits: impl Fn(CheckpointKind) -> bool) -> Option<Request> {
        self.0.iter().find(|request| fits(request.kind)).copied()
    }

    pub(super) fn remove(&mut self, id: RequestId) {
        self.0.retain(|request| request.id != id);
    }

    pub(super) fn contains(&self, id: RequestId) -> bool {
        self.0.iter().any(|request| request.id == id)
    }

    pub(super) fn drain(&mut self) -> Vec<Request> {
        std::mem::take(&mut self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPACITY: usize = 10;

    fn push(queue: &mut Queue, id: u64, kind: CheckpointKind) -> Pushed {
        queue.push(Request { id: RequestId(id), kind }, CAPACITY)
    }

    #[test]
    fn the_most_urgent_goes_first_then_the_oldest() {
        use CheckpointKind::{Api, Final, Operator, Savepoint};
        let mut queue = Queue::default();
        for (id, kind) in [Operator, Final, Api, Savepoint, Operator, Savepoint].into_iter().enumerate() {
            push(&mut queue, id as u64, kind);
        }
        let order: Vec<_> = queue.drain().into_iter().map(|request| request.id.0).collect();
        assert_eq!(order, [3, 5, 1, 0, 2, 4]);
    }

    #[test]
    fn a_full_queue_gives_way_only_to_the_more_urgent() {
        let mut queue = Queue::default();
        for id in 0..CAPACITY as u64 {
            assert!(matches!(push(&mut queue, id, CheckpointKind::Api), Pushed::Queued));
        }
        assert!(matches!(push(&mut queue, 5_000, CheckpointKind::Operator), Pushed::Full));
        let Pushed::Displaced(last) = push(&mut queue, 5_001, CheckpointKind::Savepoint) else {
            panic!("a savepoint must displace the newest API request");
        };
        assert_eq!(last.id, RequestId(CAPACITY as u64 - 1));
        assert_eq!(queue.find(|_| true).map(|first| first.id), Some(RequestId(5_001)));
    }
}
