//! Records on their way.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use strandline_state_api::{BackendFactory, CheckpointId, Output, Result, StateKey};

use super::graph::{Graph, SinkRecovery, VertexKind};
use super::keyed_stream::KeyedStream;
use crate::chain::Collector;
use crate::chain::assembly::Assembly;
use crate::chain::exchange::ForwardWriter;
use crate::chain::sink::SinkNode;
use crate::chain::slot::Slot;
use crate::chain::stateless::{Stateless, Step, Tee};
use crate::chain::time::TimestampAssigner;
use crate::channel::Pattern;
use crate::sink::{Sink, SinkFactory};
use crate::sync::lock;
use crate::task::input::InputTask;

/// A stream of records of type `T`. Every method consumes it: [`fork`](Self::fork) it to use it twice. Records of a
/// stream that nobody consumes are dropped.
pub struct Stream<F, T> {
    factory: F,
    pub(super) graph: Arc<Mutex<Graph>>,
    /// One for each chain that produces it; several after a union.
    pub(super) heads: Vec<Slot<T>>,
    /// How many keyed operators lie between it and its sources.
    pub(super) depth: u32,
}

impl<F: BackendFactory, T: Send + 'static> Stream<F, T> {
    pub(crate) fn new(factory: F, graph: Arc<Mutex<Graph>>, heads: Vec<Slot<T>>, depth: u32) -> Self {
        Self { factory, graph, heads, depth }
    }

    /// Every record becomes another one.
    pub fn map<U: Send + 'static>(
        self,
        f: impl FnMut(T) -> U + Clone + Send + Sync + 'static,
    ) -> Stream<F, U> {
        self.step(move || {
            let mut f = f.clone();
            move |input: &mut Output<T>, output: &mut Output<U>| {
                output.records.extend(input.records.drain(..).map(&mut f));
                output.timestamps.append(&mut input.timestamps);
                Ok(())
            }
        })
    }

    /// Every record becomes another one, or fails the task.
    pub fn try_map<U: Send + 'static>(
        self,
        f: impl FnMut(T) -> Result<U> + Clone + Send + Sync + 'static,
    ) -> Stream<F, U> {
        self.step(move || {
            let mut f = f.clone();
            move |input: &mut Output<T>, output: &mut Output<U>| {
                for record in input.records.drain(..) {
                    output.records.push(f(record)?);
                }
                output.timestamps.append(&mut input.timestamps);
                Ok(())
            }
        })
    }

    /// Keeps the records for which `f` says so.
    #[must_use]
    pub fn filter(self, f: impl FnMut(&T) -> bool + Clone + Send + Sync + 'static) -> Self {
        self.step(move || {
            let mut f = f.clone();
            move |input: &mut Output<T>, output: &mut Output<T>| {
                for (record, timestamp) in input.records.drain(..).zip(&input.timestamps) {
                    if f(&record) {
                        output.push(record, *timestamp);
                    }
                }
                Ok(())
            }
        })
    }

    /// Every record becomes any number of others.
    pub fn flat_map<U: Send + 'static>(
        self,
        mut f: impl FnMut(T, &mut Emitter<'_, U>) + Clone + Send + Sync + 'static,
    ) -> Stream<F, U> {
        self.try_flat_map(move |record, out| {
            f(record, out);
            Ok(())
        })
    }

    /// Every record becomes any number of others, or fails the task.
    pub fn try_flat_map<U: Send + 'static>(
        self,
        f: impl FnMut(T, &mut Emitter<'_, U>) -> Result<()> + Clone + Send + Sync + 'static,
    ) -> Stream<F, U> {
        self.step(move || {
            let mut f = f.clone();
            move |input: &mut Output<T>, output: &mut Output<U>| {
                for (record, timestamp) in input.records.drain(..).zip(&input.timestamps) {
                    f(record, &mut Emitter { output, timestamp: *timestamp })?;
                }
                Ok(())
            }
        })
    }

    /// Gives every record its event time, in milliseconds, and announces watermarks: after each batch, the greatest time
    /// seen so far minus `delay_ms` minus 1. (Flink: `BoundedOutOfOrdernessWatermarks`.)
    ///
    /// How far it came is part of every checkpoint, so a resumed job calls the same records late.
    #[must_use]
    pub fn timestamps(self, delay_ms: i64, time: impl Fn(&T) -> i64 + Clone + Send + Sync + 'static) -> Self {
        self.chain(move |assembly, build_next| {
            // The number is taken before those of assigners further down, so that it does not depend on them.
            let place = assembly.next_assigner();
            let next = build_next.build(assembly)?;
            Ok(Box::new(TimestampAssigner::new(assembly, place, delay_ms, time.clone(), next)))
        })
    }

    /// Two streams with the same records.
    pub fn fork(self) -> (Self, Self)
    where
        T: Clone,
    {
        let (mut first, mut second) = (Vec::new(), Vec::new());
        for head in &self.heads {
            let (a, b) = (Slot::new(), Slot::new());
            first.push(a.clone());
            second.push(b.clone());
            head.enter(move |assembly| Ok(Box::new(Tee::new(a.build(assembly)?, b.build(assembly)?))));
        }
        let other = Self::new(self.factory.clone(), Arc::clone(&self.graph), second, self.depth);
        (Self { heads: first, ..self }, other)
    }

    /// One stream with the records of both, in no promised order. Both must be of one pipeline.
    #[must_use]
    pub fn union(mut self, other: Self) -> Self {
        self.heads.extend(other.heads);
        Self { depth: self.depth.max(other.depth), ..self }
    }

    /// Brings records of one key to one subtask. `f` gives the key and what travels beside it.
    pub fn key_by<K: StateKey, V: Send + 'static>(
        self,
        f: impl FnMut(T) -> (K, V) + Clone + Send + Sync + 'static,
    ) -> KeyedStream<F, K, V> {
        KeyedStream::new(self.factory, self.graph, self.heads, self.depth, f)
    }

    /// Ends the stream in a sink.
    pub fn sink<S>(self, id: &str, factory: S)
    where
        S: SinkFactory,
        S::Sink: Sink<In = T> + 'static,
    {
        let mut graph = lock(&self.graph);
        let Some(id) = graph.take_id(id) else { return };
        let (factory, first) = (Arc::new(factory), self.depth == 0);
        graph.add_sink(id.clone(), Recovery(Arc::clone(&factory)));
        let operator = id.clone();
        let build = move |assembly: &mut Assembly| -> Result<Collector<T>> {
            Ok(Box::new(SinkNode::open(assembly, &operator, first, factory.as_ref())?))
        };
        if let [head] = self.heads.as_slice() {
            head.enter(build);
            return;
        }
        // Several chains end here: the sink gets tasks of its own.
        let inputs: Vec<_> = self.heads.iter().map(|_| graph.edge()).collect();
        for (head, edge) in self.heads.iter().zip(inputs.clone()) {
            head.enter(move |assembly| Ok(Box::new(ForwardWriter::new(assembly, edge)?)));
        }
        graph.add(id, VertexKind::Forward, move |assembly| {
            InputTask::build(assembly, &inputs, Pattern::OneToOne, &build)
        });
    }

    fn step<U: Send + 'static, S: Step<T, U> + 'static>(
        self,
        make: impl Fn() -> S + Send + Sync + 'static,
    ) -> Stream<F, U> {
        self.chain(move |assembly, next| Ok(Box::new(Stateless::new(make(), next.build(assembly)?))))
    }

    fn chain<U: Send + 'static>(
        self,
        make: impl Fn(&mut Assembly, &Slot<U>) -> Result<Collector<T>> + Send + Sync + 'static,
    ) -> Stream<F, U> {
        let make = Arc::new(make);
        let mut heads = Vec::new();
        for head in &self.heads {
            let next = Slot::new();
            heads.push(next.clone());
            let make = Arc::clone(&make);
            head.enter(move |assembly| make(assembly, &next));
        }
        Stream::new(self.factory, self.graph, heads, self.depth)
    }
}

struct Recovery<S>(Arc<S>);

impl<S: SinkFactory> SinkRecovery for Recovery<S> {
    fn recover(&self, checkpoint: Option<CheckpointId>, elements: &[Vec<u8>]) -> Result<()> {
        self.0.recover(checkpoint, elements)
    }

    fn summarize(&self, summaries: &[BTreeMap<String, String>]) -> BTreeMap<String, String> {
        self.0.summarize(summaries)
    }
}

/// The way out of a [`flat_map`](Stream::flat_map).
#[derive(Debug)]
pub struct Emitter<'a, U> {
    output: &'a mut Output<U>,
    timestamp: i64,
}

impl<U> Emitter<'_, U> {
    /// Emits a record with the event time of the one that came in.
    #[inline]
    pub fn emit(&mut self, record: U) {
        self.output.push(record, self.timestamp);
    }

    /// The event time of the record that came in; [`NO_TIMESTAMP`](strandline_state_api::NO_TIMESTAMP) where there is none.
    pub fn timestamp(&self) -> i64 {
        self.timestamp
    }
}

impl<F, T> fmt::Debug for Stream<F, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("heads", &self.heads.len()).field("depth", &self.depth).finish()
    }
}
