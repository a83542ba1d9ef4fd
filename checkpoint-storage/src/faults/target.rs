//! Which operations of a store fail.

use std::fmt;
use std::sync::Arc;

/// A kind of operation of a [`BlobStore`](crate::BlobStore) or [`ClaimStore`](crate::ClaimStore).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// Writing an immutable object.
    Put,
    /// Asking for the length of an object.
    Len,
    /// Reading an object, or a part of it.
    Read,
    /// Listing a directory; its path is that of the directory.
    List,
    /// Deleting an object.
    Delete,
    /// Creating a slot of the commit log, unless it exists.
    Claim,
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Put, Self::Len, Self::Read, Self::List, Self::Delete, Self::Claim];

    /// Whether it changes the store.
    pub fn is_write(self) -> bool {
        matches!(self, Self::Put | Self::Delete | Self::Claim)
    }
}

type Path = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// The calls that fail: by the kind of the operation, by its path, by the number of the call. All conditions
/// hold together.
///
/// ```
/// use strandline_checkpoint_storage::faults::{Operation, Target};
///
/// // The third manifest that is written.
/// let manifest = Target::of(Operation::Put).path("manifest/").nth(2);
/// // All reads of the commit log but for the first ten.
/// let log = Target::of(Operation::Read).path("log/").from(10);
/// # drop((manifest, log));
/// ```
#[derive(Clone)]
pub struct Target {
    operations: Vec<Operation>,
    paths: Vec<Path>,
    from: u64,
    times: u64,
    chance: Option<(fastrand::Rng, f64)>,
}

impl Target {
    /// Every call.
    pub fn any() -> Self {
        Self {
            operations: Operation::ALL.to_vec(),
            paths: Vec::new(),
            from: 0,
            times: u64::MAX,
            chance: None,
        }
    }

    /// The calls of one kind.
    pub fn of(operation: Operation) -> Self {
        Self { operations: vec![operation], ..Self::any() }
    }

    /// The calls that change the store.
    pub fn writes() -> Self {
        let operations = Operation::ALL.into_iter().filter(|operation| operation.is_write()).collect();
        Self { operations, ..Self::any() }
    }

    /// The calls of another kind, too.
    #[must_use]
    pub fn or(mut self, operation: Operation) -> Self {
        self.operations.push(operation);
        self
    }

    /// Of these, the calls whose path has `part` in it. Paths are those that the [README](crate) shows, for
    /// example `segments/…` and `log/…`; names of files begin with their term and their checkpoint.
    #[must_use]
    pub fn path(self, part: impl Into<String>) -> Self {
        let part = part.into();
        self.matching(move |path| path.contains(&part))
    }

    /// Of these, the calls whose path `matches` accepts.
    #[must_use]
    pub fn matching(mut self, matches: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        self.paths.push(Arc::new(matches));
        self
    }

    /// Of these, the one with this number, counted from 0.
    #[must_use]
    pub fn nth(self, number: u64) -> Self {
        self.from(number).times(1)
    }

    /// Of these, all from the one with this number on, counted from 0.
    #[must_use]
    pub fn from(mut self, number: u64) -> Self {
        self.from = number;
        self
    }

    /// Of these, so many.
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = times;
        self
    }

    /// Of these, each with probability `rate`, as `seed` decides.
    #[must_use]
    pub fn chance(mut self, seed: u64, rate: f64) -> Self {
        self.chance = Some((fastrand::Rng::with_seed(seed), rate));
        self
    }

    pub(super) fn kinds(&mut self, kinds: impl Fn(Operation) -> bool) {
        self.operations.retain(|operation| kinds(*operation));
    }

    fn meets(&self, operation: Operation, path: &str) -> bool {
        self.operations.contains(&operation) && self.paths.iter().all(|matches| matches(path))
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("operations", &self.operations)
            .field("paths", &self.paths.len())
            .field("from", &self.from)
            .field("times", &self.times)
            .finish_non_exhaustive()
    }
}

/// A target, and how often it was met.
#[derive(Debug)]
pub(super) struct Aim {
    pub(super) target: Target,
    seen: u64,
    hits: u64,
}

impl Aim {
    pub(super) fn new(target: Target) -> Self {
        Self { target, seen: 0, hits: 0 }
    }

    /// Counts a call that meets the target; returns whether it is one of those that fail.
    pub(super) fn takes(&mut self, operation: Operation, path: &str) -> bool {
        if !self.target.meets(operation, path) {
            return false;
        }
        let number = self.seen;
        self.seen += 1;
        let Target { from, times, chance, .. } = &mut self.target;
        let hit = number >= *from
            && self.hits < *times
            && chance.as_mut().is_none_or(|(random, rate)| random.f64() < *rate);
        self.hits += u64::from(hit);
        hit
    }
}
