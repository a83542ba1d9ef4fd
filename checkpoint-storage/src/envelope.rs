//! The frame around everything that this crate writes itself: manifests, log entries, large operator state.
//!
//! | bytes | what |
//! | --- | --- |
//! | 8 | magic: what kind of file it is |
//! | 4 | version of the format, little-endian, from 1 |
//! | 8 | length of the payload, little-endian |
//! | … | payload |
//! | 8 | XXH3-64 (seed 0) of all before, little-endian |
//!
//! Of every version, present and future, the first twelve bytes and the last eight mean the same. So a
//! flipped bit in the version is distinguished from a newer version.

use bytes::Bytes;
use strandline_state_api::{Error, ErrorKind, Result};
use xxhash_rust::xxh3::xxh3_64;

const HEADER: usize = 20;
const TRAILER: usize = 8;

/// One kind of file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Envelope {
    /// Its name in messages.
    pub(crate) what: &'static str,
    pub(crate) magic: [u8; 8],
    /// The version that is written, and the newest that is read.
    pub(crate) version: u32,
    /// No file of this kind is longer, in bytes, frame included.
    pub(crate) limit: u64,
}

impl Envelope {
    /// The file that holds `payload`.
    pub(crate) fn seal(&self, payload: &[u8]) -> Result<Bytes> {
        let len = HEADER + payload.len() + TRAILER;
        if len as u64 > self.limit {
            let message = format!("a {} of {len} bytes is too large, the limit is {}", self.what, self.limit);
            return Err(Error::invalid(message));
        }
        let mut file = Vec::with_capacity(len);
        file.extend_from_slice(&self.magic);
        file.extend_from_slice(&self.version.to_le_bytes());
        file.extend_from_slice(&(payload.len() as u64).to_le_bytes());
        file.extend_from_slice(payload);
        file.extend_from_slice(&xxh3_64(&file).to_le_bytes());
        Ok(file.into())
    }

    /// The payload of a file, if the file is whole; `name` is for the error.
    pub(crate) fn open<'f>(&self, file: &'f [u8], name: &str) -> Result<&'f [u8]> {
        Ok(self.open_version(file, name)?.1)
    }

    /// The version and the payload of a file, if the file is whole.
    pub(crate) fn open_version<'f>(&self, file: &'f [u8], name: &str) -> Result<(u32, &'f [u8])> {
        let corrupt =
            |why: &str| Error::corrupt(format!("this is no whole {}: {why}", self.what)).with("file", name);
        let Some((body, checksum)) = file.split_last_chunk::<TRAILER>() else {
            return Err(corrupt("it is too short"));
        };
        let Some((header, payload)) = body.split_first_chunk::<HEADER>() else {
            return Err(corrupt("it is too short"));
        };
        let (magic, version, len) = split_header(header);
        if magic != self.magic {
            return Err(corrupt("it does not begin as one"));
        }
        if xxh3_64(body) != u64::from_le_bytes(*checksum) {
            return Err(corrupt("its checksum differs"));
        }
        if version > self.version {
            let message = format!(
                "a {} of format version {version}, and this program reads up to version {}: use a newer one",
                self.what, self.version
            );
            return Err(Error::new(ErrorKind::Incompatible, message).with("file", name));
        }
        if version == 0 {
            return Err(corrupt("there is no version 0"));
        }
        if len != payload.len() as u64 {
            return Err(corrupt("its length differs from that in its header"));
        }
        Ok((version, payload))
    }
}

fn split_header(header: &[u8; HEADER]) -> ([u8; 8], u32, u64) {
    let (mut magic, mut version, mut len) = ([0; 8], [0; 4], [0; 8]);
    magic.copy_from_slice(&header[..8]);
    version.copy_from_slice(&header[8..12]);
    len.copy_from_slice(&header[12..]);
    (magic, u32::from_le_bytes(version), u64::from_le_bytes(len))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: Envelope = Envelope { what: "test file", magic: *b"STRLTEST", version: 3, limit: 100 };

    #[test]
    fn older_versions_are_read_and_newer_ones_named() {
        for version in 1..=3 {
            let file = Envelope { version, ..KIND }.seal(b"hello").unwrap();
            assert_eq!(KIND.open(&file, "f").unwrap(), b"hello");
        }
        let error = KIND.open(&Envelope { version: 4, ..KIND }.seal(b"hello").unwrap(), "f").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Incompatible);
        assert!(
            error.to_string().contains("version 4") && error.to_string().contains("version 3"),
            "{error}"
        );
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_detected() {
        let file = KIND.seal(b"hello").unwrap();
        for bit in 0..file.len() * 8 {
            let mut broken = file.to_vec();
            broken[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(KIND.open(&broken, "f").unwrap_err().kind(), ErrorKind::Corrupt, "bit {bit}");
        }
        for len in 0..file.len() {
            assert_eq!(KIND.open(&file[..len], "f").unwrap_err().kind(), ErrorKind::Corrupt, "length {len}");
        }
        assert!(KIND.open(&[&file[..], &[0]].concat(), "f").is_err());
    }

    #[test]
    fn a_file_of_another_kind_or_with_a_lying_header_is_refused() {
        let other = Envelope { magic: *b"STRLELSE", ..KIND }.seal(b"hello").unwrap();
        assert_eq!(KIND.open(&other, "f").unwrap_err().kind(), ErrorKind::Corrupt);
        for len in [0, 4, 6, u64::MAX] {
            let mut lying = KIND.seal(b"hello").unwrap()[..25].to_vec();
            lying[12..20].copy_from_slice(&len.to_le_bytes());
            lying.extend_from_slice(&xxh3_64(&lying).to_le_bytes());
            assert_eq!(KIND.open(&lying, "f").unwrap_err().kind(), ErrorKind::Corrupt, "length {len}");
        }
    }

    #[test]
    fn what_could_not_be_read_back_is_not_written() {
        assert!(KIND.seal(&[0; 72]).is_ok());
        assert_eq!(KIND.seal(&[0; 73]).unwrap_err().kind(), ErrorKind::Invalid);
    }
}
