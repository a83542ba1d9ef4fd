//! Looks for new files, and for files that have grown or were renamed, while a job runs.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use strandline_state_api::Result;

use super::identity::Stamp;
use super::listing::{InputFile, list_any};
use super::place::InputPath;

/// What all subtasks of a source know of its input. Each change goes to the subtask that reads the file.
#[derive(Debug)]
pub(super) struct Watcher {
    every: Duration,
    next: Instant,
    files: HashMap<String, Watched>,
    inodes: HashMap<u64, String>,
    inboxes: Vec<Vec<Change>>,
    /// The subtask that gets the next new file.
    turn: usize,
}

#[derive(Clone, Copy, Debug)]
struct Watched {
    len: u64,
    stamp: Stamp,
    owner: usize,
}

/// A change of the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    New(InputFile),
    /// The file has more bytes than before.
    Grown(InputFile),
    /// The file was known by another name, and may be longer now.
    Renamed {
        from: String,
        file: InputFile,
        owner: usize,
    },
    /// Another file has taken the name, or the file has become shorter.
    Replaced(InputFile),
}

impl Watcher {
    /// Begins to watch, with the files that the subtasks know of.
    pub(super) fn new(every: Duration, now: Instant, subtasks: usize) -> Self {
        let (files, inodes) = (HashMap::new(), HashMap::new());
        Self { every, next: now + every, files, inodes, inboxes: vec![Vec::new(); subtasks.max(1)], turn: 0 }
    }

    /// Adds a file that the subtask `owner` reads or has read.
    pub(super) fn know(&mut self, name: &str, len: u64, stamp: Stamp, owner: usize) {
        // The subtask that reads the end of a file reads on.
        if self.files.get(name).is_some_and(|known| known.len > len) {
            return;
        }
        self.files.insert(name.to_owned(), Watched { len, stamp, owner });
        if stamp.inode != 0 {
            self.inodes.insert(stamp.inode, name.to_owned());
        }
    }

    /// Lists the input again if it is time, and returns what has changed for `subtask`.
    pub(super) fn changes(&mut self, path: &InputPath, now: Instant, subtask: u32) -> Result<Vec<Change>> {
        if now >= self.next {
            self.next = now + self.every;
            let listing = list_any(path)?;
            self.compare(listing);
        }
        Ok(self.inboxes.get_mut(subtask as usize).map(std::mem::take).unwrap_or_default())
    }

    fn compare(&mut self, listing: Vec<InputFile>) {
        let listed: HashMap<String, u64> =
            listing.iter().map(|file| (file.name.clone(), file.stamp.inode)).collect();
        let mut unknown = Vec::new();
        for file in listing {
            match self.files.get_mut(&file.name) {
                // If the file before has another name now, this is a new one: the inodes are compared below.
                Some(known) if known.stamp.inode == file.stamp.inode && known.len <= file.len => {
                    let (owner, has_grown) = (known.owner, known.len < file.len);
                    (known.len, known.stamp) = (file.len, file.stamp);
                    if has_grown {
                        self.send(owner, Change::Grown(file));
                    }
                }
                _ => unknown.push(file),
            }
        }
        // Renames first: they make names free.
        let (renamed, others): (Vec<_>, Vec<_>) =
            unknown.into_iter().partition(|file| self.is_renamed(file, &listed));
        for file in renamed {
            let Some(from) = self.inodes.get(&file.stamp.inode).cloned() else { continue };
            let Some(before) = self.files.remove(&from) else { continue };
            let to = file.name.clone();
            self.know(&to, file.len, file.stamp, before.owner);
            let change = Change::Renamed { from, file, owner: before.owner };
            // Any of them may read a part of it.
            self.inboxes.iter_mut().for_each(|inbox| inbox.push(change.clone()));
        }
        for file in others {
            if let Some(known) = self.files.remove(&file.name) {
                self.know(&file.name, file.len, file.stamp, known.owner);
                self.send(known.owner, Change::Replaced(file));
            } else if file.len > 0 {
                let owner = self.turn % self.inboxes.len();
                self.turn += 1;
                self.know(&file.name, file.len, file.stamp, owner);
                self.send(owner, Change::New(file));
            }
        }
    }

    /// Whether the file may be one that is known by another name. Another file with the same content may have
    /// been given the inode of one that was deleted, so it must be unchanged or longer; whether it begins with
    /// what was read, its reader checks.
    fn is_renamed(&self, file: &InputFile, listed: &HashMap<String, u64>) -> bool {
        let Some(before) = self.inodes.get(&file.stamp.inode).filter(|before| **before != file.name) else {
            return false;
        };
        let is_link = listed.get(before) == Some(&file.stamp.inode);
        let known = self.files.get(before);
        !is_link && known.is_some_and(|known| known.stamp.is_untouched(file.stamp) || known.len < file.len)
    }

    fn send(&mut self, owner: usize, change: Change) {
        if let Some(inbox) = self.inboxes.get_mut(owner) {
            inbox.push(change);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::identity::Stamp;
    use super::*;

    #[test]
    fn each_change_is_found_once() {
        let file = |name: &str, len, inode| InputFile {
            name: name.into(),
            len,
            stamp: Stamp { modified: 1, inode },
        };
        let now = Instant::now();
        let mut watcher = Watcher::new(Duration::ZERO, now, 2);
        watcher.know("a", 5, Stamp { modified: 1, inode: 1 }, 1);
        let mut compare = |listing: &[InputFile]| {
            watcher.compare(listing.to_vec());
            let mut inboxes = watcher.inboxes.iter_mut().map(std::mem::take);
            [inboxes.next().unwrap(), inboxes.next().unwrap()]
        };
        assert_eq!(compare(&[file("a", 5, 1)]), [vec![], vec![]]);
        assert_eq!(compare(&[file("a", 6, 1)]), [vec![], vec![Change::Grown(file("a", 6, 1))]]);
        let (b, c) = (file("b", 2, 2), file("c", 0, 3));
        assert_eq!(compare(&[file("a", 6, 1), b.clone(), c]), [vec![Change::New(b.clone())], vec![]]);
        // The file is rotated: it has another name and more lines, and a new one has its name.
        let (old, new) = (file("a.1", 8, 1), file("a", 1, 4));
        let renamed = Change::Renamed { from: "a".into(), file: old.clone(), owner: 1 };
        assert_eq!(
            compare(&[new.clone(), old.clone(), b.clone()]),
            [vec![renamed.clone()], vec![renamed, Change::New(new.clone())]]
        );
        assert_eq!(compare(&[new.clone(), old.clone(), b]), [vec![], vec![]]);
        assert_eq!(compare(&[new.clone(), old]), [vec![], vec![]], "it was archived");
        let other = file("a.1", 9, 5);
        assert_eq!(compare(&[new, other.clone()]), [vec![], vec![Change::Replaced(other)]]);
    }
}
