//! The smallest host of pipelines: one thread that passes messages from queue to queue.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use strandline_runtime::host::{Attempt, Command, EdgeCodec, Host, Outgoing, Parcel, Plan, Subtask, Turn};
use strandline_state_api::{CheckpointId, Error, ErrorKind, Result};

/// How long the thread rests where no subtask has anything to do.
const REST: Duration = Duration::from_millis(1);
/// Sources read nothing while so many messages wait.
const MOST_WAITING: usize = 1_000;

/// Runs all subtasks of an attempt in one thread, in turns. Records cross the codec of their edge, where it has one, as
/// they do between processes.
///
/// It aligns barriers as Chandy and Lamport's algorithm has it: a marker in each channel behind what was sent before
/// the cut, and a channel waits at its marker until all channels of its subtask have come to theirs.
#[derive(Clone, Copy, Debug)]
pub struct BareHost {
    parallelism: u32,
}

impl BareHost {
    /// A host with so many subtasks for each vertex.
    pub fn new(parallelism: u32) -> Self {
        Self { parallelism }
    }
}

impl Host for BareHost {
    fn parallelism(&self) -> u32 {
        self.parallelism
    }

    fn check(&self, plan: &Plan) -> Result<()> {
        if plan.is_unaligned() {
            return Err(Error::new(ErrorKind::Unsupported, "barriers overtake nothing on the bare host"));
        }
        Ok(())
    }

    fn start(&mut self, attempt: Attempt) -> Result<Box<dyn Send>> {
        let (attempt, parallelism) = (Arc::new(attempt), self.parallelism);
        let thread = thread::spawn(move || run(&attempt, parallelism));
        Ok(Box::new(Joined(Some(thread))))
    }
}

/// Waits for the thread when it is dropped: its commands have ended then.
struct Joined(Option<JoinHandle<()>>);

impl Drop for Joined {
    fn drop(&mut self) {
        if let Some(thread) = self.0.take() {
            let _ = thread.join();
        }
    }
}

enum Passed {
    Message(Parcel),
    Marker(CheckpointId),
}

/// A subtask, and what waits for it in each channel: by edge and sender.
struct Driven {
    vertex: u32,
    number: u32,
    subtask: Subtask,
    is_source: bool,
    channels: BTreeMap<(u32, u32), VecDeque<Passed>>,
}

struct Driver<'a> {
    attempt: &'a Attempt,
    parallelism: u32,
    subtasks: Vec<Driven>,
    waiting: usize,
}

fn run(attempt: &Arc<Attempt>, parallelism: u32) {
    let Some(commands) = attempt.commands() else { return };
    let mut driver = Driver { attempt, parallelism, subtasks: Vec::new(), waiting: 0 };
    for vertex in attempt.plan().vertices() {
        for number in 0..parallelism {
            let coordinator = Arc::clone(attempt);
            let subtask = Subtask::open(attempt, vertex, number, move |event| coordinator.report(event));
            let of_vertex = attempt.plan().edges().iter().filter(|edge| edge.to == vertex.number());
            let from_each = of_vertex.flat_map(|edge| (0..parallelism).map(move |from| (edge.number, from)));
            driver.subtasks.push(Driven {
                vertex: vertex.number(),
                number,
                subtask,
                is_source: vertex.is_source(),
                channels: from_each.map(|channel| (channel, VecDeque::new())).collect(),
            });
        }
    }
    loop {
        // One at a time: so the barriers of several sources come apart.
        let is_busy = match commands.try_recv() {
            Some(Some(directed)) => {
                driver.command(directed.vertex, directed.subtask, directed.command);
                true
            }
            Some(None) => return,
            None => false,
        };
        if !driver.turn() && !is_busy {
            thread::sleep(REST);
        }
    }
}

impl Driver<'_> {
    fn command(&mut self, vertex: u32, subtask: u32, command: Command) {
        let of = |driven: &Driven| (driven.vertex, driven.number) == (vertex, subtask);
        let Some(at) = self.subtasks.iter().position(of) else { return };
        let triggers = command.triggers().filter(|_| self.subtasks[at].is_source);
        self.subtasks[at].subtask.command(command);
        self.send(at);
        if let Some(checkpoint) = triggers {
            self.mark(at, checkpoint);
        }
    }

    /// Lets each subtask do something; returns whether any of them has more to do.
    fn turn(&mut self) -> bool {
        let mut is_busy = false;
        for at in 0..self.subtasks.len() {
            let may_read = self.waiting < MOST_WAITING;
            let cut = self.deliver(at);
            if let Some(checkpoint) = cut {
                self.subtasks[at].subtask.cut(checkpoint);
                self.send(at);
                self.mark(at, checkpoint);
            }
            let driven = &mut self.subtasks[at];
            let turn = driven.subtask.turn(driven.is_source && may_read);
            is_busy |= turn == Turn::Again || cut.is_some();
            self.send(at);
        }
        is_busy || self.waiting > 0
    }

    /// Delivers what is in front of the markers; returns the checkpoint at whose markers all channels are.
    fn deliver(&mut self, at: usize) -> Option<CheckpointId> {
        let Driven { subtask, channels, .. } = &mut self.subtasks[at];
        for (&(edge, from), channel) in channels.iter_mut() {
            while let Some(Passed::Message(_)) = channel.front()
                && let Some(Passed::Message(parcel)) = channel.pop_front()
            {
                self.waiting -= 1;
                subtask.deliver(edge, from, parcel);
            }
        }
        let mut fronts = channels.values().map(|channel| match channel.front() {
            Some(Passed::Marker(checkpoint)) => Some(*checkpoint),
            _ => None,
        });
        let first = fronts.next()??;
        if !fronts.all(|other| other == Some(first)) {
            return None;
        }
        channels.values_mut().for_each(|channel| drop(channel.pop_front()));
        Some(first)
    }

    /// Passes on what a subtask has sent.
    fn send(&mut self, at: usize) {
        let from = self.subtasks[at].number;
        while let Some(Outgoing { edge, target, parcel }) = self.subtasks[at].subtask.take_output() {
            let Some(reader) = self.attempt.plan().edges().iter().find(|known| known.number == edge) else {
                continue;
            };
            match encoded(parcel, reader.codec.as_ref()) {
                Ok(parcel) => {
                    self.push(reader.to, target, (edge, from), Passed::Message(parcel));
                    self.waiting += 1;
                }
                Err(error) => self.attempt.fail(error),
            }
        }
    }

    /// Puts a marker into all channels of a subtask.
    fn mark(&mut self, at: usize, checkpoint: CheckpointId) {
        let (vertex, from) = (self.subtasks[at].vertex, self.subtasks[at].number);
        for edge in self.attempt.plan().edges().iter().filter(|edge| edge.from == vertex) {
            for target in 0..self.parallelism {
                self.push(edge.to, target, (edge.number, from), Passed::Marker(checkpoint));
            }
        }
    }

    fn push(&mut self, vertex: u32, target: u32, channel: (u32, u32), passed: Passed) {
        let reader =
            self.subtasks.iter_mut().find(|driven| (driven.vertex, driven.number) == (vertex, target));
        if let Some(channel) = reader.and_then(|reader| reader.channels.get_mut(&channel)) {
            channel.push_back(passed);
        }
    }
}

/// As bytes, where the edge has a codec.
fn encoded(parcel: Parcel, codec: Option<&EdgeCodec>) -> Result<Parcel> {
    match codec {
        Some(_) => parcel.to_bytes(codec).map(Parcel::from_bytes),
        None => Ok(parcel),
    }
}
