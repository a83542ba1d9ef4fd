//! Entries in order, on their way into the database as table files.

use strandline_state_api::{KeyGroup, KeyGroupRange, Result};

use crate::database::{Database, ReadOnly};
use crate::directory::StoredState;
use crate::layout::{Addressing, bounds, prefix};
use crate::table_files::TableFiles;

/// Writes table files and hands them to the database.
pub(super) struct Bulk<'a> {
    /// Where the entries of each state go.
    targets: &'a [Addressing],
    /// Whether the states come in the order of their numbers.
    in_order: bool,
    /// Entries of the current key group that wait for those of states with lower numbers.
    waiting: Vec<(Vec<u8>, Vec<u8>)>,
    group: Option<KeyGroup>,
    address: Vec<u8>,
    output: TableFiles<'a>,
}

impl<'a> Bulk<'a> {
    /// `targets` are in the order of the states in what is pushed.
    pub(super) fn new(database: &'a Database, targets: &'a [Addressing]) -> Self {
        let in_order = targets.is_sorted_by_key(|target| target.id);
        let output = TableFiles::new(database);
        Self { targets, in_order, waiting: Vec::new(), group: None, address: Vec::new(), output }
    }

    /// Takes an entry of the portable format; entries come in the order of that format.
    pub(super) fn push(
        &mut self,
        state: u16,
        group: KeyGroup,
        parts: [&[u8]; 3],
        value: &[u8],
    ) -> Result<()> {
        let Some(target) = self.targets.get(usize::from(state)) else { return Ok(()) };
        target.join(group, parts, &mut self.address);
        if self.in_order {
            return self.output.put(&self.address, value);
        }
        if self.group != Some(group) {
            self.flush_group()?;
            self.group = Some(group);
        }
        self.waiting.push((self.address.clone(), value.to_vec()));
        Ok(())
    }

    fn flush_group(&mut self) -> Result<()> {
        self.waiting.sort_unstable();
        for (address, value) in self.waiting.drain(..) {
            self.output.put(&address, &value)?;
        }
        Ok(())
    }

    /// Takes the entries of another database in `range`. Its `states` are in the order of the targets.
    pub(super) fn copy(
        &mut self,
        source: &ReadOnly,
        states: &[StoredState],
        range: KeyGroupRange,
    ) -> Result<()> {
        let same = states.iter().map(|state| &state.addressing).eq(self.targets);
        let (from, to) = bounds(range);
        let mut entries = source.iterate(&from, Some(&to));
        entries.first()?;
        let mut index = vec![None; 1 << 16];
        for (number, state) in (0u16..).zip(states) {
            index[usize::from(state.addressing.id)] = Some(number);
        }
        while let Some((address, value)) = entries.entry() {
            if same {
                self.output.put(address, value)?;
            } else {
                let (group, id) = prefix(address)?;
                if let Some(number) = index[usize::from(id)] {
                    // The other database numbers its states in another order, so the entries of a key group
                    // wait.
                    self.in_order = false;
                    let parts = states[usize::from(number)].addressing.layout.split(address)?;
                    self.push(number, group, [&parts.key, &parts.namespace, &parts.sub], value)?;
                }
            }
            entries.step()?;
        }
        Ok(())
    }

    /// Hands everything to the database.
    pub(super) fn finish(mut self) -> Result<()> {
        self.flush_group()?;
        self.output.finish()?.ingest(|| {})
    }
}
