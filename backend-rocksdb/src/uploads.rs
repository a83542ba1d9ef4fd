//! Which files of the database are stored, and where, for commits that are under way at once.
//!
//! A snapshot names a file that was stored for an older checkpoint only if each snapshot between, whose commit
//! succeeded, names it, too: otherwise that one may complete first, and a sweep deletes the file. Two commits
//! that store the same file each for itself agree on one of both when the second ends.
//!
//! A commit may store a file once more, in a [pack](crate::packs) with others: at this new place only the
//! snapshot itself and later ones name it. But where a later snapshot, whose commit succeeded first, names the
//! old place, the older one keeps to that.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use strandline_state_api::CheckpointId;
use strandline_state_api::snapshot::{SegmentName, SegmentRef};

/// Where a file of the database is stored.
#[derive(Clone, Debug)]
pub(crate) struct Location {
    pub(crate) pack: SegmentRef,
    pub(crate) offset: u64,
    pub(crate) len: u64,
    /// XXH3-128 of its bytes.
    pub(crate) hash: u128,
    /// The checkpoint that the file was stored for; 0 for one of a restored snapshot.
    pub(crate) stored_for: CheckpointId,
}

/// The files that are stored, by their names in the database.
pub(crate) type Uploaded = HashMap<String, Location>;

/// What a commit need not store.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) files: Uploaded,
    /// The packs that the snapshot has to name, as long as it has a file in them.
    pub(crate) fixed: HashSet<SegmentName>,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Uploads(Mutex<Order>);

#[derive(Debug, Default)]
struct Order {
    /// The commits under way, and whether each is of a full snapshot.
    live: BTreeMap<CheckpointId, bool>,
    /// The files of each snapshot whose commit succeeded, as far as a commit under way, or a later one, needs
    /// them; none for a full one.
    stored: BTreeMap<CheckpointId, Uploaded>,
    /// The files that failed commits have stored.
    loose: Uploaded,
}

/// A commit under way; a drop without success leaves its files to later ones.
#[derive(Debug)]
pub(crate) struct Commit<'a> {
    uploads: &'a Uploads,
    checkpoint: CheckpointId,
    /// The files that this commit has stored.
    own: Uploaded,
    refused: bool,
}

impl Uploads {
    pub(crate) fn of_restored(files: Uploaded) -> Self {
        let stored = BTreeMap::from([(CheckpointId(0), files)]);
        Self(Mutex::new(Order { stored, ..Order::default() }))
    }

    /// Begins the commit of a snapshot.
    pub(crate) fn begin(&self, checkpoint: CheckpointId, is_full: bool) -> Commit<'_> {
        self.order().live.insert(checkpoint, is_full);
        Commit { uploads: self, checkpoint, own: Uploaded::new(), refused: false }
    }

    fn order(&self) -> MutexGuard<'_, Order> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Commit<'_> {
    pub(crate) fn checkpoint(&self) -> CheckpointId {
        self.checkpoint
    }

    /// Returns the files that this commit need not store. Those that no snapshot before names come first, so
    /// that a pack which a failed commit has put together, or this one before it was refused, is of use.
    pub(crate) fn known(&self) -> Known {
        let order = self.uploads.order();
        let before = order.stored.range(..self.checkpoint).next_back();
        let mut files = before.map_or_else(Uploaded::new, |(_, before)| before.clone());
        files.extend(order.loose.clone());
        files.extend(self.own.clone());
        // A full snapshot may complete first, and names none of these files.
        let full = order.live.range(..self.checkpoint).rev().find(|(_, is_full)| **is_full);
        if let Some((full, _)) = full {
            files.retain(|_, location| location.stored_for > *full);
        }
        let mut fixed = HashSet::new();
        if let Some((_, after)) = order.stored.range(self.checkpoint..).next() {
            let older = after.iter().filter(|(_, location)| location.stored_for <= self.checkpoint);
            for (name, location) in older {
                fixed.insert(location.pack.name.clone());
                files.insert(name.clone(), location.clone());
            }
        }
        if self.refused {
            // To put packs together again would give others the time to end first again.
            fixed.extend(files.values().map(|location| location.pack.name.clone()));
        }
        Known { files, fixed }
    }

    /// Notes a file that this commit has stored.
    pub(crate) fn add(&mut self, name: &str, location: &Location) {
        self.own.insert(name.to_owned(), location.clone());
    }

    /// Takes in the files of the snapshot, unless others that were stored meanwhile do not go with them.
    pub(crate) fn publish(&mut self, files: &Uploaded) -> bool {
        let mut order = self.uploads.order();
        let before = order.stored.range(..self.checkpoint).next_back();
        let after = order.stored.range(self.checkpoint..).next();
        let fits = before.is_none_or(|(at, older)| may_follow(files, *at, older))
            && after.is_none_or(|(_, newer)| may_follow(newer, self.checkpoint, files));
        if fits {
            order.live.remove(&self.checkpoint);
            order.stored.insert(self.checkpoint, files.clone());
            order.forget();
        }
        self.refused = !fits;
        fits
    }
}

impl Drop for Commit<'_> {
    fn drop(&mut self) {
        let mut order = self.uploads.order();
        if order.live.remove(&self.checkpoint).is_some() {
            order.loose.extend(self.own.drain());
            order.forget();
        }
    }
}

/// Returns whether `files` name no pack that was stored for `at` or before and that `older`, the files of the
/// snapshot of `at`, do not name.
fn may_follow(files: &Uploaded, at: CheckpointId, older: &Uploaded) -> bool {
    let packs: HashSet<&SegmentName> = older.values().map(|location| &location.pack.name).collect();
    let mut shared = files.values().filter(|location| location.stored_for <= at);
    shared.all(|location| packs.contains(&location.pack.name))
}

impl Order {
    /// Forgets what no commit can need any more.
    fn forget(&mut self) {
        let newest = self.stored.keys().next_back().copied();
        let mut needed: HashSet<_> = newest.into_iter().collect();
        for live in self.live.keys() {
            needed.extend(self.stored.range(..live).next_back().map(|(at, _)| *at));
            needed.extend(self.stored.range(live..).next().map(|(at, _)| *at));
        }
        self.stored.retain(|at, _| needed.contains(at));
        // A checkpoint that is complete does not name them.
        self.loose.retain(|_, location| Some(location.stored_for) > newest);
    }
}

#[cfg(test)]
mod tests;
