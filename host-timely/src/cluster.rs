//! Which workers run a job, and in which processes.

use std::time::Duration;

use strandline_runtime::JobConfig;
use strandline_state_api::{Error, ErrorKind, Result};

/// The workers that run a job.
#[derive(Clone, Debug)]
pub struct Cluster {
    pub(crate) workers: u32,
    pub(crate) processes: Option<Processes>,
}

/// The processes of a cluster, and which of them this one is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Processes {
    /// The address of each process, as `host:port`. A process listens on its own and connects to those before
    /// it. What they exchange is neither encrypted nor, but for the token, authenticated: all addresses must be
    /// on a network that nobody else reaches.
    pub addresses: Vec<String>,
    /// The number of this process, from 0. The first one coordinates.
    pub process: u32,
    /// The secret of this cluster: a process with another token cannot join. Processes that are about an earlier
    /// attempt cannot, either: the first one draws a number for each, and the others compare it.
    pub token: String,
    /// How long a process waits for all others to come, at the beginning of each attempt.
    pub join_timeout: Duration,
    /// How long a process may be silent before it counts as lost.
    pub silence: Duration,
}

impl Processes {
    /// Process number `process` of those at `addresses`; it waits 30 s for the others to come, and 10 s for one
    /// that is silent.
    pub fn new(addresses: impl IntoIterator<Item = impl Into<String>>, process: u32, token: &str) -> Self {
        Self {
            addresses: addresses.into_iter().map(Into::into).collect(),
            process,
            token: token.to_owned(),
            join_timeout: Duration::from_secs(30),
            silence: Duration::from_secs(10),
        }
    }

    /// Sets [`join_timeout`](Self#structfield.join_timeout).
    #[must_use]
    pub fn join_timeout(mut self, join_timeout: Duration) -> Self {
        self.join_timeout = join_timeout;
        self
    }

    /// Sets [`silence`](Self#structfield.silence).
    #[must_use]
    pub fn silence(mut self, silence: Duration) -> Self {
        self.silence = silence;
        self
    }
}

impl Cluster {
    /// So many workers in this process.
    pub fn local(workers: u32) -> Self {
        Self { workers, processes: None }
    }

    /// So many workers in each of several processes.
    pub fn of_processes(workers: u32, processes: Processes) -> Self {
        Self { workers, processes: Some(processes) }
    }

    /// Returns how many workers there are.
    pub fn parallelism(&self) -> u32 {
        self.workers.saturating_mul(self.count())
    }

    /// Returns how many workers each process has.
    pub fn workers(&self) -> u32 {
        self.workers
    }

    /// Returns the processes, where there are several.
    pub fn processes(&self) -> Option<&Processes> {
        self.processes.as_ref()
    }

    /// How many processes there are.
    pub(crate) fn count(&self) -> u32 {
        self.processes.as_ref().map_or(1, |processes| processes.addresses.len() as u32)
    }

    /// The number of the first worker of this process.
    pub(crate) fn first_worker(&self) -> usize {
        let process = self.processes.as_ref().map_or(0, |processes| processes.process);
        (process * self.workers) as usize
    }

    /// Refuses a storage that other processes cannot reach.
    pub(crate) fn check_storage(&self, config: &JobConfig) -> Result<()> {
        let Some(checkpointing) = &config.checkpointing else { return Ok(()) };
        let uri = checkpointing.storage.uri();
        if self.count() > 1 && uri.starts_with("memory:") {
            let message = "several processes cannot share a storage in the memory of one: use a directory that all \
                           of them see, or an object store";
            return Err(Error::new(ErrorKind::Unsupported, message).with("storage", uri));
        }
        Ok(())
    }
}
