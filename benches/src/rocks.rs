//! RocksDB itself beside the backend that is built on it.
//!
//! [`Ours`] is the backend, [`Raw`] a RocksDB that is opened with the same options, its write-ahead log off
//! too, with keys and values of the same bytes. Without a write-back table both make the same calls of
//! RocksDB, and the ratio is the cost of the backend; with one it shows what the table saves. [`ManyStates`]
//! compares numbers of states.

use std::ops::Range;
use std::sync::Arc;

use strandline_backend_rocksdb::{RocksBackendFactory, RocksOptions};
use strandline_connectors::keys::Distribution;
use strandline_state_api::Result;
use tempfile::TempDir;

use crate::keys::{Visit, shuffled, slice_of};
use crate::scratch;
use crate::w2::map::ENTRIES;
use crate::w5::stream;

mod ours;
mod raw;
mod states;

pub use ours::Ours;
pub use raw::Raw;
pub use states::{ManyStates, StatesOp};

/// Makes a factory whose files are in a directory of their own, which is deleted with the second value.
///
/// # Errors
/// When the directory cannot be made, or an option cannot work.
pub fn factory(mut options: RocksOptions) -> Result<(RocksBackendFactory, TempDir)> {
    let dir = scratch::directory()?;
    options.directory = Some(dir.path().to_path_buf());
    Ok((RocksBackendFactory::new(options)?, dir))
}

/// Returns the default options, with this share of the memory for the write-back table.
pub fn options(write_back: f64) -> RocksOptions {
    let mut options = RocksOptions::default();
    options.write_back = write_back;
    options
}

/// A kind of state. A subject fills that of the first operation that it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Value,
    List,
    Map,
}

/// An access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Reads a value.
    Get,
    /// Overwrites a value.
    Put,
    /// Reads a value, adds one and writes it.
    Modify,
    /// Appends one element to a list, without reading it.
    Append,
    /// Reads a list of one element.
    ListGet,
    /// Reads an entry of a map.
    MapGet,
    /// Visits all entries of maps of ten; an operation is one entry.
    MapIterate,
}

impl Access {
    /// Those of values, which are about the number of keys.
    pub const VALUES: [Self; 3] = [Self::Get, Self::Put, Self::Modify];
    /// Those of lists.
    pub const LISTS: [Self; 2] = [Self::ListGet, Self::Append];
    /// Those of maps.
    pub const MAPS: [Self; 2] = [Self::MapGet, Self::MapIterate];

    /// For the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Put => "put",
            Self::Modify => "read-modify-write",
            Self::Append => "list append",
            Self::ListGet => "list get",
            Self::MapGet => "map get",
            Self::MapIterate => "map iterate (entries)",
        }
    }

    fn kind(self) -> Kind {
        match self {
            Self::Get | Self::Put | Self::Modify => Kind::Value,
            Self::Append | Self::ListGet => Kind::List,
            Self::MapGet | Self::MapIterate => Kind::Map,
        }
    }
}

/// An access, and how often each key comes.
pub type RocksOp = (Access, Distribution);

/// At most so many operations a slice.
const SLICE: usize = 20_000;
/// How many choices of keys are made beforehand: so many slices come before the same choices again.
const CHOICES: usize = 50 * SLICE;

/// The next slice, the same on both sides.
#[derive(Clone, Debug)]
struct Plan {
    all: Arc<[u64]>,
    uniform: Visit,
    zipf: Visit,
    round: u64,
    filled: Option<Kind>,
    /// The choices of the last slice that made lists longer.
    grown: (Distribution, Range<usize>),
}

impl Plan {
    fn new(count: usize) -> Result<Self> {
        let choices = |distribution| -> Result<Visit> {
            let stream = stream(u64::MAX, count as u64, distribution)?;
            Ok(Visit::new((0..CHOICES as u64).map(|sequence| stream.key(sequence)).collect()))
        };
        let (uniform, zipf) = (choices(Distribution::Uniform)?, choices(Distribution::Zipf)?);
        let grown = (Distribution::Uniform, 0..0);
        Ok(Self { all: shuffled(count), uniform, zipf, round: 0, filled: None, grown })
    }

    fn slice(&self, access: Access) -> usize {
        let slice = slice_of(self.all.len()).min(SLICE);
        match access {
            // As many entries as the others touch maps.
            Access::MapIterate => (slice / ENTRIES as usize).max(1) * ENTRIES as usize,
            _ => slice,
        }
    }

    fn choices(&mut self, distribution: Distribution) -> &mut Visit {
        if distribution == Distribution::Zipf { &mut self.zipf } else { &mut self.uniform }
    }

    /// Returns the keys of the next slice.
    fn next(&mut self, (access, distribution): RocksOp) -> (Arc<[u64]>, Range<usize>, u64) {
        self.round += 1;
        let slice = self.slice(access);
        let keys = if access == Access::MapIterate { slice / ENTRIES as usize } else { slice };
        let visit = self.choices(distribution);
        let (all, range) = (visit.all(), visit.next(keys));
        if access == Access::Append {
            self.grown = (distribution, range.clone());
        }
        (all, range, self.round)
    }

    /// Returns the keys of the lists that are longer than one.
    fn take_grown(&mut self) -> (Arc<[u64]>, Range<usize>) {
        let (distribution, range) = std::mem::replace(&mut self.grown, (Distribution::Uniform, 0..0));
        (self.choices(distribution).all(), range)
    }
}
