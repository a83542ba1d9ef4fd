//! Input that can be read once: standard input, a pipe, a device.
//!
//! A thread reads it, so that the source never waits for it while a barrier waits for the source. A stream
//! has no identity beyond its content: a job that resumes reads it from its beginning again, skips what the
//! checkpoint has, and compares the mark there.

use std::io::{self, Cursor, Read};
use std::path::Path;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};

use strandline_state_api::{Error, ErrorKind, Result};

use super::packing::{Packing, Unpacker};
use super::place::{InputPath, STDIN, unreadable};

/// How many pieces wait between the thread and the source.
const PIECES: usize = 8;
const PIECE: usize = 64 << 10;

/// The content of a stream, decompressed.
pub(super) struct StreamReader {
    pieces: Receiver<Result<Vec<u8>>>,
    piece: Cursor<Vec<u8>>,
    failed: Option<Error>,
    ended: bool,
}

impl StreamReader {
    /// Begins to read.
    pub(super) fn start(path: &InputPath) -> Result<Self> {
        let (sender, pieces) = sync_channel(PIECES);
        let path = path.clone();
        let reads = move || {
            let mut content = match open(&path) {
                Ok(content) => content,
                Err(e) => return drop(sender.send(Err(unreadable(&path, e)))),
            };
            let mut offset = 0;
            loop {
                let mut piece = vec![0; PIECE];
                match content.read(&mut piece) {
                    Ok(0) => return,
                    Ok(len) => {
                        piece.truncate(len);
                        offset += len as u64;
                        // Nobody reads on when the job ends.
                        if sender.send(Ok(piece)).is_err() {
                            return;
                        }
                    }
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(e) => return drop(sender.send(Err(content.error(&path, offset, e)))),
                }
            }
        };
        std::thread::Builder::new().name("strandline-stream".to_owned()).spawn(reads).map_err(|e| {
            Error::new(ErrorKind::Unavailable, "the thread that reads the input cannot start").caused_by(e)
        })?;
        Ok(Self { pieces, piece: Cursor::default(), failed: None, ended: false })
    }

    /// Whether a read returns at once.
    pub(super) fn is_ready(&mut self) -> bool {
        if self.ended || self.failed.is_some() || self.has_bytes() {
            return true;
        }
        let received = match self.pieces.try_recv() {
            Err(TryRecvError::Empty) => return false,
            Err(TryRecvError::Disconnected) => None,
            Ok(received) => Some(received),
        };
        self.receive(received);
        true
    }

    /// Reads the bytes that are there, up to so many; waits for the first.
    pub(super) fn head(&mut self, most: usize) -> io::Result<Vec<u8>> {
        let mut head = vec![0; most];
        let len = self.read(&mut head)?;
        head.truncate(len);
        Ok(head)
    }

    fn has_bytes(&self) -> bool {
        (self.piece.position() as usize) < self.piece.get_ref().len()
    }

    fn receive(&mut self, received: Option<Result<Vec<u8>>>) {
        match received {
            Some(Ok(piece)) => self.piece = Cursor::new(piece),
            Some(Err(error)) => self.failed = Some(error),
            None => self.ended = true,
        }
    }
}

impl Read for StreamReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.has_bytes() && !self.ended && self.failed.is_none() {
            let received = self.pieces.recv().ok();
            self.receive(received);
        }
        match &self.failed {
            Some(error) => Err(io::Error::other(error.clone())),
            None => self.piece.read(buffer),
        }
    }
}

impl std::fmt::Debug for StreamReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamReader").field("ended", &self.ended).finish_non_exhaustive()
    }
}

/// What the thread reads.
enum Input {
    Plain(Box<dyn Read + Send>),
    Packed(Box<Unpacker>),
}

impl Input {
    fn error(&self, path: &InputPath, offset: u64, e: io::Error) -> Error {
        match self {
            Self::Plain(_) => unreadable(path, e).with("byte", offset),
            Self::Packed(unpacker) => unpacker.error(path, offset, e),
        }
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(input) => input.read(buffer),
            Self::Packed(unpacker) => unpacker.read(buffer),
        }
    }
}

fn open(path: &InputPath) -> io::Result<Input> {
    let mut raw: Box<dyn Read + Send> = match path.on_disk() == Some(Path::new(STDIN)) {
        true => Box::new(io::stdin()),
        false => Box::new(path.open()?),
    };
    let mut head = Vec::new();
    (&mut raw).take(Packing::HEAD).read_to_end(&mut head)?;
    let packing = Packing::of(&head);
    let input: Box<dyn Read + Send> = Box::new(Cursor::new(head).chain(raw));
    Ok(match packing {
        None => Input::Plain(input),
        Some(packing) => Input::Packed(Box::new(Unpacker::new(packing, input)?)),
    })
}

/// The error for a stream that this process has read already.
pub(super) fn read_before(path: &InputPath) -> Error {
    let message = "the input is a stream, which cannot be read again after a failure; start the job again with \
                   the same input from its beginning, or write the input to a file";
    Error::new(ErrorKind::Unsupported, message).with("file", path.display())
}
