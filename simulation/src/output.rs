//! An outer system to which a sink commits in two phases, and that takes every step on its own.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use strandline_runtime::sink::{DeadOutputs, Sink, SinkContext, SinkFactory, SinkRecovery, Term};
use strandline_state_api::{Batch, CheckpointId, Error, ErrorKind, Result};

use crate::process::Process;
use crate::store::Disk;

/// A sink that commits in two phases to a system outside of the job, made by
/// [`World::output`](crate::World::output). What it commits there is compared with the output of an undisturbed
/// run. Each effect on the system is a step of its own, between which the process may sleep or die.
#[derive(Debug)]
pub struct Output<T> {
    process: Process,
    system: System,
    /// Where the log shows which checkpoints are complete.
    disk: Disk,
    records: PhantomData<fn(T)>,
}

impl<T> Clone for Output<T> {
    fn clone(&self) -> Self {
        Self {
            process: self.process.clone(),
            system: self.system.clone(),
            disk: self.disk.clone(),
            records: PhantomData,
        }
    }
}

/// The outer system: transactions by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct System(Arc<Mutex<Transactions>>);

#[derive(Debug, Default)]
struct Transactions {
    staged: BTreeMap<String, Transaction>,
    visible: BTreeMap<String, Transaction>,
    /// What became visible before its checkpoint was complete.
    early: Option<String>,
}

#[derive(Clone, Debug)]
struct Transaction {
    term: Term,
    checkpoint: CheckpointId,
    records: Vec<String>,
}

impl System {
    fn transactions(&self) -> MutexGuard<'_, Transactions> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a reader sees, sorted.
    pub(crate) fn visible(&self) -> Vec<String> {
        let transactions = self.transactions();
        let records = transactions.visible.values().flat_map(|transaction| &transaction.records);
        let mut records: Vec<_> = records.cloned().collect();
        records.sort();
        records
    }

    /// What became visible before its checkpoint was complete, if anything did.
    pub(crate) fn early(&self) -> Option<String> {
        self.transactions().early.clone()
    }

    /// The transactions that are neither visible nor gone.
    pub(crate) fn staged(&self) -> Vec<String> {
        self.transactions().staged.keys().cloned().collect()
    }
}

impl<T> Output<T> {
    pub(crate) fn new(process: Process, system: System, disk: Disk) -> Self {
        Self { process, system, disk, records: PhantomData }
    }

    /// Lets the process sleep or die, and then does one thing to the system.
    fn step<R>(&self, what: impl FnOnce() -> String, effect: impl FnOnce(&mut Transactions) -> R) -> R {
        self.process.step();
        self.process.note(what);
        effect(&mut self.system.transactions())
    }

    /// Makes a transaction visible. Returns whether it is.
    fn commit(&self, name: &str) -> bool {
        self.step(
            || format!("commit {name}"),
            |system| {
                if let Some(transaction) = system.staged.remove(name) {
                    let Transaction { term, checkpoint, .. } = transaction;
                    // Without checkpoints there is no term.
                    if term != Term::NONE && !self.disk.was_completed(term, checkpoint) {
                        system.early.get_or_insert(name.to_owned());
                    }
                    system.visible.insert(name.to_owned(), transaction);
                }
                system.visible.contains_key(name)
            },
        )
    }

    fn remove_dead(&self, dead: &DeadOutputs) {
        // What was not committed first: a stale process may commit it meanwhile.
        let staged: Vec<_> = {
            let transactions = self.system.transactions();
            let staged = transactions.staged.iter();
            staged.filter(|(_, t)| dead.is_pre_committed_dead(t.term)).map(|(name, _)| name.clone()).collect()
        };
        for name in staged {
            self.step(|| format!("roll back {name}"), |system| drop(system.staged.remove(&name)));
        }
        let visible: Vec<_> = {
            let transactions = self.system.transactions();
            let visible = transactions.visible.iter();
            let dead = visible.filter(|(_, t)| dead.is_committed_dead(t.term, t.checkpoint));
            dead.map(|(name, _)| name.clone()).collect()
        };
        for name in visible {
            self.step(|| format!("remove {name}"), |system| drop(system.visible.remove(&name)));
        }
    }
}

impl<T: Debug + Send + 'static> SinkFactory for Output<T> {
    type Sink = OutputWriter<T>;

    fn open(&self, context: SinkContext<String>) -> Result<OutputWriter<T>> {
        self.process.step();
        Ok(OutputWriter { of: self.clone(), context, open: Vec::new(), pending: BTreeMap::new() })
    }

    fn recover(&self, recovery: &SinkRecovery<'_, String>) -> Result<()> {
        self.remove_dead(recovery.dead);
        for name in recovery.committables {
            if !self.commit(name) {
                // Where a successor has removed it, this attempt is fenced, and hears it when this fails.
                let error = Error::new(ErrorKind::NotFound, "what was pre-committed is gone");
                return Err(error.with("transaction", name));
            }
        }
        Ok(())
    }

    fn sweep(&self, dead: &DeadOutputs) -> Result<()> {
        self.remove_dead(dead);
        Ok(())
    }
}

/// One subtask of an [`Output`].
#[derive(Debug)]
pub struct OutputWriter<T> {
    of: Output<T>,
    context: SinkContext<String>,
    open: Vec<String>,
    pending: BTreeMap<CheckpointId, String>,
}

impl<T: Debug + Send + 'static> Sink for OutputWriter<T> {
    type In = T;
    /// The name of a transaction.
    type Committable = String;
    type Summary = ();

    fn write(&mut self, batch: &mut Batch<T>) -> Result<()> {
        self.open.extend(batch.drain().map(|(record, _)| format!("{record:?}")));
        Ok(())
    }

    fn pre_commit(&mut self, checkpoint: CheckpointId) -> Result<Vec<String>> {
        if !self.open.is_empty() {
            let name = format!("{}-{}-{checkpoint}", self.context.attempt, self.context.subtask);
            let (term, records) = (self.context.term, std::mem::take(&mut self.open));
            let transaction = Transaction { term, checkpoint, records };
            let staged = name.clone();
            self.of.step(
                || format!("pre-commit {name}"),
                move |system| drop(system.staged.insert(staged, transaction)),
            );
            self.pending.insert(checkpoint, name);
        }
        Ok(self.pending.values().cloned().collect())
    }

    fn commit(&mut self, checkpoint: CheckpointId) -> Result<()> {
        while let Some(first) = self.pending.first_entry().filter(|first| *first.key() <= checkpoint) {
            if !self.of.commit(first.get()) {
                let error = Error::new(ErrorKind::Fenced, "what was pre-committed is gone");
                return Err(error.with("transaction", first.get()));
            }
            first.remove();
        }
        Ok(())
    }
}
