//! What the threads of a simulation are, who of them can go on, and what is still to come.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::Waker;
use std::thread::Thread;
use std::time::Duration;

use fastrand::Rng;
use strandline_runtime::Ready;

use crate::trace::Trace;

/// The number of a process. The world itself is process 0.
pub(crate) type ProcessId = u32;

thread_local! {
    /// The number of the calling thread.
    pub(crate) static CURRENT: Cell<u64> = const { Cell::new(0) };
}

/// Everything about a simulation that its threads share.
pub(crate) struct State {
    pub(crate) random: Rng,
    pub(crate) now: Duration,
    pub(crate) trace: Trace,
    pub(crate) threads: Vec<SimThread>,
    pub(crate) next_thread: u64,
    pub(crate) processes: Vec<Process>,
    pub(crate) timers: BTreeMap<(Duration, u64), Timer>,
    pub(crate) next_timer: u64,
    pub(crate) steps: u64,
    /// Why the simulation cannot go on.
    pub(crate) stuck: Option<String>,
}

/// A thread of a simulation.
pub(crate) struct SimThread {
    pub(crate) number: u64,
    pub(crate) process: ProcessId,
    pub(crate) name: String,
    pub(crate) handle: Thread,
    pub(crate) status: Status,
    /// It ends at its next call.
    pub(crate) killed: bool,
}

/// Whether a thread can go on.
pub(crate) enum Status {
    Ready,
    Waits { ready: Ready, deadline: Option<Duration> },
}

/// A process: threads that die and sleep together.
pub(crate) struct Process {
    pub(crate) alive: bool,
    pub(crate) asleep_until: Option<Duration>,
    /// What happens to it, and when.
    pub(crate) fate: Option<(Moment, Fate)>,
    pub(crate) threads: usize,
    pub(crate) flags: Flags,
}

/// What others may wait for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flags {
    /// All threads of a process have ended.
    pub(crate) over: Arc<AtomicBool>,
    /// It has been put to sleep.
    pub(crate) slept: Arc<AtomicBool>,
}

/// When something happens to a process: after it has tried to create so many slots of the log, and so many
/// steps more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    pub(crate) claims: u64,
    pub(crate) steps: u64,
}

/// What happens to a process from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It dies.
    Crash,
    /// None of its threads gets the baton for so long.
    Sleep(Duration),
}

/// What is still to come.
pub(crate) enum Timer {
    Wake(Waker),
    Do(Box<dyn FnOnce() + Send>),
}

impl State {
    pub(crate) fn thread(&self, number: u64) -> Option<&SimThread> {
        self.threads.iter().find(|thread| thread.number == number)
    }

    pub(crate) fn thread_mut(&mut self, number: u64) -> Option<&mut SimThread> {
        self.threads.iter_mut().find(|thread| thread.number == number)
    }

    pub(crate) fn current(&self) -> (ProcessId, String) {
        let thread = self.thread(CURRENT.get());
        thread.map_or((0, String::new()), |thread| (thread.process, thread.name.clone()))
    }

    /// Whether the process of the calling thread sleeps.
    pub(crate) fn is_asleep(&self) -> bool {
        let thread = self.thread(CURRENT.get());
        let asleep = thread.and_then(|thread| self.processes[thread.process as usize].asleep_until);
        asleep.is_some_and(|until| until > self.now)
    }

    pub(crate) fn kill(&mut self, process: ProcessId) {
        let killed = &mut self.processes[process as usize];
        (killed.alive, killed.asleep_until, killed.fate) = (false, None, None);
        for thread in self.threads.iter_mut().filter(|thread| thread.process == process) {
            thread.killed = true;
        }
    }

    /// Ends everything but the world, which finds out.
    pub(crate) fn give_up(&mut self, why: String) {
        self.stuck.get_or_insert(why);
        for process in 1..self.processes.len() {
            self.kill(process as ProcessId);
        }
        if let Some(world) = self.threads.first_mut() {
            world.status = Status::Ready;
        }
    }

    /// Chooses who goes on, among those that can.
    pub(crate) fn choose(&mut self) -> Option<u64> {
        let count = self.threads.len();
        let first = self.random.usize(..count.max(1));
        (0..count)
            .map(|step| &self.threads[(first + step) % count])
            .find(|t| self.can_run(t))
            .map(|t| t.number)
    }

    pub(crate) fn can_run(&self, thread: &SimThread) -> bool {
        if thread.killed {
            return true;
        }
        let process = &self.processes[thread.process as usize];
        if process.asleep_until.is_some_and(|until| until > self.now) {
            return false;
        }
        match &thread.status {
            Status::Ready => true,
            Status::Waits { ready, deadline } => {
                deadline.is_some_and(|deadline| deadline <= self.now) || ready()
            }
        }
    }

    /// Moves the clock to when something can happen; returns false if nothing ever will.
    pub(crate) fn jump(&mut self) -> bool {
        let deadlines = self.threads.iter().filter_map(|thread| {
            let asleep = self.processes[thread.process as usize].asleep_until;
            let deadline = match &thread.status {
                Status::Waits { deadline, .. } => *deadline,
                Status::Ready => None,
            };
            asleep.filter(|until| *until > self.now).or(deadline)
        });
        let timer = self.timers.keys().next().map(|(at, _)| *at);
        let Some(next) = deadlines.chain(timer).min() else { return false };
        self.now = self.now.max(next);
        true
    }

    pub(crate) fn add_timer(&mut self, at: Duration, timer: Timer) -> (Duration, u64) {
        self.next_timer += 1;
        self.timers.insert((at, self.next_timer), timer);
        (at, self.next_timer)
    }

    pub(crate) fn due_timers(&mut self) -> Vec<Timer> {
        let mut due = Vec::new();
        while let Some(first) = self.timers.first_entry().filter(|timer| timer.key().0 <= self.now) {
            due.push(first.remove());
        }
        due
    }

    pub(crate) fn describe_waiting(&self) -> String {
        let names =
            self.threads.iter().map(|thread| format!("{} of process {}", thread.name, thread.process));
        format!("every thread waits for another: {}", names.collect::<Vec<_>>().join(", "))
    }
}

impl Process {
    pub(crate) fn new(threads: usize) -> Self {
        Self { alive: true, asleep_until: None, fate: None, threads, flags: Flags::default() }
    }

    /// Counts a step; returns what happens to the process now.
    pub(crate) fn step(&mut self) -> Option<Fate> {
        let (moment, fate) = self.fate.as_mut().filter(|(moment, _)| moment.claims == 0)?;
        moment.steps = moment.steps.saturating_sub(1);
        let fate = (moment.steps == 0).then_some(*fate)?;
        self.fate = None;
        Some(fate)
    }
}

impl Timer {
    pub(crate) fn fire(self) {
        match self {
            Self::Wake(waker) => waker.wake(),
            Self::Do(work) => work(),
        }
    }
}
