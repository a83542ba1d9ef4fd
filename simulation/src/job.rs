//! The job under test, and what happens to it.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use strandline_checkpoint_storage::Storage;
use strandline_runtime::{JobConfig, JobControl, Outcome, Pipeline, run_stepped};
use strandline_state_api::Result;
use strandline_state_api::backend::BackendFactory;

use crate::world::World;

type Run = Arc<dyn Fn(&World, JobConfig, &JobControl) -> Result<Outcome> + Send + Sync>;
type Configure = Arc<dyn Fn(JobConfig, &World) -> JobConfig + Send + Sync>;
type Wrap = Arc<dyn Fn(Storage, &World) -> Storage + Send + Sync>;

/// A job to simulate: what each of its processes does.
///
/// What it puts out must not depend on the order in which its splits are read, nor on its parallelism: it is
/// compared with an undisturbed run. Everything that it does outside of its state goes through its
/// [`World`]: a file or a clock of the system would not die, sleep and repeat with the simulation.
#[derive(Clone)]
pub struct Job {
    pub(crate) run: Run,
    pub(crate) configure: Configure,
    pub(crate) storage: Wrap,
    pub(crate) parallelism: RangeInclusive<u32>,
}

impl Job {
    /// The job whose pipeline `build` returns, anew for each process.
    pub fn new<F: BackendFactory>(build: impl Fn(&World) -> Pipeline<F> + Send + Sync + 'static) -> Self {
        Self::of_engine(move |world, config, control| {
            let report = run_stepped(&build(world), config, control, world.process().scheduler())?;
            Ok(report.outcome)
        })
    }

    /// A job on an engine of your own: `run` is called on a thread of each process. It has the storage, and what
    /// else the engine needs of it, from the configuration, and follows the control as far as it likes. It
    /// starts threads, sleeps and waits by the [`Process`](crate::Process) alone, and returns
    /// [`Finished`](Outcome::Finished) once everything was read and committed, in later processes, too.
    pub fn of_engine(
        run: impl Fn(&World, JobConfig, &JobControl) -> Result<Outcome> + Send + Sync + 'static,
    ) -> Self {
        Self {
            run: Arc::new(run),
            configure: Arc::new(|config, _| config),
            storage: Arc::new(|storage, _| storage),
            parallelism: 1..=3,
        }
    }

    /// Changes the configuration, which the seed has drawn, each time that a process starts.
    #[must_use]
    pub fn configure(
        mut self,
        configure: impl Fn(JobConfig, &World) -> JobConfig + Send + Sync + 'static,
    ) -> Self {
        self.configure = Arc::new(configure);
        self
    }

    /// Puts something between the job and its storage, each time that a process starts.
    #[must_use]
    pub fn storage(mut self, wrap: impl Fn(Storage, &World) -> Storage + Send + Sync + 'static) -> Self {
        self.storage = Arc::new(wrap);
        self
    }

    /// Sets the bounds of the parallelism, which the seed draws for each process; 1 to 3 by default.
    #[must_use]
    pub fn parallelism(mut self, parallelism: RangeInclusive<u32>) -> Self {
        self.parallelism = parallelism;
        self
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("parallelism", &self.parallelism).finish_non_exhaustive()
    }
}

/// What may happen to a job.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Faults {
    /// The greatest share of the operations of the store that is disturbed: lost, done without an answer, done
    /// late, done twice, torn, or very slow. The seed draws a share up to this one.
    pub store: f64,
    /// How many disturbances of whole processes there are at most; the seed draws the number.
    pub disturbances: u32,
    /// Which they are.
    pub kinds: Vec<Disturbance>,
}

/// What happens to a whole process of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Disturbance {
    /// It dies at one of its steps; the next starts, mostly at another parallelism.
    Crash,
    /// It sleeps at one of its steps, and wakes while another one runs.
    Sleep,
    /// Another one starts beside it.
    Rival,
    /// It is stopped gracefully.
    Stop,
    /// It takes a savepoint.
    Savepoint,
    /// Somebody asks for its live state, a few times.
    Live,
    /// The next one starts from an older checkpoint.
    Fallback,
    /// The manifest of its newest checkpoint is lost.
    Damage,
}

impl Disturbance {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Crash,
        Self::Sleep,
        Self::Rival,
        Self::Stop,
        Self::Savepoint,
        Self::Live,
        Self::Fallback,
        Self::Damage,
    ];
}

impl Faults {
    /// None at all.
    pub fn none() -> Self {
        Self { store: 0.0, disturbances: 0, kinds: Vec::new() }
    }

    /// Everything, up to five times, with up to a twentieth of the operations of the store disturbed.
    pub fn all() -> Self {
        Self { store: 0.05, disturbances: 5, kinds: Disturbance::ALL.to_vec() }
    }

    /// Sets [`store`](Self#structfield.store).
    #[must_use]
    pub fn store(mut self, store: f64) -> Self {
        self.store = store;
        self
    }

    /// Sets [`disturbances`](Self#structfield.disturbances).
    #[must_use]
    pub fn disturbances(mut self, disturbances: u32) -> Self {
        self.disturbances = disturbances;
        self
    }

    /// Sets [`kinds`](Self#structfield.kinds).
    #[must_use]
    pub fn kinds(mut self, kinds: impl IntoIterator<Item = Disturbance>) -> Self {
        self.kinds = kinds.into_iter().collect();
        self
    }
}

impl Default for Faults {
    fn default() -> Self {
        Self::all()
    }
}
