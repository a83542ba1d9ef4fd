//! The baton: of all threads of a simulation, the one that holds it runs. Clock and timers.
//!
//! A thread hands the baton on wherever it would block, and where it lets others pass. The seed chooses who
//! gets it, among those that can go on. When none can, the clock jumps to the next deadline or timer.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fastrand::Rng;
use strandline_runtime::Ready;
use strandline_state_api::{Error, ErrorKind, Result};

use crate::state::{CURRENT, Fate, Flags, Moment, Process, ProcessId, SimThread, State, Status, Timer};
use crate::trace::Trace;

/// The time of the day at which every simulation begins, in seconds since the Unix epoch: 2025-01-01.
const BEGIN: u64 = 1_735_689_600;
/// How long one step takes at most, in microseconds.
const STEP: u64 = 20;
/// Of the calls that let others run, one in so many does.
const PASSES: u64 = 3;
/// More steps than any job of a reasonable size takes.
const MOST_STEPS: u64 = 3_000_000;

/// A simulation as its threads see it.
#[derive(Clone)]
pub(crate) struct Baton(Arc<Shared>);

struct Shared {
    base: Instant,
    /// The thread that holds the baton.
    holder: AtomicU64,
    state: Mutex<State>,
}

/// The panic that ends a thread of a process that died.
struct Killed;

impl Baton {
    /// Makes the calling thread the first of a simulation.
    pub(crate) fn new(seed: u64, traced: bool) -> Self {
        let state = State {
            random: Rng::with_seed(seed),
            now: Duration::ZERO,
            trace: Trace::new(traced),
            threads: Vec::new(),
            next_thread: 1,
            processes: Vec::new(),
            timers: BTreeMap::new(),
            next_timer: 0,
            steps: 0,
            stuck: None,
        };
        let shared = Shared { base: Instant::now(), holder: AtomicU64::new(0), state: Mutex::new(state) };
        let baton = Self(Arc::new(shared));
        CURRENT.set(0);
        let mut state = baton.state();
        state.processes.push(Process::new(1));
        state.threads.push(SimThread {
            number: 0,
            process: 0,
            name: "world".to_owned(),
            handle: std::thread::current(),
            status: Status::Ready,
            killed: false,
        });
        drop(state);
        baton
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes something in the trace.
    pub(crate) fn note(&self, text: impl FnOnce() -> String) {
        let mut state = self.state();
        let (process, thread) = state.current();
        let now = state.now;
        state.trace.add(now, process, &thread, text);
    }

    pub(crate) fn random<T>(&self, draw: impl FnOnce(&mut Rng) -> T) -> T {
        draw(&mut self.state().random)
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.state().now
    }

    pub(crate) fn instant(&self) -> Instant {
        self.0.base + self.elapsed()
    }

    pub(crate) fn wall(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(BEGIN) + self.elapsed()
    }

    /// The time of the day in milliseconds since the Unix epoch.
    pub(crate) fn wall_millis(&self) -> i64 {
        let elapsed = Duration::from_secs(BEGIN) + self.elapsed();
        i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
    }

    pub(crate) fn since_base(&self, then: Instant) -> Duration {
        then.saturating_duration_since(self.0.base)
    }

    // ---- processes

    pub(crate) fn add_process(&self) -> (ProcessId, Flags) {
        let mut state = self.state();
        let process = Process::new(0);
        let flags = process.flags.clone();
        state.processes.push(process);
        ((state.processes.len() - 1) as ProcessId, flags)
    }

    /// Lets something happen to a process.
    pub(crate) fn destine(&self, process: ProcessId, moment: Moment, fate: Fate) {
        self.state().processes[process as usize].fate = Some((moment, fate));
    }

    /// A process tries to create a slot.
    pub(crate) fn claims(&self, process: ProcessId) {
        if let Some((moment, _)) = &mut self.state().processes[process as usize].fate {
            moment.claims = moment.claims.saturating_sub(1);
        }
    }

    pub(crate) fn kill(&self, process: ProcessId) {
        self.state().kill(process);
    }

    /// Spares a process what was to happen to it.
    pub(crate) fn destine_nothing(&self, process: ProcessId) {
        self.state().processes[process as usize].fate = None;
    }

    pub(crate) fn is_alive(&self, process: ProcessId) -> bool {
        self.state().processes[process as usize].alive
    }

    /// Kills all processes but the world, and waits until their threads have ended.
    pub(crate) fn clear(&self) {
        let processes = self.state().processes.len() as ProcessId;
        (1..processes).for_each(|process| self.kill(process));
        while self.state().threads.len() > 1 {
            self.hand_on(Some(Status::Ready));
        }
    }

    /// Why the simulation cannot go on, if it cannot.
    pub(crate) fn stuck(&self) -> Option<String> {
        self.state().stuck.clone()
    }

    // ---- threads

    pub(crate) fn spawn(&self, process: ProcessId, name: &str, work: Box<dyn FnOnce() + Send>) -> Result<()> {
        let mut state = self.state();
        let number = state.next_thread;
        state.next_thread += 1;
        let baton = self.clone();
        let body = move || {
            CURRENT.set(number);
            baton.await_turn(number);
            if !baton.is_killed() {
                // What it ends with has been handed to whom it concerns, or it was killed.
                let _ = catch_unwind(AssertUnwindSafe(work));
            } else {
                let _ = catch_unwind(AssertUnwindSafe(|| drop(work)));
            }
            baton.end();
        };
        let builder = std::thread::Builder::new().name(name.to_owned()).stack_size(1 << 20);
        let spawned = builder.spawn(body).map_err(|error| {
            Error::new(ErrorKind::Unavailable, "no thread for a simulation").caused_by(error)
        })?;
        let killed = !state.processes[process as usize].alive;
        state.processes[process as usize].threads += 1;
        let (handle, status) = (spawned.thread().clone(), Status::Ready);
        let name = name.to_owned();
        state.threads.push(SimThread { number, process, name, handle, status, killed });
        Ok(())
    }

    /// Blocks until `ready`, or until the deadline.
    pub(crate) fn wait(&self, ready: Ready, deadline: Option<Duration>) {
        self.point();
        if self.gives_up() {
            return;
        }
        self.hand_on(Some(Status::Waits { ready, deadline }));
        self.gives_up();
    }

    /// A step of a thread that could go on.
    pub(crate) fn pass(&self) {
        self.point();
        if self.gives_up() {
            return;
        }
        let mut state = self.state();
        let asleep = state.is_asleep();
        let hands_on = state.random.u64(..PASSES) == 0;
        if !hands_on && !asleep {
            state.now += Duration::from_micros(1);
            return;
        }
        drop(state);
        self.hand_on(Some(Status::Ready));
        self.gives_up();
    }

    /// Blocks for so long.
    pub(crate) fn sleep(&self, time: Duration) {
        let until = self.elapsed() + time;
        while self.elapsed() < until && !std::thread::panicking() {
            self.wait(Box::new(|| false), Some(until));
        }
    }

    /// Counts a step of the current process, which may be its last.
    fn point(&self) {
        let mut state = self.state();
        let (process, thread) = state.current();
        let now = state.now;
        let Some(fate) = state.processes[process as usize].step() else { return };
        state.trace.add(now, process, &thread, || format!("process {process}: {fate:?}"));
        match fate {
            Fate::Crash => state.kill(process),
            Fate::Sleep(time) => {
                let process = &mut state.processes[process as usize];
                process.asleep_until = Some(now + time);
                process.flags.slept.store(true, SeqCst);
            }
        }
    }

    fn is_killed(&self) -> bool {
        let state = self.state();
        state.thread(CURRENT.get()).is_some_and(|thread| thread.killed)
    }

    /// Ends the thread if it was killed. One that unwinds already has to return.
    fn gives_up(&self) -> bool {
        let killed = self.is_killed();
        if killed && !std::thread::panicking() {
            resume_unwind(Box::new(Killed));
        }
        killed
    }

    /// The thread has ended.
    fn end(&self) {
        let mut state = self.state();
        let at = state.threads.iter().position(|thread| thread.number == CURRENT.get());
        if let Some(at) = at {
            let ended = state.threads.remove(at);
            let process = &mut state.processes[ended.process as usize];
            process.threads -= 1;
            process.flags.over.store(process.threads == 0, SeqCst);
        }
        drop(state);
        self.hand_on(None);
    }

    /// Hands the baton to whom the seed chooses; the thread waits for it unless it has ended.
    fn hand_on(&self, status: Option<Status>) {
        let me = CURRENT.get();
        let mut state = self.state();
        let ended = status.is_none();
        if let (Some(status), Some(thread)) = (status, state.thread_mut(me)) {
            thread.status = status;
        }
        state.steps += 1;
        let step = state.random.u64(1..=STEP);
        state.now += Duration::from_micros(step);
        if state.steps == MOST_STEPS {
            state.give_up(format!("the job does not end: {MOST_STEPS} steps were taken"));
        }
        let next = loop {
            let due = state.due_timers();
            if !due.is_empty() {
                drop(state);
                // They may drop futures, which remove timers of their own.
                due.into_iter().for_each(Timer::fire);
                state = self.state();
                continue;
            }
            if let Some(next) = state.choose() {
                break next;
            }
            if !state.jump() {
                let stuck = state.describe_waiting();
                state.give_up(stuck);
            }
        };
        let Some(thread) = state.thread_mut(next) else { return };
        let before = std::mem::replace(&mut thread.status, Status::Ready);
        let handle = thread.handle.clone();
        state.trace.handed_to(next);
        drop(state);
        drop(before);
        if next == me {
            return;
        }
        self.0.holder.store(next, SeqCst);
        handle.unpark();
        if !ended {
            self.await_turn(me);
        }
    }

    fn await_turn(&self, me: u64) {
        while self.0.holder.load(SeqCst) != me {
            std::thread::park();
        }
    }
}
