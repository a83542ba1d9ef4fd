//! Beats: a process that is stopped and not dead keeps its connections, and timely would wait for it for ever.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// A beat of a process that goes on, and the last one of a process that ends.
const BEAT: u8 = 1;
const END: u8 = 0;
/// How many beats are sent in the time after which a process counts as lost.
const BEATS: u32 = 5;

/// The connections between the first process and each other.
pub(crate) struct Beats {
    streams: Vec<(usize, TcpStream)>,
    silence: Duration,
}

/// Beats under way. A process that drops them is lost to the others.
pub(crate) struct Beating {
    over: Arc<AtomicBool>,
    well: Arc<AtomicBool>,
    streams: Vec<TcpStream>,
    threads: Vec<JoinHandle<()>>,
}

impl Beats {
    pub(super) fn new(streams: Vec<Option<TcpStream>>, silence: Duration) -> Self {
        let streams = streams.into_iter().enumerate().filter_map(|(other, stream)| Some((other, stream?)));
        Self { streams: streams.collect(), silence }
    }

    /// Sends beats and listens for those of others; calls `lost` with the number of a process that is silent for
    /// too long, or gone without a last beat.
    pub(crate) fn begin(self, lost: impl Fn(usize) + Send + Sync + 'static) -> std::io::Result<Beating> {
        let (over, well, lost) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default(), Arc::new(lost));
        let (streams, threads) = (Vec::new(), Vec::new());
        let mut beating = Beating { over: Arc::clone(&over), well: Arc::clone(&well), streams, threads };
        for (other, stream) in self.streams {
            stream.set_read_timeout(Some(self.silence))?;
            stream.set_write_timeout(Some(self.silence))?;
            beating.streams.push(stream.try_clone()?);
            let (mut sender, mut receiver) = (stream.try_clone()?, stream);
            let (of_sender, of_receiver, lost) = (Arc::clone(&over), Arc::clone(&over), Arc::clone(&lost));
            let well = Arc::clone(&well);
            let pause = self.silence / BEATS;
            let send = move || {
                while !of_sender.load(SeqCst) && sender.write_all(&[BEAT]).is_ok() {
                    thread::park_timeout(pause);
                }
                if well.load(SeqCst) {
                    let _ = sender.write_all(&[END]);
                }
            };
            let receive = move || {
                let mut beat = [END];
                loop {
                    let read = receiver.read_exact(&mut beat);
                    if of_receiver.load(SeqCst) || (read.is_ok() && beat == [END]) {
                        return;
                    }
                    if read.is_err() {
                        return lost(other);
                    }
                }
            };
            beating.threads.push(thread::Builder::new().name(format!("beats-to-{other}")).spawn(send)?);
            beating.threads.push(thread::Builder::new().name(format!("beats-of-{other}")).spawn(receive)?);
        }
        Ok(beating)
    }
}

impl Beating {
    /// Ends them; the others learn that this process has ended well.
    pub(crate) fn end(self) {
        self.well.store(true, SeqCst);
    }
}

impl Drop for Beating {
    fn drop(&mut self) {
        self.over.store(true, SeqCst);
        for thread in &self.threads {
            thread.thread().unpark();
        }
        for stream in &self.streams {
            // Its own last beat still leaves.
            let _ = stream.shutdown(Shutdown::Read);
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
