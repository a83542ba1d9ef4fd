//! Full snapshots: the cut, read in order and written in the portable format.

use strandline_snapshot_format::{
    EntryRef, ExpiryFilter, FinishedSegment, Kept, Op, SegmentKind, SegmentWriter,
};
use strandline_state_api::backend::BackendScope;
use strandline_state_api::schema::StateMeta;
use strandline_state_api::snapshot::{KeyedSnapshot, SegmentStore, SnapshotPart};
use strandline_state_api::{Error, KeyGroup, Result};

use crate::cut::PreparedCut;
use crate::database::{Environment, ReadOnly};
use crate::directory::StoredState;
use crate::layout::{bounds, prefix};

/// Stores the cut of `prepared` in the portable format.
pub(crate) async fn write_portable(
    scope: &BackendScope,
    environment: &Environment,
    prepared: &PreparedCut,
    store: &dyn SegmentStore,
) -> Result<KeyedSnapshot> {
    let database = ReadOnly::open(environment, prepared.cut.path())?;
    let mut output = PortableOutput::new(prepared, environment);
    let (from, to) = bounds(scope.key_groups);
    // No walk is open at an await, so that the future can move between threads.
    let mut next = from.to_vec();
    loop {
        let (segment, resume) = output.fill(&database, &next, &to)?;
        if let Some(bytes) = segment {
            output.store(bytes, store).await?;
        }
        match resume {
            Some(resume) => next = resume,
            None if output.snapshot.parts.is_empty() => return Ok(output.snapshot),
            None => {
                let states = prepared.states.iter().map(|stored| stored.meta.clone()).collect();
                return Ok(KeyedSnapshot { states, ..output.snapshot });
            }
        }
    }
}

/// An entry of the current key group, which waits for those of states whose names come first.
struct Waiting {
    /// The index of the state, by name.
    state: u16,
    address: Vec<u8>,
    value: Vec<u8>,
}

struct PortableOutput<'a> {
    states: &'a [StoredState],
    /// From numbers in keys to indexes by name.
    index: Vec<Option<u16>>,
    environment: &'a Environment,
    filter: &'a ExpiryFilter,
    writer: Option<SegmentWriter>,
    snapshot: KeyedSnapshot,
}

impl<'a> PortableOutput<'a> {
    fn new(prepared: &'a PreparedCut, environment: &'a Environment) -> Self {
        let (states, filter) = (&prepared.states[..], &prepared.filter);
        let id = |state: &StoredState| usize::from(state.addressing.id);
        let mut index = vec![None; states.iter().map(|state| id(state) + 1).max().unwrap_or(0)];
        for (position, state) in (0..).zip(states) {
            index[id(state)] = Some(position);
        }
        Self { states, index, environment, filter, writer: None, snapshot: KeyedSnapshot::default() }
    }

    /// Reads from `from` until a segment is full or all is read; returns the segment and where the next one
    /// starts.
    fn fill(
        &mut self,
        database: &ReadOnly,
        from: &[u8],
        to: &[u8],
    ) -> Result<(Option<FinishedSegment>, Option<Vec<u8>>)> {
        let mut entries = database.iterate(from, Some(to));
        entries.first()?;
        let mut group: Option<KeyGroup> = None;
        let (mut waiting, mut part): (Vec<Waiting>, _) = (Vec::new(), Vec::new());
        while let Some((address, value)) = entries.entry() {
            let (of, state) = prefix(address)?;
            if group != Some(of) {
                self.write(group, &mut waiting)?;
                group = Some(of);
                if self.writer.as_ref().is_some_and(|writer| {
                    writer.bytes_so_far() >= self.environment.options.format.max_segment_bytes
                }) {
                    return Ok((self.finish()?, Some(address.to_vec())));
                }
            }
            let state = self.index.get(usize::from(state)).copied().flatten();
            let state =
                state.ok_or_else(|| Error::corrupt("the local database has an entry of an unknown state"))?;
            let kept = self.filter.keep(&self.states[usize::from(state)].meta, value, &mut part);
            let value = if kept == Kept::Part { &part } else { value };
            if kept != Kept::Nothing {
                waiting.push(Waiting { state, address: address.to_vec(), value: value.to_vec() });
            }
            entries.step()?;
        }
        self.write(group, &mut waiting)?;
        Ok((self.finish()?, None))
    }

    /// Writes the entries of a key group in the order of their states' names.
    fn write(&mut self, group: Option<KeyGroup>, waiting: &mut Vec<Waiting>) -> Result<()> {
        let Some(group) = group else { return Ok(()) };
        // The sort is stable: within a state the entries are in order already.
        waiting.sort_by_key(|waiting| waiting.state);
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => {
                let states: Vec<StateMeta> = self.states.iter().map(|state| state.meta.clone()).collect();
                none.insert(SegmentWriter::new(
                    states,
                    SegmentKind::Base,
                    self.environment.options.format.writer,
                )?)
            }
        };
        for Waiting { state, address, value } in waiting.drain(..) {
            let parts = self.states[usize::from(state)].addressing.layout.split(&address)?;
            let (namespace, sub) = (&*parts.namespace, &*parts.sub);
            let key = &*parts.key;
            writer.push(EntryRef {
                namespace,
                sub,
                value: &value,
                ..EntryRef::new(group, state, Op::Put, key)
            })?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<Option<FinishedSegment>> {
        self.writer.take().filter(|writer| !writer.is_empty()).map(SegmentWriter::finish).transpose()
    }

    async fn store(&mut self, finished: FinishedSegment, store: &dyn SegmentStore) -> Result<()> {
        let segment = store.put(finished.bytes).await?;
        self.snapshot.written_bytes += segment.len;
        self.snapshot.parts.push(SnapshotPart::portable(segment, finished.key_groups));
        Ok(())
    }
}
