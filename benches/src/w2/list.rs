//! List state: lists of one `u64` for each key, and lists of 100 for each tenth key.

use std::ops::Range;
use std::sync::Arc;

use strandline_state_api::backend::{BackendFactory, KeyedBackendExt};
use strandline_state_api::{KeyHash, ListDescriptor, ListState, Result};

use crate::compare::Subject;
use crate::keys::{Visit, slice_of};
use crate::plain::PlainMap;
use crate::snapshots::{Cuts, open};
use crate::w2::value::{BATCH, announce};

/// How long the long lists are.
pub const LONG: u64 = 100;

/// An access to lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ListOp {
    /// Reads a list of one element.
    Get,
    /// Appends one element to a list of one.
    Append,
    /// Appends 100 elements to a list of one.
    AddAll100,
    /// Reads a list of 100 elements and adds them up.
    GetAndIterate100,
    /// Reads lists of one element in batches of [`BATCH`] announced keys. The plain map has no batches.
    GetBatch,
    /// Appends one element to lists of one, in batches.
    AppendBatch,
}

impl ListOp {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Get, Self::GetBatch, Self::Append, Self::AppendBatch, Self::AddAll100, Self::GetAndIterate100];

    /// As the shared workloads name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "listGet",
            Self::Append => "listAppend",
            Self::AddAll100 => "listAddAll100 (lists)",
            Self::GetAndIterate100 => "listGetAndIterate100 (lists)",
            Self::GetBatch => "listGet, batches",
            Self::AppendBatch => "listAppend, batches",
        }
    }

    fn is_batched(self) -> bool {
        matches!(self, Self::GetBatch | Self::AppendBatch)
    }
}

/// The next slice, the same on both sides.
#[derive(Clone, Debug)]
struct Plan {
    short: Visit,
    long: Visit,
    filled: bool,
    /// The lists of one that the last slice made longer.
    grown: Range<usize>,
}

impl Plan {
    fn new(keys: &Arc<[u64]>) -> Self {
        let long = keys[..(keys.len() / 10).max(1)].into();
        Self { short: Visit::new(Arc::clone(keys)), long: Visit::new(long), filled: false, grown: 0..0 }
    }

    fn slice(&self, op: ListOp) -> usize {
        let (short, long) = (slice_of(self.short.all().len()), slice_of(self.long.all().len()));
        match op {
            ListOp::Get | ListOp::Append | ListOp::GetBatch | ListOp::AppendBatch => short,
            // Its lists of one grow by 800 bytes each, so fewer at a time.
            ListOp::AddAll100 => long.min(5_000),
            ListOp::GetAndIterate100 => long,
        }
    }

    fn next(&mut self, op: ListOp) -> (Arc<[u64]>, Range<usize>) {
        let slice = self.slice(op);
        match op {
            ListOp::Get | ListOp::GetBatch => (self.short.all(), self.short.next(slice)),
            ListOp::Append | ListOp::AppendBatch | ListOp::AddAll100 => {
                self.grown = self.short.next(slice);
                (self.short.all(), self.grown.clone())
            }
            ListOp::GetAndIterate100 => (self.long.all(), self.long.next(slice)),
        }
    }
}

fn hundred(key: u64) -> impl Iterator<Item = u64> {
    (0..LONG).map(move |i| key.wrapping_add(i))
}

/// The workload on a backend that `F` makes.
#[derive(Debug)]
pub struct Lists<F: BackendFactory> {
    backend: F::Backend<u64>,
    short: ListState<u64>,
    long: ListState<u64>,
    plan: Plan,
    cuts: Cuts,
    hashes: Vec<KeyHash>,
}

impl<F: BackendFactory> Lists<F> {
    /// An empty backend; the first operation fills it with `keys`.
    ///
    /// # Errors
    /// What the factory fails with.
    pub fn new(factory: &F, keys: &Arc<[u64]>) -> Result<Self> {
        let (mut backend, short) = open(factory, &ListDescriptor::new("short"))?;
        let long = backend.register(&ListDescriptor::new("long"))?;
        let (plan, cuts) = (Plan::new(keys), Cuts::default());
        Ok(Self { backend, short, long, plan, cuts, hashes: Vec::with_capacity(BATCH) })
    }

    fn list(&mut self, key: &u64, state: ListState<u64>, elements: Vec<u64>) -> Result<()> {
        self.backend.at(key).state(state).put(elements)
    }
}

impl<F: BackendFactory> Subject<ListOp> for Lists<F> {
    fn slice(&self, op: ListOp) -> usize {
        self.plan.slice(op)
    }

    fn ready(&mut self, op: ListOp) -> Result<()> {
        if !self.plan.filled {
            for key in self.plan.short.all().iter() {
                self.list(key, self.short, vec![*key])?;
            }
            for key in self.plan.long.all().iter() {
                self.list(key, self.long, hundred(*key).collect())?;
            }
            self.plan.filled = true;
        }
        for key in &self.plan.short.all()[std::mem::take(&mut self.plan.grown)] {
            self.list(key, self.short, vec![*key])?;
        }
        if matches!(op, ListOp::Append | ListOp::AppendBatch | ListOp::AddAll100) {
            self.cuts.clean(&mut self.backend)?;
        }
        Ok(())
    }

    fn work(&mut self, op: ListOp) -> Result<u64> {
        let (keys, range) = self.plan.next(op);
        let mut sum = 0u64;
        for batch in keys[range].chunks(BATCH) {
            if op.is_batched() {
                announce(&mut self.backend, batch, &mut self.hashes)?;
            }
            for key in batch {
                let mut scope = self.backend.at(key);
                match op {
                    ListOp::Get | ListOp::GetBatch => {
                        sum = sum.wrapping_add(scope.state(self.short).get()?.first().copied().unwrap_or(0));
                    }
                    ListOp::Append | ListOp::AppendBatch => scope.state(self.short).push(*key)?,
                    ListOp::AddAll100 => scope.state(self.short).extend(hundred(*key))?,
                    ListOp::GetAndIterate100 => {
                        sum = scope.state(self.long).get()?.iter().fold(sum, |sum, n| sum.wrapping_add(*n));
                    }
                }
            }
        }
        Ok(sum)
    }
}

/// The plain maps.
#[derive(Debug)]
pub struct PlainLists {
    short: PlainMap<Vec<u64>>,
    long: PlainMap<Vec<u64>>,
    plan: Plan,
}

impl PlainLists {
    /// Empty maps; the first operation fills them with `keys`.
    pub fn new(keys: &Arc<[u64]>) -> Self {
        Self { short: PlainMap::default(), long: PlainMap::default(), plan: Plan::new(keys) }
    }
}

impl Subject<ListOp> for PlainLists {
    fn slice(&self, op: ListOp) -> usize {
        self.plan.slice(op)
    }

    fn ready(&mut self, _: ListOp) -> Result<()> {
        if !self.plan.filled {
            self.short = self.plan.short.all().iter().map(|key| (*key, vec![*key])).collect();
            self.long = self.plan.long.all().iter().map(|key| (*key, hundred(*key).collect())).collect();
            self.plan.filled = true;
        }
        for key in &self.plan.short.all()[std::mem::take(&mut self.plan.grown)] {
            self.short.insert(*key, vec![*key]);
        }
        Ok(())
    }

    fn work(&mut self, op: ListOp) -> Result<u64> {
        let (keys, range) = self.plan.next(op);
        let mut sum = 0u64;
        for key in &keys[range] {
            match op {
                ListOp::Get | ListOp::GetBatch => {
                    let first = self.short.get(key).and_then(|list| list.first());
                    sum = sum.wrapping_add(first.copied().unwrap_or(0));
                }
                ListOp::Append | ListOp::AppendBatch => self.short.entry(*key).or_default().push(*key),
                ListOp::AddAll100 => self.short.entry(*key).or_default().extend(hundred(*key)),
                ListOp::GetAndIterate100 => {
                    let list = self.long.get(key).map(Vec::as_slice).unwrap_or_default();
                    sum = list.iter().fold(sum, |sum, n| sum.wrapping_add(*n));
                }
            }
        }
        Ok(sum)
    }
}
