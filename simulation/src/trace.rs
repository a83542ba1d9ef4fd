//! What happened, in order: a hash that shows whether two runs were the same, and lines for people.

use std::collections::VecDeque;
use std::time::Duration;

use xxhash_rust::xxh3::Xxh3;

/// How many of the last lines are kept.
const LINES: usize = 4000;

pub(crate) struct Trace {
    hash: Xxh3,
    /// `None` where nobody will read them.
    lines: Option<VecDeque<String>>,
}

impl Trace {
    pub(crate) fn new(with_lines: bool) -> Self {
        Self { hash: Xxh3::new(), lines: with_lines.then(VecDeque::new) }
    }

    pub(crate) fn add(&mut self, at: Duration, process: u32, thread: &str, text: impl FnOnce() -> String) {
        let text = text();
        self.hash.update(&at.as_nanos().to_le_bytes());
        self.hash.update(text.as_bytes());
        let Some(lines) = &mut self.lines else { return };
        if lines.len() == LINES {
            lines.pop_front();
        }
        let at = at.as_secs_f64() * 1000.0;
        lines.push_back(format!("{at:>9.3} ms  {process:>2} {thread:<20} {text}"));
    }

    /// A thread got the baton.
    pub(crate) fn handed_to(&mut self, thread: u64) {
        self.hash.update(&thread.to_le_bytes());
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash.digest()
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.iter().flatten().cloned().collect()
    }
}
