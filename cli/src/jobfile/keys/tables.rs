//! The tables themselves.

mod job;
mod sink;
mod source;
mod step;

pub(crate) use job::{CHECKPOINT, JOB, RESTART, STATE};
pub(crate) use sink::SINK;
pub(crate) use source::{COLUMN, JSON_COLUMN, SOURCE, TIMES};
pub(crate) use step::STEP;

use super::{Absent, Key, Kind, Word};

const fn key(name: &'static str, kind: Kind, absent: Absent, about: &'static str) -> Key {
    Key { name, kind, absent, about }
}

const fn word(name: &'static str, about: &'static str) -> Word {
    Word { name, about }
}

const ANY: u64 = i64::MAX as u64;
const SMALL: u64 = u32::MAX as u64;

/// What names of jobs and operators are.
const NAME: &str = "a name of 1 to 120 letters, digits, `-`, `_` or `.`";
/// What paths are.
const PATH: &str = "a path; a relative one begins at the folder of the job file, `~/` at the home \
    directory";
