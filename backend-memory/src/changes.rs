//! What changed in one step, and how it becomes segments.

use strandline_snapshot_format::{ExpiryFilter, Kept, Op, SegmentKind, SegmentWriter};
use strandline_state_api::Result;

use crate::options::MemoryOptions;
use crate::records::StateDelta;
use crate::sorted::Sorted;

/// What changed between one snapshot and the next, encoded and owned.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub(crate) states: Vec<StateDelta>,
    /// Whether they hold all entries, so that they need no older file.
    pub(crate) full: bool,
    bytes: usize,
    records: usize,
}

impl Changes {
    /// Creates changes of about `records` records.
    pub(crate) fn new(states: Vec<StateDelta>, full: bool, records: usize) -> Self {
        let bytes = states.iter().map(|state| state.records.bytes()).sum();
        Self { states, full, bytes, records }
    }

    /// Returns the states in layers, each with every state in one form at most: an unclaimed state may have
    /// several forms, oldest first, of which those without records are left out.
    pub(crate) fn layers(&self) -> Vec<Vec<&StateDelta>> {
        let mut layers: Vec<Vec<&StateDelta>> = vec![Vec::new()];
        for state in &self.states {
            let has_name = |other: &StateDelta| other.meta.name == state.meta.name;
            if state.records.bytes() == 0 && self.states.iter().filter(|other| has_name(other)).count() > 1 {
                continue;
            }
            match layers.iter_mut().find(|layer| !layer.iter().any(|other| has_name(other))) {
                Some(layer) => layer.push(state),
                None => layers.push(vec![state]),
            }
        }
        layers
    }

    /// Returns the number of bytes of all records.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the number of records, as far as it is known.
    pub(crate) fn records(&self) -> usize {
        self.records
    }
}

/// Writes the changes of `states`, each in one form, as segments and hands each to `done` when it is
/// complete.
///
/// A [`SegmentKind::Base`] leaves out tombstones and turns appends into puts: nothing older exists. It also
/// leaves out what `filter` does.
pub(crate) fn write_segments(
    mut states: Vec<&StateDelta>,
    kind: SegmentKind,
    filter: &ExpiryFilter,
    options: &MemoryOptions,
    done: &mut dyn FnMut(SegmentWriter) -> Result<()>,
) -> Result<()> {
    states.sort_by(|a, b| a.meta.name.cmp(&b.meta.name));
    let metas: Vec<_> = states.iter().map(|state| state.meta.clone()).collect();
    let mut sorted: Vec<_> = states.into_iter().map(Sorted::new).collect();
    let start = || SegmentWriter::new(metas.clone(), kind, options.format.writer);
    let mut writer = start()?;
    let mut part = Vec::new();
    while let Some(group) = sorted.iter().filter_map(Sorted::group).min() {
        for (index, state) in sorted.iter_mut().enumerate() {
            while state.group() == Some(group)
                && let Some((mut entry, _)) = state.peek()
            {
                state.skip();
                if kind == SegmentKind::Base {
                    match entry.op {
                        Op::Put => {}
                        Op::Append => entry.op = Op::Put,
                        Op::Delete | Op::Clear => continue,
                    }
                    match filter.keep(&metas[index], entry.value, &mut part) {
                        Kept::Whole => {}
                        Kept::Part => entry.value = &part,
                        Kept::Nothing => continue,
                    }
                }
                entry.state = index as u16;
                writer.push(entry)?;
            }
        }
        if writer.bytes_so_far() >= options.format.max_segment_bytes {
            done(std::mem::replace(&mut writer, start()?))?;
        }
    }
    if writer.is_empty() { Ok(()) } else { done(writer) }
}
