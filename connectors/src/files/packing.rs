//! How an input file is compressed, and its content.
//!
//! A file is known as compressed by its first bytes. Its content is one stream, which can only be read from
//! the beginning: positions are offsets in it, and to resume means to decompress up to there.

use std::io::{self, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use strandline_state_api::Error;

use super::place::{InputPath, unreadable};

/// Decompresses a file: all members of a gzip file, all frames of a zstd file.
pub(super) enum Unpacker {
    Gzip(MultiGzDecoder<BufReader<Raw>>),
    Zstd(zstd::Decoder<'static, BufReader<Raw>>),
}

/// The compressed bytes.
pub(super) struct Raw {
    file: Box<dyn Read + Send>,
    /// How many of them were read.
    count: u64,
    /// Whether the file system failed, and not the decompression.
    failed: bool,
}

/// How a file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    Gzip,
    Zstd,
}

impl Packing {
    /// How many bytes at the beginning show it.
    pub(super) const HEAD: u64 = 4;

    pub(super) fn of(head: &[u8]) -> Option<Self> {
        match head {
            [0x1F, 0x8B, 0x08, ..] => Some(Self::Gzip),
            [0x28, 0xB5, 0x2F, 0xFD, ..] => Some(Self::Zstd),
            // A frame that a reader skips, as parallel compressors write one before the first.
            [0x50..=0x5F, 0x2A, 0x4D, 0x18, ..] => Some(Self::Zstd),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

impl Unpacker {
    pub(super) fn new(packing: Packing, file: Box<dyn Read + Send>) -> io::Result<Self> {
        let raw = BufReader::with_capacity(64 << 10, Raw { file, count: 0, failed: false });
        Ok(match packing {
            Packing::Gzip => Self::Gzip(MultiGzDecoder::new(raw)),
            Packing::Zstd => Self::Zstd(zstd::Decoder::with_buffer(raw)?),
        })
    }

    /// The error of a read behind `offset` of the content.
    #[cold]
    pub(super) fn error(&self, path: &InputPath, offset: u64, e: io::Error) -> Error {
        let (raw, packing) = (self.raw(), self.packing().name());
        if self.has_failed() {
            return unreadable(path, e).with("byte", offset);
        }
        let message = if e.kind() == io::ErrorKind::UnexpectedEof {
            format!("the input file, compressed by {packing}, ends early: it was not copied or written whole")
        } else {
            format!("the input file, compressed by {packing}, is damaged, or something follows its end")
        };
        Error::invalid(message)
            .with("file", path.display())
            .with("decompressed byte", offset)
            .with("compressed byte", raw.get_ref().count - raw.buffer().len() as u64)
            .caused_by(e)
    }

    /// How many compressed bytes were read.
    pub(super) fn raw_len(&self) -> u64 {
        self.raw().get_ref().count
    }

    /// Whether the last error was the file system's, and not the decompression's.
    pub(super) fn has_failed(&self) -> bool {
        self.raw().get_ref().failed
    }

    fn raw(&self) -> &BufReader<Raw> {
        match self {
            Self::Gzip(decoder) => decoder.get_ref(),
            Self::Zstd(decoder) => decoder.get_ref(),
        }
    }

    fn packing(&self) -> Packing {
        match self {
            Self::Gzip(_) => Packing::Gzip,
            Self::Zstd(_) => Packing::Zstd,
        }
    }
}

impl Read for Unpacker {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Gzip(decoder) => decoder.read(buffer),
            Self::Zstd(decoder) => decoder.read(buffer),
        }
    }
}

impl Read for Raw {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer);
        match &read {
            Ok(read) => self.count += *read as u64,
            Err(e) => self.failed = e.kind() != io::ErrorKind::Interrupted,
        }
        read
    }
}
