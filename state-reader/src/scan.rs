//! Reading the entries of a keyed state.

use std::ops::ControlFlow;

use futures::{Stream, StreamExt, pin_mut};
use strandline_snapshot_format::{EntryRef, Op, list, timer_key};
use strandline_state_api::schema::{StateKind, StateMeta};
use strandline_state_api::{Error, KeyGroupRange, Result, Timestamp};

use crate::checkpoint::CheckpointReader;
use crate::filter::ByteFilter;
use crate::generate::{Yielder, stream};
use crate::rows::{Collect, Counter, EncodedRow, Parts, Row, Rows};
use crate::source::Source;
use crate::{KeyFilter, StoredState};

/// The bytes of a stamp in front of a value.
const STAMP_BYTES: usize = 8;

/// A scan of a keyed state: which entries of it, and which parts of them.
///
/// Rows of a subtask come in the order of key group, key (of a timer: time), namespace and map key; the encoded keys
/// compare as bytes. A scan
/// reads only blocks that may hold what it returns: those of the key groups of the keys that are asked for. It
/// holds one block and a read-ahead for each file of a subtask, and one batch of rows.
#[derive(Clone, Debug)]
pub struct Scan {
    checkpoint: CheckpointReader,
    state: StoredState,
    parts: Parts,
    key_groups: KeyGroupRange,
    keys: Vec<ByteFilter>,
    map_keys: Vec<ByteFilter>,
    limit: u64,
}

impl Scan {
    pub(crate) fn new(checkpoint: CheckpointReader, state: StoredState) -> Self {
        Self {
            checkpoint,
            state,
            parts: Parts::ALL,
            key_groups: KeyGroupRange::ALL,
            keys: Vec::new(),
            map_keys: Vec::new(),
            limit: u64::MAX,
        }
    }

    /// Decodes only these parts of each row: all of them unless set.
    #[must_use]
    pub fn parts(self, parts: Parts) -> Self {
        Self { parts, ..self }
    }

    /// Returns only rows of these key groups. Several calls narrow the range.
    #[must_use]
    pub fn key_groups(self, range: KeyGroupRange) -> Self {
        Self { key_groups: self.key_groups.intersect(range), ..self }
    }

    /// Returns only rows whose key passes. Several filters must all be passed.
    ///
    /// # Errors
    /// Those of [`Decoder::encode`](crate::Decoder::encode): a key that the type does not hold, or one that
    /// nothing is known to encode; [`Unsupported`](strandline_state_api::ErrorKind::Unsupported) for a range of
    /// keys that have no order.
    pub fn keys(mut self, filter: &KeyFilter) -> Result<Self> {
        let filter = ByteFilter::of(filter, self.state.key().decoder());
        self.keys.push(filter.map_err(|error| error.with("state", self.state.path()))?);
        Ok(self)
    }

    /// Returns only rows whose map key passes. Several filters must all be passed.
    ///
    /// # Errors
    /// [`Invalid`](strandline_state_api::ErrorKind::Invalid) when the state is no map; as [`keys`](Self::keys).
    pub fn map_keys(mut self, filter: &KeyFilter) -> Result<Self> {
        let Some(map_key) = self.state.map_key() else {
            return Err(Error::invalid("the state is no map").with("state", self.state.path()));
        };
        let filter = ByteFilter::of(filter, map_key.decoder());
        self.map_keys.push(filter.map_err(|error| error.with("state", self.state.path()))?);
        Ok(self)
    }

    /// Ends after so many rows. Several calls leave the least.
    #[must_use]
    pub fn limit(self, rows: u64) -> Self {
        Self { limit: self.limit.min(rows), ..self }
    }

    /// Returns the state.
    pub fn state(&self) -> &StoredState {
        &self.state
    }

    /// Splits the scan into at most `count` scans of ranges of key groups that have about as many bytes each. A
    /// limit holds for each of them.
    ///
    /// # Errors
    /// Those of the store: it reads the indices of the files.
    pub async fn partitions(&self, count: usize) -> Result<Vec<Self>> {
        let ranges = self.checkpoint.partitions(&self.state, self.key_groups, count).await;
        let ranges = self.located(ranges).await?;
        Ok(ranges.into_iter().map(|range| self.clone().key_groups(range)).collect())
    }

    /// Returns the rows, decoded, in batches of bounded size.
    ///
    /// An item is an error when the store fails, a file is damaged, or a value cannot be decoded; nothing comes
    /// behind it. [`NotFound`](strandline_state_api::ErrorKind::NotFound) names the checkpoint when it was swept
    /// while it was read.
    pub fn rows(self) -> impl Stream<Item = Result<Vec<Row>>> + Send + 'static {
        let rows = Rows::new(self.state.clone(), self.parts);
        self.collect_with(rows)
    }

    /// Returns all rows.
    ///
    /// # Errors
    /// Those of [`rows`](Self::rows).
    pub async fn read_all(self) -> Result<Vec<Row>> {
        let batches = self.rows();
        pin_mut!(batches);
        let mut all = Vec::new();
        while let Some(batch) = batches.next().await {
            all.append(&mut batch?);
        }
        Ok(all)
    }

    /// Returns the number of rows, of which nothing is decoded.
    ///
    /// # Errors
    /// Those of [`rows`](Self::rows).
    pub async fn count(self) -> Result<u64> {
        let counts = self.collect_with(Counter::default());
        pin_mut!(counts);
        let mut sum = 0;
        while let Some(count) = counts.next().await {
            sum += count?;
        }
        Ok(sum)
    }

    /// Returns the rows in batches that `collector` makes of their encoded form.
    pub fn collect_with<C: Collect>(
        self,
        collector: C,
    ) -> impl Stream<Item = Result<C::Batch>> + Send + 'static {
        stream(move |yielder| async move {
            let mut run = Run { left: self.limit, collector, yielder, index: 0 };
            let result = self.run(&mut run).await;
            self.located(result).await
        })
    }

    /// Adds to an error of a scan what it was about.
    async fn located<T>(&self, result: Result<T>) -> Result<T> {
        match result {
            Ok(done) => Ok(done),
            Err(error) => {
                let error = self.checkpoint.explain(error).await;
                let error = if error.context("state").is_none() {
                    error.with("state", self.state.path())
                } else {
                    error
                };
                Err(match error.context("checkpoint") {
                    Some(_) => error,
                    None => error.with("checkpoint", self.checkpoint.id()),
                })
            }
        }
    }

    async fn run<C: Collect>(&self, run: &mut Run<C>) -> Result<()> {
        let runs = self.keys.iter().fold(vec![self.key_groups], |ranges, filter| {
            ranges.into_iter().flat_map(|range| filter.groups(range)).collect()
        });
        for (subtask, snapshot) in self.checkpoint.snapshots(self.state.operator()) {
            for range in &runs {
                if run.left == 0 {
                    break;
                }
                let Some(mut source) = self.checkpoint.source(self.state.name(), snapshot, *range).await?
                else {
                    continue;
                };
                self.read(subtask, &mut source, run).await?;
            }
        }
        run.flush().await
    }

    async fn read<C: Collect>(&self, subtask: u32, source: &mut Source<'_>, run: &mut Run<C>) -> Result<()> {
        let mut forms = Vec::with_capacity(source.states().len());
        for meta in source.states() {
            forms.push(if self.state.is_of(meta) { Some(self.form(meta)?) } else { None });
        }
        let kind = EntryKind::of(&self.state);
        while run.left > 0 {
            let more = source.read(|entry| {
                if let Some(Some(form)) = forms.get(usize::from(entry.state)) {
                    self.push(kind, subtask, *form, &entry, run)?;
                }
                Ok(if run.is_due() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            });
            if !more.await? {
                break;
            }
            run.flush().await?;
        }
        Ok(())
    }

    /// Returns the number of a stored form, and whether its values have a stamp.
    fn form(&self, meta: &StateMeta) -> Result<(usize, bool)> {
        match self.state.form_of(meta) {
            Some(form) => Ok((form, meta.stamped)),
            None => Err(Error::corrupt(format!(
                "a file has the state in schema version {} with the value codec {:.80?}, which the manifest does \
                 not list",
                meta.schema_version, meta.value_codec
            ))),
        }
    }

    /// Hands the rows of an entry to the collector.
    #[inline(always)]
    fn push<C: Collect>(
        &self,
        kind: EntryKind,
        subtask: u32,
        (form, stamped): (usize, bool),
        entry: &EntryRef<'_>,
        run: &mut Run<C>,
    ) -> Result<()> {
        let (time, key) = if kind == EntryKind::Timer {
            let (time, key) = timer_key::unpack(entry.key)?;
            (Some(Timestamp::from_millis(time)), key)
        } else {
            (None, entry.key)
        };
        for filter in &self.keys {
            if !filter.passes(key)? {
                return Ok(());
            }
        }
        for filter in &self.map_keys {
            if !filter.passes(entry.sub)? {
                return Ok(());
            }
        }
        let mut row = EncodedRow {
            subtask,
            key_group: entry.group,
            key,
            namespace: entry.namespace,
            map_key: entry.sub,
            index: None,
            value: entry.value,
            form,
            stamp: None,
            time,
        };
        if kind != EntryKind::List {
            (row.stamp, row.value) = unstamped(stamped && kind == EntryKind::Value, entry.value)?;
            return run.push(&row).map_err(|error| self.of_key(error, key));
        }
        // The elements of a list in another form come as an entry of their own.
        run.index = if entry.op == Op::Append { run.index } else { 0 };
        for element in list::elements(entry.value) {
            if run.left == 0 {
                break;
            }
            row.index = Some(run.index);
            (row.stamp, row.value) = unstamped(stamped, element?)?;
            run.push(&row).map_err(|error| self.of_key(error, key))?;
            run.index += 1;
        }
        Ok(())
    }

    #[cold]
    fn of_key(&self, error: Error, key: &[u8]) -> Error {
        let part = self.state.key();
        match part.decoder().decode(key) {
            Ok(value) => error.with("key", crate::Typed::new(&value, part.data_type())),
            Err(_) => error.with("key", format_args!("{key:02x?}")),
        }
    }
}

/// What an entry of a state is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EntryKind {
    Timer,
    List,
    /// A value, of a map or not.
    Value,
    /// Nothing but its position.
    Bare,
}

impl EntryKind {
    fn of(state: &StoredState) -> Self {
        match state.kind() {
            kind if kind.is_timers() => Self::Timer,
            StateKind::List => Self::List,
            _ if state.value().is_some() => Self::Value,
            _ => Self::Bare,
        }
    }
}

/// Splits the stamp off a value.
#[inline]
fn unstamped(stamped: bool, value: &[u8]) -> Result<(Option<Timestamp>, &[u8])> {
    if !stamped {
        return Ok((None, value));
    }
    match value.split_first_chunk::<STAMP_BYTES>() {
        Some((stamp, value)) => Ok((Timestamp::from_stored(i64::from_le_bytes(*stamp)), value)),
        None => Err(Error::corrupt(format!("a value of {} bytes is shorter than its stamp", value.len()))),
    }
}

/// The progress of a scan.
struct Run<C: Collect> {
    left: u64,
    collector: C,
    yielder: Yielder<C::Batch>,
    /// The number of the next element of the current list.
    index: u64,
}

impl<C: Collect> Run<C> {
    #[inline]
    fn push(&mut self, row: &EncodedRow<'_>) -> Result<()> {
        self.left -= 1;
        self.collector.push(row)
    }

    /// Returns whether the collector has a batch, or as many rows as were asked for.
    #[inline]
    fn is_due(&self) -> bool {
        self.left == 0 || self.collector.is_full()
    }

    async fn flush(&mut self) -> Result<()> {
        if let Some(batch) = self.collector.take()? {
            self.yielder.give(batch).await;
        }
        Ok(())
    }
}
