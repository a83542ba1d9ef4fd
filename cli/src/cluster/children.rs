//! The processes that the first one starts, and starts again.

use std::io;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Scope;
use std::time::{Duration, Instant};

use strandline_host_timely::{Cluster, Processes};
use strandline_state_api::{Error, ErrorKind, Result};

use super::{SETUP, Setup};
use crate::progress::Progress;

/// How often a process is looked after.
const LOOK: Duration = Duration::from_millis(20);
/// The first pause before a process is started again, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// A process that ran so long has started well.
const WELL: Duration = Duration::from_secs(10);
/// How long processes may take to end when the job is over.
const GRACE: Duration = Duration::from_secs(5);

/// Processes under way; they end when it is dropped.
pub(super) struct Children(Arc<Over>);

/// Whether the job is over.
#[derive(Default)]
struct Over(Mutex<bool>, Condvar);

/// What starts one process.
struct Starter {
    process: u32,
    setup: String,
}

impl Children {
    /// Starts all processes but the first. A thread of `scope` looks after each.
    pub(super) fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        cluster: &Cluster,
        processes: &Processes,
        progress: &'scope Progress,
    ) -> Result<Self> {
        let children = Self(Arc::default());
        for process in 1..processes.addresses.len() as u32 {
            let setup = Setup {
                process,
                workers: cluster.workers(),
                addresses: processes.addresses.clone(),
                token: processes.token.clone(),
            };
            let setup = serde_json::to_string(&setup)
                .map_err(|error| Error::invalid("a process cannot be described").caused_by(error))?;
            let starter = Starter { process, setup };
            let first = starter.start().map_err(|error| {
                Error::new(ErrorKind::Unavailable, "a process of the job cannot be started").caused_by(error)
            })?;
            let over = Arc::clone(&children.0);
            scope.spawn(move || starter.look_after(first, &over, progress));
        }
        Ok(children)
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        *self.0.lock() = true;
        self.0.1.notify_all();
    }
}

impl Over {
    fn lock(&self) -> MutexGuard<'_, bool> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits, and returns whether the job is over.
    fn wait(&self, pause: Duration) -> bool {
        let waited = self.1.wait_timeout_while(self.lock(), pause, |over| !*over);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Starter {
    /// Starts the process, with the arguments of this one.
    fn start(&self) -> io::Result<(Child, Option<ChildStdin>)> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(std::env::args_os().skip(1)).env(SETUP, &self.setup);
        let mut child = command.stdin(Stdio::piped()).spawn()?;
        // It ends when this end of its input is closed.
        let held = child.stdin.take();
        Ok((child, held))
    }

    /// Starts the process again whenever it fails, until the job is over. One that ends well has found that out first.
    fn look_after(&self, first: (Child, Option<ChildStdin>), over: &Over, progress: &Progress) {
        let (mut running, mut began, mut pause) = (Some(first), Instant::now(), PAUSES.0);
        loop {
            if over.wait(LOOK) {
                break;
            }
            let ended = match &mut running {
                Some((child, _)) => match child.try_wait() {
                    Ok(None) => continue,
                    Ok(Some(status)) if status.success() => break,
                    Ok(Some(status)) => status.to_string(),
                    Err(error) => error.to_string(),
                },
                None => "it was not started".to_owned(),
            };
            if began.elapsed() >= WELL {
                pause = PAUSES.0;
            }
            progress.process_ended(self.process, &ended, pause);
            if over.wait(pause) {
                break;
            }
            pause = (pause * 2).min(PAUSES.1);
            began = Instant::now();
            running = self.start().ok();
        }
        if let Some((mut child, held)) = running {
            end(&mut child, held);
        }
    }
}

/// Waits for a process whose job is over.
fn end(child: &mut Child, held: Option<ChildStdin>) {
    let until = Instant::now() + GRACE;
    while Instant::now() < until && matches!(child.try_wait(), Ok(None)) {
        std::thread::sleep(LOOK);
    }
    drop(held);
    let _ = child.kill();
    let _ = child.wait();
}
