//! The connections between the processes of a cluster.

mod beats;

use std::io::{self, ErrorKind as Io, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, ToSocketAddrs};
use std::thread;
use std::time::{Duration, Instant};

use strandline_state_api::{Error, ErrorKind, Result};

pub(crate) use self::beats::{Beating, Beats};
use crate::cluster::Processes;

const MAGIC: &[u8; 8] = b"STRLMSH1";
/// The longest token, in bytes.
const LONGEST_TOKEN: usize = 4096;
/// How often a process looks for another.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How long a stranger may take for its greeting.
const PATIENCE: Duration = Duration::from_secs(2);

/// A connection to every other process, and one more for beats between the first and each other.
pub(crate) struct Mesh {
    /// By the number of the process; `None` for this one.
    pub(crate) streams: Vec<Option<TcpStream>>,
    pub(crate) beats: Beats,
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Data = 0,
    Beats = 1,
}

/// How a process introduces itself.
struct Greeting {
    token: String,
    process: u32,
    processes: u32,
    workers: u32,
    purpose: Purpose,
}

impl Mesh {
    /// Connects to the processes before this one and awaits those behind it.
    pub(crate) fn connect(workers: u32, processes: &Processes) -> Result<Self> {
        let own = processes.process as usize;
        let count = processes.addresses.len();
        let Some(address) = processes.addresses.get(own) else {
            let message = format!("process {own} is not among the {count} addresses of its cluster");
            return Err(Error::invalid(message));
        };
        if processes.token.len() > LONGEST_TOKEN || workers == 0 {
            return Err(Error::invalid("a cluster needs workers, and a token of at most 4096 bytes"));
        }
        let deadline = Instant::now() + processes.join_timeout;
        let listener =
            TcpListener::bind(address).map_err(|error| at(address, "cannot be listened on", error))?;
        listener.set_nonblocking(true).map_err(|error| at(address, "cannot be listened on", error))?;
        let mut streams: Vec<Option<TcpStream>> = (0..count).map(|_| None).collect();
        let mut beats: Vec<Option<TcpStream>> = (0..count).map(|_| None).collect();
        let greeting = |purpose| Greeting {
            token: processes.token.clone(),
            process: processes.process,
            processes: count as u32,
            workers,
            purpose,
        };
        for (other, address) in processes.addresses.iter().enumerate().take(own) {
            streams[other] = Some(reach(address, &greeting(Purpose::Data), deadline)?);
            if other == 0 {
                beats[0] = Some(reach(address, &greeting(Purpose::Beats), deadline)?);
            }
        }
        let is_missing = |streams: &[Option<TcpStream>], beats: &[Option<TcpStream>]| {
            let data = (own + 1..count).find(|other| streams[*other].is_none());
            data.or_else(|| (1..count).find(|other| own == 0 && beats[*other].is_none()))
        };
        while let Some(missing) = is_missing(&streams, &beats) {
            match listener.accept() {
                Ok((stream, _)) => {
                    // Whoever does not belong here is sent away.
                    let Some((other, purpose)) = receive(&stream, &greeting(Purpose::Data)) else { continue };
                    let of = match purpose {
                        Purpose::Data => &mut streams,
                        Purpose::Beats => &mut beats,
                    };
                    if other > own && other < count {
                        of[other] = Some(stream);
                    }
                }
                Err(error) if error.kind() == Io::WouldBlock => {
                    if Instant::now() >= deadline {
                        let address = &processes.addresses[missing];
                        let message = format!("process {missing} has not come in time");
                        return Err(Error::new(ErrorKind::Unavailable, message).with("address", address));
                    }
                    thread::sleep(LOOK_AGAIN);
                }
                Err(error) => return Err(at(address, "cannot be listened on", error)),
            }
        }
        Ok(Self { streams, beats: Beats::new(beats, processes.silence) })
    }
}

fn at(address: &str, what: &str, error: io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, format!("the address {what}"))
        .with("address", address)
        .caused_by(error)
}

/// Connects to a process that may not be there yet, or that is not the one of this cluster yet.
fn reach(address: &str, greeting: &Greeting, deadline: Instant) -> Result<TcpStream> {
    loop {
        let reached = connect(address, deadline).and_then(|stream| greet(stream, greeting));
        match reached {
            Ok(stream) => return Ok(stream),
            Err(error) if Instant::now() >= deadline => {
                let message =
                    "a process of the cluster was not reached in time, or refused the token of this one";
                return Err(Error::new(ErrorKind::Unavailable, message)
                    .with("address", address)
                    .caused_by(error));
            }
            Err(_) => thread::sleep(LOOK_AGAIN),
        }
    }
}

fn connect(address: &str, deadline: Instant) -> io::Result<TcpStream> {
    let mut last = io::Error::new(Io::NotFound, "the host has no address");
    for address in address.to_socket_addrs()? {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        match TcpStream::connect_timeout(&address, left) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn greet(mut stream: TcpStream, greeting: &Greeting) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut bytes = MAGIC.to_vec();
    for number in [greeting.process, greeting.processes, greeting.workers, greeting.purpose as u32] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.extend_from_slice(&(greeting.token.len() as u32).to_le_bytes());
    bytes.extend_from_slice(greeting.token.as_bytes());
    stream.write_all(&bytes)?;
    let mut answer = [0];
    stream.read_exact(&mut answer)?;
    stream.set_read_timeout(None)?;
    Ok(stream)
}

/// Reads a greeting; returns who it is if that belongs here.
fn receive(mut stream: &TcpStream, own: &Greeting) -> Option<(usize, Purpose)> {
    stream.set_nonblocking(false).ok()?;
    stream.set_nodelay(true).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let mut magic = [0; MAGIC.len()];
    stream.read_exact(&mut magic).ok()?;
    let mut number = || -> Option<u32> {
        let mut bytes = [0; 4];
        stream.read_exact(&mut bytes).ok()?;
        Some(u32::from_le_bytes(bytes))
    };
    let (process, processes, workers, purpose) = (number()?, number()?, number()?, number()?);
    let length = number()? as usize;
    let mut token = vec![0; length.min(LONGEST_TOKEN)];
    stream.read_exact(&mut token).ok()?;
    let purpose = if purpose == Purpose::Beats as u32 { Purpose::Beats } else { Purpose::Data };
    let fits = magic == *MAGIC && same(&token, own.token.as_bytes());
    if !fits || (processes, workers) != (own.processes, own.workers) {
        tracing::warn!(process, processes, workers, "a process with another token or cluster was sent away");
        let _ = stream.shutdown(Shutdown::Both);
        return None;
    }
    stream.write_all(&[1]).ok()?;
    stream.set_read_timeout(None).ok()?;
    Some((process as usize, purpose))
}

/// Compares tokens in a time that does not depend on where they differ.
fn same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}
