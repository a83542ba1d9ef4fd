//! What one worker does in an attempt.

use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use strandline_runtime::host::{Attempt, Description, Directed, Event, Subtask};
use strandline_state_api::{Error, Result};
use timely::dataflow::operators::probe::Handle;
use timely::scheduling::SyncActivator;
use timely::worker::Worker;

use crate::mail::{Mail, Post};
use crate::vertex::{Inbox, Surroundings, build};

/// The longest sleep of a worker.
const DOZE: Duration = Duration::from_millis(50);

/// The time between two reports of what a process has counted.
const COUNT_EVERY: Duration = Duration::from_millis(200);

/// What all workers of a process share in one attempt.
pub(crate) struct Shared {
    /// The workers of this process among all.
    pub(crate) local: Range<u32>,
    pub(crate) parallelism: u32,
    /// Known from the start where the coordinator is.
    pub(crate) attempt: OnceLock<Arc<Attempt>>,
    /// Joins an attempt that another process coordinates.
    pub(crate) join: Box<dyn Fn(Description) -> Result<Attempt> + Send + Sync>,
    /// The first error of a process that another coordinates.
    pub(crate) error: Mutex<Option<Error>>,
    /// Held while counts are taken and left, so that none is behind an event that completes it.
    counting: Mutex<()>,
    desks: Vec<Desk>,
}

/// Where other threads leave mail for a worker.
struct Desk {
    sender: Sender<(usize, Mail)>,
    receiver: Receiver<(usize, Mail)>,
    wake: OnceLock<SyncActivator>,
}

/// How a worker has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The coordinator has ended the attempt well.
    Well,
    /// The attempt has failed.
    Failed,
}

impl Shared {
    pub(crate) fn new(
        local: Range<u32>,
        parallelism: u32,
        join: impl Fn(Description) -> Result<Attempt> + Send + Sync + 'static,
    ) -> Self {
        let desk = |_| {
            let (sender, receiver) = unbounded();
            Desk { sender, receiver, wake: OnceLock::new() }
        };
        let desks = local.clone().map(desk).collect();
        let (attempt, error, counting) = (OnceLock::new(), Mutex::new(None), Mutex::new(()));
        Self { local, parallelism, attempt, join: Box::new(join), error, counting, desks }
    }

    /// Leaves mail for a worker with the first one of this process, or with that worker where it is one of this
    /// process.
    pub(crate) fn leave(&self, to: u32, mail: Mail) {
        let place = if self.local.contains(&to) { to - self.local.start } else { 0 };
        let Some(desk) = self.desks.get(place as usize) else { return };
        let _ = desk.sender.send((to as usize, mail));
        if let Some(wake) = desk.wake.get() {
            let _ = wake.activate();
        }
    }

    /// Whether the coordinator is in this process.
    pub(crate) fn coordinates(&self) -> bool {
        self.local.start == 0
    }

    /// Fails the attempt, here and, through the coordinator, elsewhere.
    pub(crate) fn fail(&self, error: Error) {
        if self.coordinates() {
            if let Some(attempt) = self.attempt.get() {
                attempt.fail(error);
            }
            return;
        }
        let mut first = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        if first.is_none() {
            *first = Some(error.clone());
        }
        drop(first);
        self.leave(0, Mail::Event(Event::failed(error)));
    }

    fn report(&self, event: Event) {
        match self.attempt.get().filter(|_| self.coordinates()) {
            Some(attempt) => attempt.report(event),
            None => {
                if event.completes_counts() {
                    self.count();
                }
                self.leave(0, Mail::Event(event));
            }
        }
    }

    /// Brings what this process has counted to that of the coordinator.
    fn count(&self) {
        let Some(attempt) = self.attempt.get() else { return };
        let _counting = self.counting.lock().unwrap_or_else(PoisonError::into_inner);
        self.leave(0, Mail::Counts(attempt.take_counts()));
    }
}

/// One worker in one attempt.
struct Office<'a> {
    shared: &'a Arc<Shared>,
    post: Post,
    desk: &'a Desk,
    own: u32,
    inboxes: HashMap<u32, Inbox>,
    /// Commands that came before the subtasks were open.
    early: Vec<Directed>,
    ended: Option<Ended>,
}

/// Runs the subtasks of a worker until the attempt is over.
pub(crate) fn work(worker: &mut Worker, shared: &Arc<Shared>) -> Result<Ended> {
    let own = worker.index() as u32;
    let Some(desk) = shared.desks.get((own - shared.local.start) as usize) else { return Ok(Ended::Failed) };
    let (post, wake) = Post::open(worker);
    let _ = desk.wake.set(wake);
    let mut office =
        Office { shared, post, desk, own, inboxes: HashMap::new(), early: Vec::new(), ended: None };
    let ended = office.attend(worker);
    if let Err(error) = &ended
        && !shared.coordinates()
    {
        office.post.send(0, &Mail::Event(Event::failed(error.clone())))?;
    }
    // What was sent leaves with the step, and what is under way is for nobody.
    for _ in 0..2 {
        worker.step();
    }
    drop(office);
    for dataflow in worker.installed_dataflows() {
        worker.drop_dataflow(dataflow);
    }
    ended
}

impl Office<'_> {
    fn attend(&mut self, worker: &mut Worker) -> Result<Ended> {
        if self.own == 0
            && let Some(attempt) = self.shared.attempt.get()
        {
            for first in
                (self.shared.local.len()..self.shared.parallelism as usize).step_by(self.shared.local.len())
            {
                self.post.send(first, &Mail::Join(Box::new(attempt.description().clone())))?;
            }
        }
        let attempt = loop {
            if let Some(attempt) = self.shared.attempt.get() {
                break Arc::clone(attempt);
            }
            self.read_mail()?;
            if let Some(ended) = self.ended {
                return Ok(ended);
            }
            if self.shared.attempt.get().is_none() {
                worker.step_or_park(Some(DOZE / 10));
            }
        };
        self.open(worker, &attempt);
        // The first worker of another process counts for all of it.
        let counts = !self.shared.coordinates() && self.own == self.shared.local.start;
        let mut counted = Instant::now();
        loop {
            self.read_mail()?;
            if let Some(ended) = self.ended {
                return Ok(ended);
            }
            if counts && counted.elapsed() >= COUNT_EVERY {
                counted = Instant::now();
                self.shared.count();
            }
            worker.step_or_park(Some(DOZE));
        }
    }

    /// Opens the subtasks of this worker, and wires them.
    fn open(&mut self, worker: &mut Worker, attempt: &Arc<Attempt>) {
        let shared = self.shared;
        let of_fail = Arc::clone(shared);
        let surroundings = Surroundings {
            worker: self.own,
            local: shared.local.clone(),
            slowest: Handle::new(),
            began: Instant::now(),
            first: attempt.first_checkpoint(),
            fail: Rc::new(move |error| of_fail.fail(error)),
        };
        let plan = attempt.plan();
        let open = |vertex| {
            let of_subtask = Arc::clone(shared);
            Subtask::open(attempt, vertex, self.own, move |event| of_subtask.report(event))
        };
        let subtasks: Vec<_> = plan.vertices().iter().map(open).collect();
        let inboxes = worker.dataflow(|scope| {
            let mut streams = HashMap::new();
            let vertices = plan.vertices().iter().zip(subtasks);
            let build = |(vertex, subtask): (&strandline_runtime::host::PlanVertex, Subtask)| {
                let inbox = build(scope, vertex, subtask, plan.edges(), &mut streams, &surroundings);
                (vertex.number(), inbox)
            };
            vertices.map(build).collect::<HashMap<_, _>>()
        });
        self.inboxes = inboxes;
        for directed in std::mem::take(&mut self.early) {
            self.command(directed);
        }
    }

    fn command(&mut self, directed: Directed) {
        if self.inboxes.is_empty() {
            self.early.push(directed);
        } else if let Some(inbox) = self.inboxes.get(&directed.vertex) {
            inbox.push(directed.command);
        }
    }

    /// Reads what other threads and other workers have left.
    fn read_mail(&mut self) -> Result<()> {
        while let Ok((to, mail)) = self.desk.receiver.try_recv() {
            if to == self.own as usize {
                self.take(mail)?;
            } else {
                self.post.send(to, &mail)?;
            }
        }
        while let Some(mail) = self.post.take()? {
            self.take(mail)?;
        }
        Ok(())
    }

    fn take(&mut self, mail: Mail) -> Result<()> {
        match mail {
            Mail::Join(description) => {
                let attempt = (self.shared.join)(*description)?;
                let _ = self.shared.attempt.set(Arc::new(attempt));
            }
            Mail::Command(directed) => self.command(directed),
            Mail::Event(event) => {
                if let Some(attempt) = self.shared.attempt.get() {
                    attempt.report(event);
                }
            }
            Mail::Counts(counts) => {
                if let Some(attempt) = self.shared.attempt.get() {
                    attempt.add_counts(&counts);
                }
            }
            Mail::Over { well } => {
                self.ended = Some(if well { Ended::Well } else { Ended::Failed });
                if let Some(attempt) = self.shared.attempt.get().filter(|_| !well) {
                    attempt.give_up();
                }
            }
        }
        Ok(())
    }
}
