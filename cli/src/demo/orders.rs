//! The input of the demo.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use strandline_connectors::keys::{GAMMA, mix};
use strandline_state_api::Result;

use super::failed;

/// How many files the orders are in.
const FILES: u64 = 4;
/// How many users order.
const USERS: u64 = 2_000;
/// From one order to the next, in milliseconds.
const STEP: u64 = 3;
/// How late an order may come, in milliseconds.
const LATENESS: u64 = 5_000;
/// 1 January 2025.
const BEGIN: u64 = 1_735_689_600_000;

/// The files that were written.
#[derive(Debug)]
pub(super) struct Input {
    pub(super) files: u64,
    pub(super) bytes: u64,
}

/// Writes `records` orders into files in `folder`: the same each time.
pub(super) fn write(folder: &Path, records: u64) -> Result<Input> {
    let mut bytes = 0;
    let mut write = || -> std::io::Result<()> {
        fs::create_dir_all(folder)?;
        for file in 0..FILES {
            let path = folder.join(format!("orders-{file}.csv"));
            let mut out = BufWriter::with_capacity(1 << 18, File::create_new(path)?);
            let mut line = Vec::with_capacity(64);
            line.extend_from_slice(b"time,user,amount\n");
            for sequence in records * file / FILES..records * (file + 1) / FILES {
                order(sequence, &mut line);
                out.write_all(&line)?;
                bytes += line.len() as u64;
                line.clear();
            }
            out.flush()?;
        }
        Ok(())
    };
    write().map_err(|e| failed("the input cannot be written", e))?;
    Ok(Input { files: FILES, bytes })
}

/// Appends order number `sequence`. Its time goes back by less than the lateness, its user is one of a few
/// big ones as often as one of all users, and one order in twenty is cancelled: its amount is 0.
fn order(sequence: u64, line: &mut Vec<u8>) {
    let random = mix(sequence.wrapping_mul(GAMMA));
    let mut digits = itoa::Buffer::new();
    let late = (random >> 40) % LATENESS;
    line.extend_from_slice(digits.format(BEGIN + LATENESS + sequence * STEP - late).as_bytes());
    let users = if random & 1 == 0 { USERS } else { USERS / 20 };
    line.push(b',');
    line.extend_from_slice(digits.format((random >> 8) % users).as_bytes());
    line.push(b',');
    let amount = if (random >> 1).is_multiple_of(20) { 0 } else { 100 + (random >> 20) % 90_000 };
    line.extend_from_slice(digits.format(amount).as_bytes());
    line.push(b'\n');
}
