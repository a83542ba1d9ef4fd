//! How the processes of a cluster introduce themselves to each other.

use std::io::{self, ErrorKind as Io, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use super::Farewell;
use crate::cluster::Processes;

const MAGIC: &[u8; 8] = b"STRLMSH2";
/// The longest token, in bytes.
pub(super) const LONGEST_TOKEN: usize = 4096;
/// The longest reason of a farewell, in bytes.
const LONGEST_REASON: usize = 64 << 10;
/// How long a stranger may take for its greeting.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Data = 0,
    Beats = 1,
}

/// How a process introduces itself.
pub(super) struct Greeting {
    token: String,
    process: u32,
    processes: u32,
    workers: u32,
    purpose: Purpose,
    /// Zero where the first process is to name it.
    attempt: u64,
}

/// What a process answers to a greeting that belongs here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// To this attempt.
    Welcome(u64),
    Over(Farewell),
}

const WELCOME: u8 = 1;
const ENDED: u8 = 2;
const FAILED: u8 = 3;

impl Greeting {
    pub(super) fn new(workers: u32, processes: &Processes, purpose: Purpose, attempt: u64) -> Self {
        let Processes { token, process, addresses, .. } = processes;
        let (token, processes) = (token.clone(), addresses.len() as u32);
        Self { token, process: *process, processes, workers, purpose, attempt }
    }
}

/// Sends a greeting and reads the answer.
pub(super) fn greet(mut stream: TcpStream, greeting: &Greeting) -> io::Result<(TcpStream, Answer)> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut bytes = MAGIC.to_vec();
    for number in [greeting.process, greeting.processes, greeting.workers, greeting.purpose as u32] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.extend_from_slice(&greeting.attempt.to_le_bytes());
    bytes.extend_from_slice(&(greeting.token.len() as u32).to_le_bytes());
    bytes.extend_from_slice(greeting.token.as_bytes());
    stream.write_all(&bytes)?;
    let [kind] = read(&stream)?;
    let answer = match kind {
        WELCOME => Answer::Welcome(u64::from_le_bytes(read(&stream)?)),
        ENDED => Answer::Over(Farewell::Ended),
        FAILED => {
            let length = u32::from_le_bytes(read(&stream)?) as usize;
            let mut reason = vec![0; length.min(LONGEST_REASON)];
            stream.read_exact(&mut reason)?;
            Answer::Over(Farewell::Failed(String::from_utf8_lossy(&reason).into_owned()))
        }
        _ => return Err(io::Error::new(Io::InvalidData, "the answer cannot be read")),
    };
    stream.set_read_timeout(None)?;
    Ok((stream, answer))
}

/// Reads a greeting; answers it and returns who it is if that belongs here.
pub(super) fn receive(stream: &TcpStream, own: &Greeting, answer: &Answer) -> Option<(usize, Purpose)> {
    stream.set_nonblocking(false).ok()?;
    stream.set_nodelay(true).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let magic: [u8; MAGIC.len()] = read(stream).ok()?;
    let number = || Some(u32::from_le_bytes(read(stream).ok()?));
    let (process, processes, workers, purpose) = (number()?, number()?, number()?, number()?);
    let attempt = u64::from_le_bytes(read(stream).ok()?);
    let length = number()? as usize;
    let mut token = vec![0; length.min(LONGEST_TOKEN)];
    let mut both = stream;
    both.read_exact(&mut token).ok()?;
    let purpose = if purpose == Purpose::Beats as u32 { Purpose::Beats } else { Purpose::Data };
    let fits = magic == *MAGIC && same(&token, own.token.as_bytes());
    if !fits || (processes, workers) != (own.processes, own.workers) {
        tracing::warn!(process, processes, workers, "a process with another token or cluster was sent away");
        let _ = stream.shutdown(Shutdown::Both);
        return None;
    }
    if own.process > 0 && attempt != own.attempt {
        tracing::debug!(process, "a process that is about another attempt was sent away");
        let _ = stream.shutdown(Shutdown::Both);
        return None;
    }
    both.write_all(&answer.encoded()).ok()?;
    stream.set_read_timeout(None).ok()?;
    Some((process as usize, purpose))
}

impl Answer {
    fn encoded(&self) -> Vec<u8> {
        match self {
            Self::Welcome(attempt) => [&[WELCOME][..], &attempt.to_le_bytes()].concat(),
            Self::Over(Farewell::Ended) => vec![ENDED],
            Self::Over(Farewell::Failed(reason)) => {
                let reason = &reason.as_bytes()[..reason.len().min(LONGEST_REASON)];
                [&[FAILED][..], &(reason.len() as u32).to_le_bytes(), reason].concat()
            }
        }
    }
}

fn read<const N: usize>(mut stream: &TcpStream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Compares tokens in a time that does not depend on where they differ.
fn same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}
