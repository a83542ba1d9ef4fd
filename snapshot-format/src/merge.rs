//! Merges the parts of a snapshot, oldest to newest, into one ordered stream of entries.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::ops::ControlFlow;

use crate::cursor::{SegmentCursor, Step};
use crate::entry::{EntryBuf, EntryRef, FIRST_GROUP, Op};
use crate::forms::{Forms, PartStates, Place};
use crate::heap::Heap;
use crate::layout::MAX_ENTRY_BYTES;
use crate::reader::{READ_BYTES, SegmentReader};
use crate::segment_kind::SegmentKind;
use strandline_state_api::schema::StateMeta;
use strandline_state_api::snapshot::{PartFormat, SegmentStore, SnapshotPart};
use strandline_state_api::{Error, ErrorKind, KeyGroupRange, Result};

/// The number of bytes that all parts together may read ahead, unless single blocks are larger.
const READ_AHEAD_BYTES: u64 = 32 << 20;
/// The minimum number of bytes that a part reads at once.
const MIN_READ_BYTES: u64 = 64 << 10;

/// The number of parts that are merged without a heap; their places are bits.
const MOST_SIDE_BY_SIDE: usize = 8;

/// A merge of parts: for each position the newest operation, with older ones folded in.
///
/// | older parts have | newer part has | result |
/// | --- | --- | --- |
/// | anything | `Put` | the new value |
/// | anything | `Delete` | deleted |
/// | `Put` or `Append` | `Append` | the same with more elements |
/// | `Delete` | `Append` | `Put` of the new elements |
/// | map entries | `Clear` | only map entries of the newer part or still newer ones |
///
/// In a [base](SegmentKind::Base), deleted entries vanish, and elements that are appended to nothing become a
/// `Put`. A [delta](SegmentKind::Delta) keeps `Delete`, `Append` and `Clear` for the parts under it.
///
/// Parts may store a state in different forms (value codec, stamp and schema version), as a chain does after
/// a program with a newer version of the state was restored from it. Each entry has the form of the part that
/// its value comes from; only the program can migrate it. So a list with elements in several forms comes as
/// several entries at one position, oldest first: all but the first are `Append`, in a base, too.
///
/// A merge holds in memory one decoded block and one read-ahead for each part whose key groups are being
/// merged, and one entry.
#[derive(Debug)]
pub struct Merge<'a> {
    target: SegmentKind,
    /// A row for each state and form.
    states: Vec<StateMeta>,
    /// The layer of each row.
    layers: Vec<u16>,
    inputs: Vec<Input<'a>>,
    /// Inputs that are not open yet: (first group, input), the smallest group last.
    waiting: Vec<(u32, usize)>,
    heap: Heap,
    /// The open inputs while their entries are lent, oldest first; empty otherwise.
    side_by_side: Vec<usize>,
    current: EntryBuf,
    /// The row of the current value.
    row: u16,
    /// Elements in other forms that follow those of the current entry: row and list.
    later: VecDeque<(u16, Vec<u8>)>,
    /// The newest clear, and the input that it comes from.
    clear: Option<(EntryBuf, usize)>,
    /// Whether a step failed or was cancelled.
    broken: bool,
}

#[derive(Debug)]
struct Input<'a> {
    cursor: SegmentCursor<'a>,
    /// Maps the states of the segment to those of the merge.
    places: Vec<Place>,
    /// The rank of the head, so that most comparisons touch no entry.
    rank: (u32, u64),
}

impl Input<'_> {
    /// Returns the head; its state is the rank by name, whatever its form.
    #[inline(always)]
    fn head(&self) -> Option<EntryRef<'_>> {
        let entry = self.cursor.entry()?;
        Some(EntryRef { state: self.places[usize::from(entry.state)].rank, ..entry })
    }

    /// Returns the head and the row of its form.
    #[inline(always)]
    fn head_in_row(&self) -> Option<(EntryRef<'_>, u16)> {
        let entry = self.cursor.entry()?;
        let Place { rank, row } = self.places[usize::from(entry.state)];
        Some((EntryRef { state: rank, ..entry }, row))
    }

    #[inline(always)]
    fn rank_head(&mut self) {
        self.rank = self.head().map(|head| head.rank()).unwrap_or_default();
    }
}

/// Returns whether the head of input `a` comes before that of `b`; at one position, the older part comes
/// first.
#[inline]
fn before(inputs: &[Input<'_>], a: usize, b: usize) -> bool {
    let exact = || match (inputs[a].head(), inputs[b].head()) {
        (Some(x), Some(y)) => x.cmp_position(&y),
        _ => Ordering::Equal, // never: inputs without head are not in the heap
    };
    inputs[a].rank.cmp(&inputs[b].rank).then_with(exact).then(a.cmp(&b)) == Ordering::Less
}

pub(crate) fn native(part: &SnapshotPart, format: &str) -> Error {
    let message = format!(
        "the snapshot is in the native format {format:?} of another backend: restore it with that backend, or take \
         a full snapshot (a savepoint) there, which every backend reads"
    );
    Error::new(ErrorKind::Incompatible, message).with("segment", &part.segment.name)
}

impl<'a> Merge<'a> {
    /// Opens the parts, oldest first, for those entries of their key groups that are also in `range`.
    ///
    /// # Errors
    /// [`Incompatible`](ErrorKind::Incompatible) when a part is not in this format, or when two parts have
    /// states of one name but of different kind or with other codecs of key, namespace or map key; otherwise
    /// those of [`SegmentReader::open`].
    pub async fn open(
        store: &'a dyn SegmentStore,
        parts: &[SnapshotPart],
        target: SegmentKind,
        range: KeyGroupRange,
    ) -> Result<Self> {
        let mut readers = Vec::new();
        for part in parts {
            let groups = part.key_groups.intersect(range);
            if groups.is_empty() {
                continue;
            }
            if let PartFormat::Native(format) = &part.format {
                return Err(native(part, format));
            }
            readers.push((SegmentReader::open(store, &part.segment).await?, groups));
        }
        Self::over(readers, target)
    }

    /// Merges segments that are open already, oldest first, each in a range of key groups. So a program that
    /// reads many ranges of one snapshot reads each index once.
    ///
    /// # Errors
    /// [`Incompatible`](ErrorKind::Incompatible) as for [`open`](Self::open).
    pub fn over(readers: Vec<(SegmentReader<'a>, KeyGroupRange)>, target: SegmentKind) -> Result<Self> {
        let tables: Vec<_> = readers
            .iter()
            .map(|(reader, groups)| PartStates {
                segment: &reader.segment.name,
                key_groups: *groups,
                states: reader.states(),
            })
            .collect();
        let Forms { rows: states, layers, places } = Forms::of(&tables)?;
        let read_bytes = (READ_AHEAD_BYTES / readers.len().max(1) as u64).clamp(MIN_READ_BYTES, READ_BYTES);
        let mut inputs = Vec::with_capacity(readers.len());
        let mut waiting = Vec::with_capacity(readers.len());
        for ((reader, groups), places) in readers.into_iter().zip(places) {
            waiting.extend(reader.index().first_group(groups).map(|first| (first, inputs.len())));
            let cursor = SegmentCursor::new(reader, groups, read_bytes);
            inputs.push(Input { cursor, places, rank: (0, 0) });
        }
        waiting.sort_unstable_by(|a, b| b.cmp(a));
        let current = EntryBuf::new(FIRST_GROUP);
        Ok(Self {
            target,
            states,
            layers,
            inputs,
            waiting,
            heap: Heap::default(),
            side_by_side: Vec::new(),
            current,
            row: 0,
            later: VecDeque::new(),
            clear: None,
            broken: false,
        })
    }

    /// Returns the states of all parts, sorted by name, and each in every form that a part has;
    /// [`EntryRef::state`] is an index into them. The forms of one state come oldest first. One that came
    /// back after another comes twice.
    pub fn states(&self) -> &[StateMeta] {
        &self.states
    }

    /// Returns the layer of each of the [states](Self::states): of entries at one position, later ones have
    /// higher layers, and a layer has each state in one form only.
    pub(crate) fn layers(&self) -> &[u16] {
        &self.layers
    }

    /// Returns the next entry, in [order](EntryRef::cmp_position) by the names of the states, whatever their
    /// forms; `None` after the last one.
    ///
    /// # Errors
    /// Those of [`SegmentReader::read`]; [`Unsupported`](ErrorKind::Unsupported) when a list grows over
    /// [`MAX_ENTRY_BYTES`]. After an error, or when the caller dropped the future before it was ready, every
    /// call fails.
    pub async fn next(&mut self) -> Result<Option<EntryRef<'_>>> {
        if self.broken {
            return Err(Error::invalid(
                "a merge cannot go on after it failed or was cancelled: start it again",
            ));
        }
        self.broken = true;
        let any = self.resolve().await?;
        self.broken = false;
        Ok(any.then(|| self.current.as_ref()))
    }

    /// Lends the next entries to `take`, in the order of [`next`](Self::next), until it breaks off. Returns whether
    /// more may follow: `false` behind the last entry.
    ///
    /// Entries that are whole in one part are lent from its block, however the parts are interleaved: `next` copies
    /// each and takes a multiple of the time. Only those are copied here that several parts make up (elements of
    /// lists), that follow a `Clear` of their map, or that more than eight parts are merged for.
    ///
    /// # Errors
    /// Those of [`next`](Self::next), and the first one of `take`: the merge cannot go on after that.
    pub async fn read(
        &mut self,
        mut take: impl FnMut(EntryRef<'_>) -> Result<ControlFlow<()>> + Send,
    ) -> Result<bool> {
        loop {
            if self.read_stretch(&mut take).await?.is_break() {
                return Ok(true);
            }
            match self.next().await? {
                Some(entry) if take(entry)?.is_continue() => {}
                entry => return Ok(entry.is_some()),
            }
        }
    }

    /// Lends entries that are whole in one part, as long as all are, without a copy: of entries at one position the
    /// newest hides the others.
    async fn read_stretch(
        &mut self,
        take: &mut (impl FnMut(EntryRef<'_>) -> Result<ControlFlow<()>> + Send),
    ) -> Result<ControlFlow<()>> {
        let mut flow = ControlFlow::Continue(());
        let few = (1..=MOST_SIDE_BY_SIDE).contains(&self.heap.len());
        if self.broken || !few || !self.later.is_empty() || self.is_in_cleared_map() {
            return Ok(flow);
        }
        self.clear = None;
        let due = self.waiting.last().map_or(u32::MAX, |&(group, _)| group);
        self.broken = true;
        // Few inputs are compared faster one by one than in a heap.
        self.heap.drain_into(&mut self.side_by_side);
        self.side_by_side.sort_unstable();
        while flow.is_continue() && !self.side_by_side.is_empty() {
            let (newest, hidden) = self.first_of(&self.side_by_side);
            let Some((head, row)) = self.inputs[self.side_by_side[newest]].head_in_row() else { break };
            let is_whole = match head.op {
                Op::Put => true,
                Op::Append => self.target == SegmentKind::Base && hidden == 0,
                Op::Delete if self.target == SegmentKind::Base => false,
                Op::Delete | Op::Clear => break,
            };
            if u32::from(head.group.index()) >= due || (head.op == Op::Append && !is_whole) {
                break;
            }
            if is_whole {
                flow = take(EntryRef { op: Op::Put, state: row, ..head })?;
            }
            // From the last one on, because one that has come to its end leaves.
            for at in (0..=newest).rev().filter(|at| *at == newest || hidden & 1 << at != 0) {
                let input = &mut self.inputs[self.side_by_side[at]];
                // A future for each entry would cost more than the entry, so only a new block is awaited.
                let more = match input.cursor.step()? {
                    Step::NeedsBlock => input.cursor.advance().await?,
                    step => step == Step::Entry,
                };
                if !more {
                    self.side_by_side.remove(at);
                } else if self.side_by_side.len() > 1 {
                    input.rank_head();
                }
            }
        }
        for input in self.side_by_side.drain(..) {
            self.inputs[input].rank_head();
            self.heap.push(input, |a, b| before(&self.inputs, a, b));
        }
        self.broken = false;
        Ok(flow)
    }

    /// Returns the place of the newest of the inputs at the first position, and the places of the others there as
    /// bits. `open` has the older inputs first.
    #[inline(always)]
    fn first_of(&self, open: &[usize]) -> (usize, u8) {
        let (mut first, mut hidden) = (0, 0);
        for at in 1..open.len() {
            let (a, b) = (&self.inputs[open[first]], &self.inputs[open[at]]);
            let exact = || match (a.head(), b.head()) {
                (Some(a), Some(b)) => a.cmp_position(&b),
                _ => Ordering::Less, // never: an input without head is not open
            };
            match a.rank.cmp(&b.rank).then_with(exact) {
                Ordering::Less => {}
                Ordering::Equal => (first, hidden) = (at, hidden | 1 << first),
                Ordering::Greater => (first, hidden) = (at, 0),
            }
        }
        (first, hidden)
    }

    /// Moves to the next entry that is part of the result.
    async fn resolve(&mut self) -> Result<bool> {
        if let Some((row, elements)) = self.later.pop_front() {
            (self.current.op, self.current.state, self.current.value) = (Op::Append, row, elements);
            return Ok(true);
        }
        loop {
            if self.is_due() {
                self.open_waiting().await?;
            }
            let Some(mut input) = self.heap.top() else {
                return Ok(false);
            };
            let mut result = None;
            let rank = self.inputs[input].rank;
            if let Some(head) = self.inputs[input].head() {
                self.current.set_position(&head);
            }
            let cleared = match &self.clear {
                Some((at, from)) if at.same_map(&self.current.as_ref()) => Some(*from),
                _ => None,
            };
            loop {
                if cleared.is_none_or(|from| input >= from) {
                    result = Some(self.work_in(input, result)?);
                }
                if self.current.op == Op::Clear {
                    self.set_clear(input);
                }
                let advanced = &mut self.inputs[input];
                let more = match advanced.cursor.step()? {
                    Step::NeedsBlock => advanced.cursor.advance().await?,
                    step => step == Step::Entry,
                };
                if more {
                    advanced.rank_head();
                }
                self.top_advanced(more);
                match self.heap.top() {
                    Some(top) if self.inputs[top].rank == rank && self.at_current(top) => input = top,
                    _ => break,
                }
            }
            if let Some(op) = result.and_then(|op| self.outcome(op, cleared.is_some())) {
                (self.current.op, self.current.state) = (op, self.row);
                return Ok(true);
            }
        }
    }

    /// Folds the head of `input` into the current entry, whose operation so far is `before`.
    #[inline]
    fn work_in(&mut self, input: usize, before: Option<Op>) -> Result<Op> {
        let Some((head, row)) = self.inputs[input].head_in_row() else {
            return Ok(before.unwrap_or(Op::Delete)); // never: an input without head is not in the heap
        };
        let appends = head.op == Op::Append && matches!(before, Some(Op::Put | Op::Append));
        if !appends {
            self.current.value.clear();
            self.later.clear();
            self.row = row;
        } else if self.payload_len() + head.value.len() > MAX_ENTRY_BYTES {
            let message = format!("a list grows over the {MAX_ENTRY_BYTES} bytes that an entry can have");
            let name = self.states.get(usize::from(row)).map_or("?", |meta| &meta.name);
            return Err(Error::new(ErrorKind::Unsupported, message)
                .with("state", name)
                .with("key group", head.group));
        }
        match self.later.back_mut() {
            Some((last, elements)) if *last == row => elements.extend_from_slice(head.value),
            None if self.row == row => self.current.value.extend_from_slice(head.value),
            _ => self.later.push_back((row, head.value.to_vec())),
        }
        Ok(match (head.op, before) {
            (Op::Append, Some(Op::Put | Op::Delete)) => Op::Put,
            (op, _) => op,
        })
    }

    /// Returns the length of the current entry, with the elements that follow it.
    fn payload_len(&self) -> usize {
        let later = self.later.iter().map(|(_, elements)| elements.len()).sum::<usize>();
        self.current.as_ref().payload_len() + later
    }

    /// Returns the operation that an entry resolved to `op` has in the target, if any.
    fn outcome(&self, op: Op, cleared: bool) -> Option<Op> {
        match (self.target, op) {
            (_, Op::Put) => Some(Op::Put),
            (SegmentKind::Base, Op::Append) => Some(Op::Put),
            (SegmentKind::Base, Op::Delete | Op::Clear) => None,
            // The clear before the entry already deletes it.
            (SegmentKind::Delta, Op::Delete) if cleared => None,
            (SegmentKind::Delta, op) => Some(op),
        }
    }

    /// Returns whether the next entry belongs to a map that a part has cleared: older parts may have entries of it that
    /// are gone.
    fn is_in_cleared_map(&self) -> bool {
        let head = || self.inputs[self.heap.top()?].head();
        self.clear.as_ref().is_some_and(|(at, _)| head().is_some_and(|head| at.same_map(&head)))
    }

    fn set_clear(&mut self, input: usize) {
        let (at, from) = self.clear.get_or_insert_with(|| (EntryBuf::new(FIRST_GROUP), input));
        at.set_position(&self.current.as_ref());
        *from = input;
    }

    /// Returns whether the head of `input` is at the position of the current entry.
    #[inline]
    fn at_current(&self, input: usize) -> bool {
        self.inputs[input]
            .head()
            .is_some_and(|head| head.cmp_position(&self.current.as_ref()) == Ordering::Equal)
    }

    /// Puts the first input in its place, after it has moved to its next entry, or to its end.
    #[inline]
    fn top_advanced(&mut self, more: bool) {
        let less = |a, b| before(&self.inputs, a, b);
        if more {
            self.heap.top_changed(less);
        } else {
            self.heap.pop(less);
        }
    }

    /// Returns whether an input waits whose first group is reached.
    #[inline]
    fn is_due(&self) -> bool {
        self.waiting.last().is_some_and(|&(group, _)| {
            let top = self.heap.top().and_then(|top| self.inputs[top].head());
            top.is_none_or(|head| u32::from(head.group.index()) >= group)
        })
    }

    /// Opens the inputs whose first group is reached. The others stay closed, so that many parts with few
    /// groups each need little memory.
    async fn open_waiting(&mut self) -> Result<()> {
        while self.is_due()
            && let Some((_, input)) = self.waiting.pop()
        {
            if self.inputs[input].cursor.advance().await? {
                self.inputs[input].rank_head();
                self.heap.push(input, |a, b| before(&self.inputs, a, b));
            }
        }
        Ok(())
    }
}
