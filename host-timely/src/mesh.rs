//! The connections between the processes of a cluster.

mod beats;
mod greeting;

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind as Io};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::thread;
use std::time::{Duration, Instant};

use strandline_state_api::{Error, ErrorKind, Result};

pub(crate) use self::beats::{Beating, Beats};
use self::greeting::{Answer, Greeting, LONGEST_TOKEN, Purpose, greet, receive};
use crate::cluster::Processes;

/// How often a process looks for another.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// The longest wait for one connection, so that a process notices meanwhile what else has changed.
const REACH: Duration = Duration::from_secs(1);
/// How long the coordinator waits for the others to hear that the job is over.
const FAREWELL: Duration = Duration::from_secs(5);

/// A connection to every other process, and one more for beats between the first and each other.
pub(crate) struct Mesh {
    /// By the number of the process; `None` for this one.
    pub(crate) streams: Vec<Option<TcpStream>>,
    pub(crate) beats: Beats,
}

/// What comes of gathering the processes of a cluster.
pub(crate) enum Gathered {
    /// All are here, for the next attempt.
    All(Mesh),
    /// The job is over.
    Over(Farewell),
}

/// What the coordinator leaves to the others when the job is over outside of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Farewell {
    /// It has finished, was stopped, or was cancelled.
    Ended,
    /// It has failed for good, for this reason.
    Failed(String),
}

/// The processes of a cluster, as one of them gathers them.
struct Gathering<'a> {
    workers: u32,
    processes: &'a Processes,
    deadline: Instant,
    is_over: &'a dyn Fn() -> bool,
    /// Drawn by the first process for each attempt: whoever is still about another one is sent away.
    attempt: u64,
    streams: Vec<Option<TcpStream>>,
    beats: Vec<Option<TcpStream>>,
}

impl Mesh {
    /// Connects to the processes before this one and awaits those behind it, for one attempt. Gives up where
    /// `is_over`.
    pub(crate) fn gather(
        workers: u32,
        processes: &Processes,
        is_over: &dyn Fn() -> bool,
    ) -> Result<Gathered> {
        let count = processes.addresses.len();
        let none = || (0..count).map(|_| None).collect();
        let gathering = Gathering {
            workers,
            processes,
            deadline: Instant::now() + processes.join_timeout,
            is_over,
            attempt: RandomState::new().hash_one(processes.process),
            streams: none(),
            beats: none(),
        };
        gathering.gather()
    }

    /// Sends the other processes away, as they come for another attempt.
    pub(crate) fn dismiss(workers: u32, processes: &Processes, farewell: &Farewell) {
        let Ok(listener) = listen(processes) else { return };
        let deadline = Instant::now() + processes.join_timeout.min(FAREWELL);
        let own = Greeting::new(workers, processes, Purpose::Data, 0);
        let mut left: BTreeSet<_> = (1..processes.addresses.len()).collect();
        while !left.is_empty() && Instant::now() < deadline {
            match listener.accept() {
                Ok((stream, _)) => {
                    if let Some((other, _)) = receive(&stream, &own, &Answer::Over(farewell.clone())) {
                        left.remove(&other);
                    }
                }
                Err(_) => thread::sleep(LOOK_AGAIN),
            }
        }
    }
}

impl Gathering<'_> {
    fn gather(mut self) -> Result<Gathered> {
        let (own, count) = (self.processes.process as usize, self.processes.addresses.len());
        if own >= count {
            let message = format!("process {own} is not among the {count} addresses of its cluster");
            return Err(Error::invalid(message));
        }
        if self.processes.token.len() > LONGEST_TOKEN || self.workers == 0 {
            return Err(Error::invalid("a cluster needs workers, and a token of at most 4096 bytes"));
        }
        let listener = listen(self.processes)?;
        for other in 0..own {
            match self.reach(other, Purpose::Data)? {
                Ok(stream) => self.streams[other] = Some(stream),
                Err(farewell) => return Ok(Gathered::Over(farewell)),
            }
            if other == 0 {
                match self.reach(0, Purpose::Beats)? {
                    Ok(stream) => self.beats[0] = Some(stream),
                    Err(farewell) => return Ok(Gathered::Over(farewell)),
                }
            }
        }
        while let Some(missing) = self.missing() {
            match listener.accept() {
                Ok((stream, _)) => self.take(stream),
                Err(error) if error.kind() == Io::WouldBlock => {
                    self.check_patience(missing, None)?;
                    thread::sleep(LOOK_AGAIN);
                }
                Err(error) => return Err(cannot_listen(&self.processes.addresses[own], error)),
            }
        }
        let Self { streams, beats, processes, .. } = self;
        Ok(Gathered::All(Mesh { streams, beats: Beats::new(beats, processes.silence) }))
    }

    /// A process that has not come yet, or is gone again.
    fn missing(&mut self) -> Option<usize> {
        let (own, count) = (self.processes.process as usize, self.processes.addresses.len());
        for streams in [&mut self.streams, &mut self.beats] {
            for stream in &mut streams[own + 1..] {
                if stream.as_ref().is_some_and(is_gone) {
                    *stream = None;
                }
            }
        }
        let is_missing =
            |other: &usize| self.streams[*other].is_none() || (own == 0 && self.beats[*other].is_none());
        (own + 1..count).find(is_missing)
    }

    /// Takes the connection of a process behind this one. Whoever does not belong here is sent away.
    fn take(&mut self, stream: TcpStream) {
        let own = Greeting::new(self.workers, self.processes, Purpose::Data, self.attempt);
        let Some((other, purpose)) = receive(&stream, &own, &Answer::Welcome(self.attempt)) else { return };
        let of = match purpose {
            Purpose::Data => &mut self.streams,
            Purpose::Beats => &mut self.beats,
        };
        if other > self.processes.process as usize && other < of.len() {
            of[other] = Some(stream);
        }
    }

    /// Connects to a process that may not be there yet, or that is not the one of this cluster yet.
    fn reach(&mut self, other: usize, purpose: Purpose) -> Result<Result<TcpStream, Farewell>> {
        let address = &self.processes.addresses[other];
        // The first process names the attempt, and all others compare.
        let attempt = if other == 0 { 0 } else { self.attempt };
        let greeting = Greeting::new(self.workers, self.processes, purpose, attempt);
        loop {
            match connect(address, self.deadline).and_then(|stream| greet(stream, &greeting)) {
                Ok((stream, Answer::Welcome(attempt))) => {
                    // Between its two connections to the first process, that may have begun anew.
                    if other > 0 || purpose == Purpose::Data || attempt == self.attempt {
                        self.attempt = attempt;
                        return Ok(Ok(stream));
                    }
                    return Err(unavailable("the first process of the cluster begins anew", address));
                }
                Ok((_, Answer::Over(farewell))) => return Ok(Err(farewell)),
                Err(error) => self.check_patience(other, Some(error))?,
            }
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// Fails when it is no use to wait for a process any longer.
    fn check_patience(&self, other: usize, cause: Option<io::Error>) -> Result<()> {
        let address = &self.processes.addresses[other];
        if (self.is_over)() {
            return Err(unavailable("the job was cancelled while its processes gathered", address));
        }
        if other > 0 && self.streams[0].as_ref().is_some_and(is_gone) {
            return Err(unavailable(
                "the first process of the cluster is gone",
                &self.processes.addresses[0],
            ));
        }
        if Instant::now() < self.deadline {
            return Ok(());
        }
        Err(match cause {
            Some(cause) => {
                let message =
                    "a process of the cluster was not reached in time, or refused the token of this one";
                unavailable(message, address).caused_by(cause)
            }
            None => unavailable(&format!("process {other} has not come in time"), address),
        })
    }
}

fn listen(processes: &Processes) -> Result<TcpListener> {
    let address = &processes.addresses[processes.process as usize];
    let listener = TcpListener::bind(address).map_err(|error| cannot_listen(address, error))?;
    listener.set_nonblocking(true).map_err(|error| cannot_listen(address, error))?;
    Ok(listener)
}

fn cannot_listen(address: &str, error: io::Error) -> Error {
    unavailable("the address cannot be listened on", address).caused_by(error)
}

fn unavailable(message: &str, address: &str) -> Error {
    Error::new(ErrorKind::Unavailable, message).with("address", address)
}

/// Whether the other end has closed a connection on which nothing was read yet.
fn is_gone(stream: &TcpStream) -> bool {
    let peeked = stream.set_nonblocking(true).and_then(|()| stream.peek(&mut [0]));
    let back = stream.set_nonblocking(false);
    let gone = match peeked {
        Ok(bytes) => bytes == 0,
        Err(error) => error.kind() != Io::WouldBlock,
    };
    gone || back.is_err()
}

fn connect(address: &str, deadline: Instant) -> io::Result<TcpStream> {
    let mut last = io::Error::new(Io::NotFound, "the host has no address");
    for address in address.to_socket_addrs()? {
        let left = deadline.saturating_duration_since(Instant::now());
        match TcpStream::connect_timeout(&address, left.clamp(Duration::from_millis(1), REACH)) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}
