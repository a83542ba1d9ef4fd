//! Reading slots.

use std::collections::BTreeSet;

use bytes::Bytes;
use strandline_state_api::{Error, ErrorKind, Result};

use super::record::{Record, chain};
use crate::Storage;
use crate::name::{LOG_DIR, parse_slot, slot_path};

/// What is in the directory of the log.
pub(crate) struct Listing {
    pub(crate) slots: BTreeSet<u64>,
    /// Files that are no slots.
    pub(crate) other: Vec<String>,
}

pub(crate) async fn list(storage: &Storage) -> Result<Listing> {
    let mut listing = Listing { slots: BTreeSet::new(), other: Vec::new() };
    for file in storage.claims().list(LOG_DIR).await? {
        match parse_slot(&file.name) {
            Some(slot) => drop(listing.slots.insert(slot)),
            None => listing.other.push(file.name),
        }
    }
    Ok(listing)
}

/// What a slot holds.
#[derive(Debug)]
pub(super) enum Slot {
    Readable(Bytes, Box<Record>),
    /// With its [checksum](chain), unless it is too long to be read.
    Unreadable(Option<u64>, Error),
    Missing,
}

/// Reads a slot. Damage is an answer; a newer format and a store that fails are errors.
pub(super) async fn read_slot(storage: &Storage, slot: u64) -> Result<Slot> {
    let path = slot_path(slot);
    let file = match storage.claims().read(&path, Record::LIMIT).await {
        Ok(Some(file)) => file,
        Ok(None) => return Ok(Slot::Missing),
        Err(e) if e.kind() == ErrorKind::Corrupt => return Ok(Slot::Unreadable(None, e)),
        Err(e) => return Err(e),
    };
    match Record::decode(slot, &file, &path) {
        Ok(record) => Ok(Slot::Readable(file, Box::new(record))),
        Err(e) if e.kind() == ErrorKind::Corrupt => Ok(Slot::Unreadable(Some(chain(&file)), e)),
        Err(e) => Err(e),
    }
}

/// The highest slot, and the floor that counts: that of the highest readable slot which hangs together with
/// it.
pub(super) struct Tail {
    pub(super) top: u64,
    pub(super) floor: u64,
    /// Whether any readable slot names the floor. If not, all that hangs together with the top is damaged.
    pub(super) certain: bool,
    pub(super) content: Slot,
    pub(super) slots: BTreeSet<u64>,
    pub(super) other: Vec<String>,
}

/// Finds the end of the log; an empty one has none, only files that are no slots.
pub(super) async fn tail(storage: &Storage) -> Result<Result<Tail, Vec<String>>> {
    for _ in 0..storage.options().log_reads.max(1) {
        let Listing { slots, other } = list(storage).await?;
        let Some(&top) = slots.last() else { return Ok(Err(other)) };
        let content = read_slot(storage, top).await?;
        let (floor, certain) = match &content {
            Slot::Readable(_, record) => (record.entry.floor, true),
            Slot::Unreadable(..) => floor_below(storage, &slots, top).await?,
            // Someone wrote above it, and cut the log, since it was listed.
            Slot::Missing => continue,
        };
        if top - floor > MAX_SLOTS {
            let message = format!("the commit log claims to have {} slots that count", top - floor);
            return Err(Error::corrupt(message).with("file", slot_path(top)));
        }
        return Ok(Ok(Tail { top, floor, certain, content, slots, other }));
    }
    Err(changes_too_fast())
}

pub(crate) fn changes_too_fast() -> Error {
    Error::new(ErrorKind::Unavailable, "the commit log changes faster than it can be read; try again")
}

/// No log that is cut as this crate does comes near it.
const MAX_SLOTS: u64 = 1_000_000;

/// The floor as the slots below a damaged one know it. Where they know none, nothing below counts.
async fn floor_below(storage: &Storage, slots: &BTreeSet<u64>, top: u64) -> Result<(u64, bool)> {
    let mut below = top;
    while let Some(slot) = below.checked_sub(1).filter(|slot| slots.contains(slot)) {
        if let Slot::Readable(_, record) = read_slot(storage, slot).await? {
            return Ok((record.entry.floor, true));
        }
        below = slot;
    }
    Ok((below, false))
}
