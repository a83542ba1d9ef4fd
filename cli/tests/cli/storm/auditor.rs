//! Whoever sweeps, verifies and lists a storage beside the job that uses it.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::support::Folder;

/// The longest pause between two commands, in milliseconds.
const PAUSE: u64 = 300;

/// Runs commands on a storage until it is stopped. Each of them must succeed.
pub(super) struct Auditor {
    stop: Sender<()>,
    thread: JoinHandle<Audit>,
}

/// What an auditor has done.
#[derive(Debug, Default)]
pub(super) struct Audit {
    pub(super) sweeps: u32,
    pub(super) verified: u32,
}

impl Auditor {
    pub(super) fn start(folder: &Folder, storage: &str, seed: u64) -> Self {
        let ((stop, stopped), storage) = (channel(), storage.to_owned());
        let (mut random, make) = (fastrand::Rng::with_seed(seed), folder.maker());
        let thread = std::thread::spawn(move || {
            let mut audit = Audit::default();
            let pause = |random: &mut fastrand::Rng| Duration::from_millis(random.u64(..PAUSE));
            while stopped.recv_timeout(pause(&mut random)) == Err(RecvTimeoutError::Timeout) {
                let command = ["sweep", "verify", "list"][random.usize(..3)];
                let output = make(&["checkpoints", command, &storage]).output().unwrap();
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
                assert!(output.status.success(), "checkpoints {command} beside a job: {said}");
                assert!(!said.contains("not ours"), "checkpoints {command} beside a job: {said}");
                audit.sweeps += u32::from(command == "sweep");
                audit.verified += u32::from(command == "verify");
            }
            audit
        });
        Self { stop, thread }
    }

    pub(super) fn stop(self) -> Audit {
        drop(self.stop);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}
