//! A backend beside a model of its contents; every operation applies to both.

mod contents;
mod live;
mod op;
mod states;

pub(crate) use contents::Contents;
pub(crate) use live::{InFlight, Prepared, Taken, World, check_restored};
pub(crate) use op::Op;
pub(crate) use states::{Mean, States, total};

use std::fmt;

use strandline_state_api::{Error, KeyGroup, KeyGroupRange, Keyed};

/// Keys that are empty, hold zero bytes or start with each other, and enough plain ones to reach every
/// subtask.
pub(crate) const KEYS: [&str; 40] = [
    "",
    "\0",
    "\0\0",
    "\0\u{1}",
    "\u{1}",
    "a",
    "a\0",
    "a\0b",
    "ab",
    "b",
    "ä",
    "\u{10FFFF}",
    "k12",
    "k13",
    "k14",
    "k15",
    "k16",
    "k17",
    "k18",
    "k19",
    "k20",
    "k21",
    "k22",
    "k23",
    "k24",
    "k25",
    "k26",
    "k27",
    "k28",
    "k29",
    "k30",
    "k31",
    "k32",
    "k33",
    "k34",
    "k35",
    "k36",
    "k37",
    "k38",
    "k39",
];

/// Namespaces of the same nature.
pub(crate) const NAMESPACES: [&str; 4] = ["", "\0", "a", "a\0"];

/// Map keys of the same nature.
pub(crate) const MAP_KEYS: [&str; 6] = ["", "\0", "\u{1}", "a", "a\0", "ab"];

/// Returns the key group of a key of the world.
pub(crate) fn group_of(key: &str) -> KeyGroup {
    Keyed::new(&key.to_owned()).group()
}

/// Returns those keys of the world that lie in `range`.
pub(crate) fn keys_in(range: KeyGroupRange) -> impl Iterator<Item = &'static str> {
    KEYS.into_iter().filter(move |key| range.contains(group_of(key)))
}

/// How a backend differs from the model.
pub(crate) struct Failure(pub(crate) String);

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(format!("unexpected error: {error}"))
    }
}

/// Compares the result of a backend with that of the model.
#[allow(clippy::needless_pass_by_value, reason = "the callers read better")]
pub(crate) fn same<T: PartialEq + fmt::Debug>(
    what: impl fmt::Debug,
    got: T,
    wanted: T,
) -> Result<(), Failure> {
    if got == wanted {
        return Ok(());
    }
    Err(Failure(format!("{what:?}\n      got: {got:?}\n   wanted: {wanted:?}")))
}
