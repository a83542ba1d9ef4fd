//! The bytes of an input file: as they are, or [decompressed](super::packing).

use std::io::{self, Read, Seek, SeekFrom};

use strandline_state_api::{Error, Result};

use super::identity::{WINDOW, mark};
use super::packing::{Packing, Unpacker};
use super::place::{Handle, InputPath, unreadable};
use super::stream::StreamReader;

/// The content of a file that is open.
pub(super) enum Content {
    /// The bytes of the file.
    Plain(Handle),
    /// What a compressed file decompresses to.
    Packed(Box<Unpacker>),
    /// What cannot be read again.
    Stream(Box<StreamReader>),
}

impl Content {
    /// Opens the file at its beginning.
    pub(super) fn open(path: &InputPath) -> io::Result<Self> {
        let mut file = path.open()?;
        let packing = Packing::of(&first_bytes(&mut file)?);
        file.seek(SeekFrom::Start(0))?;
        match packing {
            None => Ok(Self::Plain(file)),
            Some(packing) => Ok(Self::Packed(Box::new(Unpacker::new(packing, Box::new(file))?))),
        }
    }

    /// Whether it can only be read from its beginning on.
    pub(super) fn is_forward(&self) -> bool {
        !matches!(self, Self::Plain(_))
    }

    pub(super) fn is_packed(&self) -> bool {
        matches!(self, Self::Packed(_))
    }

    /// Goes to `offset`, or back to the beginning where only that is possible; returns where it stands.
    pub(super) fn seek(&mut self, path: &InputPath, offset: u64) -> io::Result<u64> {
        match self {
            Self::Plain(file) => file.seek(SeekFrom::Start(offset)),
            Self::Stream(_) => Err(io::Error::new(io::ErrorKind::Unsupported, "a stream is read once")),
            Self::Packed(_) => {
                *self = Self::open(path)?;
                Ok(0)
            }
        }
    }

    /// How many bytes of a compressed file were read; at the end of its content its length.
    pub(super) fn raw_len(&self) -> u64 {
        match self {
            Self::Plain(_) | Self::Stream(_) => 0,
            Self::Packed(unpacker) => unpacker.raw_len(),
        }
    }

    /// The error of a read behind `offset`.
    #[cold]
    pub(super) fn error(&self, path: &InputPath, offset: u64, e: io::Error) -> Error {
        match self {
            Self::Packed(unpacker) => unpacker.error(path, offset, e),
            Self::Plain(_) => unreadable(path, e).with("byte", offset),
            // Its thread knows what happened.
            Self::Stream(_) => {
                let known = e.get_ref().and_then(|inner| inner.downcast_ref::<Error>()).cloned();
                known.unwrap_or_else(|| unreadable(path, e))
            }
        }
    }
}

impl Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(file) => file.read(buffer),
            Self::Packed(unpacker) => unpacker.read(buffer),
            Self::Stream(stream) => stream.read(buffer),
        }
    }
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "Plain",
            Self::Packed(_) => "Packed",
            Self::Stream(_) => "Stream",
        })
    }
}

fn first_bytes(file: &mut Handle) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    file.take(Packing::HEAD).read_to_end(&mut head)?;
    Ok(head)
}

/// Whether the file is compressed.
pub(super) fn is_packed(path: &InputPath) -> Result<bool> {
    let head = path.open().and_then(|mut file| first_bytes(&mut file));
    head.map(|head| Packing::of(&head).is_some()).map_err(|e| unreadable(path, e))
}

/// As [`read_mark`](super::identity::read_mark), of the content of a compressed file; `None` where it is
/// shorter, damaged, or not compressed.
pub(super) fn read_mark(path: &InputPath, position: u64) -> Result<Option<(u32, Vec<u8>)>> {
    let mut content = Content::open(path).map_err(|e| unreadable(path, e))?;
    if !content.is_packed() {
        return Ok(None);
    }
    let window = position.min(WINDOW as u64);
    let mut head = Vec::new();
    let mut before = Vec::new();
    let mut read = || {
        (&mut content).take(window).read_to_end(&mut head)?;
        let between = (position - window).saturating_sub(window);
        io::copy(&mut (&mut content).take(between), &mut io::sink())?;
        let known = head.get((position - window).min(window) as usize..).unwrap_or_default();
        before.extend_from_slice(known);
        (&mut content).take(window - known.len() as u64).read_to_end(&mut before)
    };
    match read() {
        Ok(_) if before.len() as u64 == window => Ok(Some((mark(&head, &before), before))),
        Ok(_) => Ok(None),
        Err(e) => match content {
            Content::Packed(unpacker) if !unpacker.has_failed() => Ok(None),
            _ => Err(unreadable(path, e)),
        },
    }
}

/// The marks of the content of a compressed file at these positions, which rise; `None` behind its end, and
/// behind where it is damaged.
pub(super) fn marks(path: &InputPath, positions: &[u64]) -> Result<Vec<Option<u32>>> {
    let mut content = Content::open(path).map_err(|e| unreadable(path, e))?;
    let (mut head, mut kept, mut read) = (Vec::new(), Vec::new(), 0);
    let mut marks = Vec::with_capacity(positions.len());
    let mut piece = vec![0; 64 << 10];
    while marks.len() < positions.len() {
        let Ok(len @ 1..) = content.read(&mut piece) else { break };
        let new = piece.get(..len).unwrap_or_default();
        head.extend_from_slice(new.get(..len.min(WINDOW - head.len())).unwrap_or_default());
        kept.extend_from_slice(new);
        read += len as u64;
        let begin = read - kept.len() as u64;
        while let Some(position) = positions.get(marks.len()).filter(|position| **position <= read) {
            let end = position.saturating_sub(begin) as usize;
            let before = kept.get(end.saturating_sub(WINDOW)..end).unwrap_or_default();
            marks.push(Some(mark(&head, before)));
        }
        kept.drain(..kept.len().saturating_sub(WINDOW));
    }
    marks.resize(positions.len(), None);
    Ok(marks)
}
