//! A vertex of a plan as an operator of timely dataflow, with one subtask on each worker.
//!
//! The time of timely is the checkpoint and, below it, a round:
//!
//! ```text
//! time = number of the next checkpoint << 32 | round
//! ```
//!
//! A source sends at the time of the checkpoint that is to come. At the command that triggers it the source hands
//! in its positions, and lets go of that time for the next one. What others receive at a later time they set aside,
//! until the frontiers of all their inputs have passed the checkpoint: then everything before its barrier is here,
//! so they take their snapshot, and go on. The progress tracking of timely is the alignment; a barrier in the
//! stream only brings what is to be done at the cut. Event time travels between records and is no time of timely.
//!
//! Rounds bound what waits: a round is a few milliseconds, and a source reads no further than so many rounds ahead
//! of the slowest subtask of the job.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

use strandline_runtime::host::{Command, EdgeCodec, Outgoing, Parcel, PlanEdge, PlanVertex, Subtask, Turn};
use strandline_state_api::{CheckpointId, Error};
use timely::dataflow::channels::pushers;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::probe::{Handle, Probe};
use timely::dataflow::{Scope, Stream};
use timely::progress::frontier::MutableAntichain;
use timely::scheduling::Activator;

use crate::parcels::{Letter, Letters, by_target};

/// The length of a round.
const ROUND: Duration = Duration::from_millis(4);
/// How many rounds a source may be ahead.
const AHEAD: u64 = 32;
/// The round of a source that reads nothing more before the next barrier.
const LAST_ROUND: u64 = u32::MAX as u64;
/// How long a source that is ahead waits before it looks again.
const WAIT: Duration = Duration::from_millis(1);
/// How long half-filled batches may wait while there is more to process.
const FLUSH_AFTER: Duration = Duration::from_millis(5);
/// How many batches a source reads in an activation at most: what each one sends to other processes wakes threads.
const MOST_BATCHES: usize = 8;
/// How many letters an activation processes at most.
const MOST_LETTERS: usize = 64;

fn time(checkpoint: u64, round: u64) -> u64 {
    (checkpoint << 32) | round
}

/// What all vertices of a worker share.
#[derive(Clone)]
pub(crate) struct Surroundings {
    pub(crate) worker: u32,
    /// The workers of this process: what goes to others becomes bytes.
    pub(crate) local: std::ops::Range<u32>,
    /// Where the slowest subtask of the job is.
    pub(crate) slowest: Handle<u64>,
    pub(crate) began: Instant,
    pub(crate) first: CheckpointId,
    /// Takes an error that is no subtask's own.
    pub(crate) fail: Rc<dyn Fn(Error)>,
}

/// The commands that have come for a subtask.
pub(crate) struct Inbox {
    commands: Rc<RefCell<VecDeque<Command>>>,
    activator: Activator,
}

impl Inbox {
    pub(crate) fn push(&self, command: Command) {
        self.commands.borrow_mut().push_back(command);
        self.activator.activate();
    }
}

/// One way out.
struct Output {
    edge: u32,
    codec: Option<EdgeCodec>,
    pusher: pushers::Output<u64, Letters>,
    /// What leaves at the next opportunity.
    letters: Vec<Letter>,
    capability: Capability<u64>,
}

/// A way in: takes letters with their times.
type Input = Box<dyn FnMut(&mut dyn FnMut(u64, Letters))>;

/// Builds the operator of `vertex`, which runs `subtask`. Takes the streams of its inputs out of `streams`, and
/// enters those of its outputs.
pub(crate) fn build<'scope>(
    scope: Scope<'scope, u64>,
    vertex: &PlanVertex,
    subtask: Subtask,
    edges: &[PlanEdge],
    streams: &mut HashMap<u32, Stream<'scope, u64, Letters>>,
    surroundings: &Surroundings,
) -> Inbox {
    let mut builder = OperatorBuilder::new(vertex.id().to_string(), scope);
    let mut inputs: Vec<(u32, Input)> = Vec::new();
    for edge in edges.iter().filter(|edge| edge.to == vertex.number()) {
        let Some(stream) = streams.remove(&edge.number) else { continue };
        let mut handle = builder.new_input(stream, by_target());
        let input = move |take: &mut dyn FnMut(u64, Letters)| {
            handle.for_each(|capability, letters| {
                let time = capability.least().copied().unwrap_or(u64::MAX);
                take(time, std::mem::take(letters));
            });
        };
        inputs.push((edge.number, Box::new(input)));
    }
    let mut ways_out = Vec::new();
    for edge in edges.iter().filter(|edge| edge.from == vertex.number()) {
        let (pusher, stream) = builder.new_output::<Letters>();
        streams.insert(edge.number, stream);
        ways_out.push((edge.number, edge.codec.clone(), pusher));
    }
    // Never sends anything: its frontier is how far the subtasks are.
    let (_silent, progress) = builder.new_output::<Vec<()>>();
    progress.probe_with(&surroundings.slowest);
    let activator = scope.activator_for(builder.operator_info().address);
    let commands = Rc::new(RefCell::new(VecDeque::new()));
    let inbox = Inbox {
        commands: Rc::clone(&commands),
        activator: scope.activator_for(builder.operator_info().address),
    };
    let (surroundings, is_source) = (surroundings.clone(), vertex.is_source());
    builder.build(move |mut capabilities| {
        let first = surroundings.first.0;
        capabilities.iter_mut().for_each(|capability| capability.downgrade(&time(first, 0)));
        let progress = capabilities.pop();
        let outputs = ways_out.into_iter().zip(capabilities);
        let outputs = outputs.map(|((edge, codec, pusher), capability)| {
            let letters = Vec::new();
            Output { edge, codec, pusher, letters, capability }
        });
        let mut running = Running {
            subtask,
            is_source,
            outputs: outputs.collect(),
            progress,
            checkpoint: first,
            began_at: 0,
            waiting: BTreeMap::new(),
            times: BTreeMap::new(),
            flushed: surroundings.began,
            surroundings,
            activator,
        };
        move |frontiers| {
            for (edge, input) in &mut inputs {
                input(&mut |time, letters| running.receive(*edge, time, letters));
            }
            loop {
                // Not borrowed while the command is followed.
                let Some(command) = commands.borrow_mut().pop_front() else { break };
                running.command(command);
            }
            running.run(frontiers);
        }
    });
    inbox
}

/// The subtask at work.
struct Running {
    subtask: Subtask,
    is_source: bool,
    outputs: Vec<Output>,
    progress: Option<Capability<u64>>,
    /// The next checkpoint that it cuts itself at.
    checkpoint: u64,
    /// The round at which the last cut was.
    began_at: u64,
    /// Letters that were not delivered, by the checkpoint before whose barrier they were sent, with their edge
    /// and time.
    waiting: BTreeMap<u64, VecDeque<(u32, u64, Letter)>>,
    /// How many letters wait at each time.
    times: BTreeMap<u64, usize>,
    flushed: Instant,
    surroundings: Surroundings,
    activator: Activator,
}

impl Running {
    fn receive(&mut self, edge: u32, time: u64, letters: Letters) {
        let waiting = self.waiting.entry(time >> 32).or_default();
        for letter in letters.0 {
            *self.times.entry(time).or_default() += 1;
            waiting.push_back((edge, time, letter));
        }
    }

    fn command(&mut self, command: Command) {
        let triggers = command.triggers();
        self.subtask.command(command);
        self.send();
        if let Some(CheckpointId(checkpoint)) = triggers.filter(|_| self.is_source) {
            self.cut_behind(checkpoint);
        }
    }

    /// The barrier of a checkpoint has left.
    fn cut_behind(&mut self, checkpoint: u64) {
        self.checkpoint = checkpoint + 1;
        self.began_at = self.round();
        self.advance(time(self.checkpoint, 0));
    }

    /// Lets go of all times before `to`.
    fn advance(&mut self, to: u64) {
        let capabilities =
            self.outputs.iter_mut().map(|output| &mut output.capability).chain(&mut self.progress);
        for capability in capabilities.filter(|capability| *capability.time() < to) {
            capability.downgrade(&to);
        }
    }

    fn round(&self) -> u64 {
        let round = self.surroundings.began.elapsed().as_nanos() / ROUND.as_nanos();
        u64::try_from(round).unwrap_or(LAST_ROUND).min(LAST_ROUND - 1)
    }

    fn run(&mut self, frontiers: &[MutableAntichain<u64>]) {
        if self.subtask.has_ended() {
            // Its times stay: what it has not done must not look as if it were.
            self.waiting.clear();
            self.times.clear();
        } else if self.is_source {
            self.read();
        } else {
            self.process(frontiers);
        }
    }

    /// Lets a source read, unless it is too far ahead.
    fn read(&mut self) {
        let round = if self.subtask.is_reading() { self.round() } else { LAST_ROUND };
        self.advance(time(self.checkpoint, round));
        let slowest = self.surroundings.slowest.with_frontier(|times| times.first().copied());
        let may_read = slowest.is_none_or(|slowest| {
            slowest.saturating_add(AHEAD) >= time(self.checkpoint, round)
                // Others are still at the checkpoint.
                || (slowest >> 32 < self.checkpoint && round <= self.began_at + AHEAD)
        });
        let mut turns = (0..MOST_BATCHES).map(|_| self.subtask.turn(may_read));
        let turn = turns.find(|turn| *turn != Turn::Again).unwrap_or(Turn::Again);
        self.send();
        match turn {
            Turn::Again => self.activator.activate(),
            _ if self.subtask.is_reading() && !may_read => self.activator.activate_after(WAIT),
            Turn::After(wait) => self.activator.activate_after(wait),
            Turn::Resting => {
                // At its end: the round is the last one.
                let round = if self.subtask.is_reading() { round } else { LAST_ROUND };
                self.advance(time(self.checkpoint, round));
            }
        }
    }

    fn process(&mut self, frontiers: &[MutableAntichain<u64>]) {
        let frontier =
            frontiers.iter().map(|frontier| frontier.frontier().first().copied().unwrap_or(u64::MAX));
        let frontier = frontier.min().unwrap_or(u64::MAX);
        let mut left = MOST_LETTERS;
        loop {
            while left > 0
                && let Some((edge, time, letter)) = self.next_letter()
            {
                left -= 1;
                self.subtask.deliver(edge, letter.from, letter.parcel);
                if let Some(count) = self.times.get_mut(&time) {
                    *count -= 1;
                    if *count == 0 {
                        self.times.remove(&time);
                    }
                }
            }
            self.send();
            let is_here = self.waiting.get(&self.checkpoint).is_none_or(VecDeque::is_empty);
            if !is_here || frontier < time(self.checkpoint + 1, 0) || self.subtask.has_ended() {
                break;
            }
            // Everything before the barrier was delivered.
            self.waiting.remove(&self.checkpoint);
            self.subtask.cut(CheckpointId(self.checkpoint));
            self.send();
            self.cut_behind(self.checkpoint);
        }
        let is_busy = left == 0 || (left < MOST_LETTERS && self.flushed.elapsed() < FLUSH_AFTER);
        if is_busy {
            self.activator.activate();
        } else {
            let turn = self.subtask.turn(false);
            self.flushed = Instant::now();
            self.send();
            match turn {
                Turn::Again => self.activator.activate(),
                Turn::After(wait) => self.activator.activate_after(wait),
                Turn::Resting => {}
            }
        }
        let oldest = self.times.keys().next().copied().unwrap_or(u64::MAX);
        if !self.subtask.has_ended() {
            self.advance(frontier.min(oldest).min(time(self.checkpoint + 1, 0) - 1));
        }
    }

    fn next_letter(&mut self) -> Option<(u32, u64, Letter)> {
        self.waiting.get_mut(&self.checkpoint)?.pop_front()
    }

    /// Sends what the subtask has left to be sent.
    fn send(&mut self) {
        while let Some(Outgoing { edge, target, parcel }) = self.subtask.take_output() {
            let Some(output) = self.outputs.iter_mut().find(|output| output.edge == edge) else { continue };
            let parcel = if self.surroundings.local.contains(&target) {
                Ok(parcel)
            } else {
                parcel.to_bytes(output.codec.as_ref()).map(Parcel::from_bytes)
            };
            match parcel {
                Ok(parcel) => output.letters.push(Letter { from: self.surroundings.worker, target, parcel }),
                Err(error) => (self.surroundings.fail)(error),
            }
        }
        // Together, because each container that leaves for another process wakes a thread.
        for output in self.outputs.iter_mut().filter(|output| !output.letters.is_empty()) {
            let mut letters = Letters(std::mem::take(&mut output.letters));
            output.pusher.activate().give(&output.capability, &mut letters);
        }
    }
}
