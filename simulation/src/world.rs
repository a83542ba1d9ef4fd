//! What a job meets in a simulation.

use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use strandline_checkpoint_storage::Storage;
use strandline_state_api::Timestamp;

use crate::input::Input;
use crate::output::{Output, System};
use crate::process::Process;
use crate::store::{Disk, SimStore};

/// What all processes share.
#[derive(Clone, Default)]
pub(crate) struct Outside(Arc<OutsideState>);

#[derive(Default)]
struct OutsideState {
    disk: Disk,
    systems: Mutex<BTreeMap<String, System>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Outside {
    pub(crate) fn disk(&self) -> &Disk {
        &self.0.disk
    }

    pub(crate) fn systems(&self) -> BTreeMap<String, System> {
        lock(&self.0.systems).clone()
    }
}

/// What a job finds around it, as one process sees it: inputs, outputs, the storage, the process itself.
#[derive(Clone)]
pub struct World {
    pub(crate) process: Process,
    pub(crate) outside: Outside,
}

impl World {
    /// A source of these records, dealt out to `splits` splits in turns. It must be the same whenever a process
    /// starts.
    pub fn input<T>(&self, records: impl IntoIterator<Item = T>, splits: usize) -> Input<T> {
        self.timed_input(records.into_iter().map(|record| (record, None)), splits)
    }

    /// As [`input`](Self::input), with event times. Those of each split must not go back: its watermark follows
    /// them.
    pub fn timed_input<T>(
        &self,
        records: impl IntoIterator<Item = (T, Option<Timestamp>)>,
        splits: usize,
    ) -> Input<T> {
        let mut parts: Vec<_> = (0..splits.max(1)).map(|_| Vec::new()).collect();
        for (number, record) in records.into_iter().enumerate() {
            parts[number % splits.max(1)].push(record);
        }
        Input::new(self.process.clone(), Arc::new(parts))
    }

    /// A sink to the outer system of that name, which outlives every process. Its records are compared with
    /// those of an undisturbed run by their `Debug` form.
    pub fn output<T: Debug>(&self, name: &str) -> Output<T> {
        let system = lock(&self.outside.0.systems).entry(name.to_owned()).or_default().clone();
        Output::new(self.process.clone(), system, self.outside.disk().clone())
    }

    /// The storage of the job, over a network with faults.
    pub fn storage(&self) -> Storage {
        let (disk, baton) = (self.outside.disk().clone(), self.process.baton.clone());
        let store = Arc::new(SimStore { disk, baton, process: self.process.id });
        Storage::from_parts("simulation://", Arc::clone(&store) as _, store)
    }

    /// The process that the job runs in.
    pub fn process(&self) -> &Process {
        &self.process
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "World(of {:?})", self.process)
    }
}
