//! Records on their way.

use std::fmt;
use std::sync::{Arc, Mutex};

use strandline_checkpoint_storage::decode_each;
use strandline_state_api::backend::BackendFactory;
use strandline_state_api::{Batch, Codec, Result, StateKey, Timestamp};

use super::graph::{Graph, Origin, SinkOutput, VertexKind};
use super::keyed_stream::KeyedStream;
use crate::batch::Side;
use crate::chain::assembly::Assembly;
use crate::chain::exchange::ForwardWriter;
use crate::chain::flat_map::{Emitter, FlatMap};
use crate::chain::replay::replay_first;
use crate::chain::sink::SinkNode;
use crate::chain::slot::Slot;
use crate::chain::stateless::{Partition, Stateless, Tee, Transform, map_records};
use crate::chain::time::{Timeless, TimestampAssigner};
use crate::chain::{Collector, SingleInlet};
use crate::channel::Pattern;
use crate::record_format::{PlainFormat, RecordFormat};
use crate::sink::{DeadOutputs, Sink, SinkFactory, SinkRecovery};
use crate::source::Watermarks;
use crate::sync::lock;
use crate::task::input::{InputEdge, OpenedInputs};

/// A stream of records of type `T`. Every method consumes it: [`fork`](Self::fork) it to use it twice.
/// Records of a stream without a consumer are dropped.
pub struct Stream<F, T> {
    factory: F,
    pub(super) graph: Arc<Mutex<Graph>>,
    /// One for each chain that produces it; several after a union.
    pub(super) heads: Vec<Slot<T>>,
    pub(super) origin: Origin,
    /// How its records become bytes.
    pub(super) format: Option<Arc<dyn RecordFormat>>,
}

impl<F: BackendFactory, T: Send + 'static> Stream<F, T> {
    pub(crate) fn new(factory: F, graph: Arc<Mutex<Graph>>, heads: Vec<Slot<T>>, origin: Origin) -> Self {
        Self { factory, graph, heads, origin, format: None }
    }

    /// Sets the codec of the records, for wherever they leave the memory of their subtask: where several
    /// chains bring them to one sink, a checkpoint whose barrier [overtakes](crate::Unaligned) them stores them
    /// by it. Steps that follow make other records, which have none. A job without such checkpoints needs none
    /// in one process; a [host](crate::host) of several sends the records of a broadcast side by it. For records
    /// with keys, see [`KeyedStream::codec`].
    #[must_use]
    pub fn codec(self, codec: impl Codec<T>) -> Self {
        Self { format: Some(Arc::new(PlainFormat::<T>::new(codec))), ..self }
    }

    /// Every record becomes another one.
    pub fn map<U: Send + 'static>(
        self,
        f: impl FnMut(T) -> U + Clone + Send + Sync + 'static,
    ) -> Stream<F, U> {
        self.step(move || {
            let mut f = f.clone();
            move |input: &mut Batch<T>, output: &mut Batch<U>| map_records(input, output, &mut f)
        })
    }

    /// Every record becomes another one, or fails the task.
    pub fn try_map<U: Send + 'static>(
        self,
        f: impl FnMut(T) -> Result<U> + Clone + Send + Sync + 'static,
    ) -> Stream<F, U> {
        self.step(move || {
            let mut f = f.clone();
            move |input: &mut Batch<T>, output: &mut Batch<U>| {
                output.reserve(input.len());
                for (record, timestamp) in input.drain() {
                    output.push(f(record)?, timestamp);
                }
                Ok(())
            }
        })
    }

    /// Keeps the records for which `f` returns true.
    #[must_use]
    pub fn filter(self, f: impl FnMut(&T) -> bool + Clone + Send + Sync + 'static) -> Self {
        self.step(move || {
            let mut f = f.clone();
            move |input: &mut Batch<T>, output: &mut Batch<T>| {
                for (record, timestamp) in input.drain() {
                    if f(&record) {
                        output.push(record, timestamp);
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
        self.chain(move |assembly, next| {
            let next = next.build(assembly)?;
            Ok(Box::new(FlatMap::new(f.clone(), assembly, next)))
        })
    }

    /// Sets the event time of every record to what `time` returns, a [`Timestamp`] or an `Option` of one, and
    /// announces [`Watermarks`] after each batch; a [`Duration`](std::time::Duration) is how far they stay
    /// behind. (Flink: `assignTimestampsAndWatermarks`.)
    ///
    /// The greatest time is part of every checkpoint, so the same records are late in a resumed job.
    ///
    /// It is the greatest time of all records of a subtask. Where the subtask reads several splits one after
    /// another, and the times of a later one begin below the end of an earlier one, the records of the later
    /// one are late. A source that keeps the time of each split ([`Source::time`](crate::source::Source::time))
    /// has no need of this method and not that problem.
    #[must_use]
    pub fn timestamps<I: Into<Option<Timestamp>> + 'static>(
        self,
        watermarks: impl Into<Watermarks>,
        time: impl Fn(&T) -> I + Clone + Send + Sync + 'static,
    ) -> Self {
        let watermarks = watermarks.into();
        self.chain(move |assembly, build_next| {
            // This index is taken before those of assigners further down, so that it does not depend on them.
            let index = assembly.next_assigner();
            let next = build_next.build(assembly)?;
            Ok(Box::new(TimestampAssigner::new(assembly, index, watermarks, time.clone(), next)))
        })
    }

    /// Takes the stream out of event time: operators that read it and others do not wait for its watermarks.
    /// For rules and tables that change now and then, or never, beside a stream with times. Its records keep
    /// their times.
    #[must_use]
    pub fn without_watermarks(self) -> Self {
        self.chain(|assembly, next| Ok(Box::new(Timeless::new(next.build(assembly)?))))
    }

    /// Two streams with the same records.
    pub fn fork(self) -> (Self, Self)
    where
        T: Clone,
    {
        let (mut first, mut second) = (Vec::new(), Vec::new());
        for head in &self.heads {
            let (a, b) = (head.behind(), head.behind());
            first.push(a.clone());
            second.push(b.clone());
            head.enter(move |assembly| Ok(Box::new(Tee::new(a.build(assembly)?, b.build(assembly)?))));
        }
        let other = Self::new(self.factory.clone(), Arc::clone(&self.graph), second, self.origin.clone());
        (Self { heads: first, ..self }, other)
    }

    /// Two streams: the first has what `f` returns as `Ok`, the second what it returns as `Err`, with the
    /// event times of the records that came in. (Flink: side outputs.)
    ///
    /// ```
    /// use strandline_runtime::Stream;
    /// use strandline_state_api::backend::BackendFactory;
    ///
    /// /// Numbers, and lines that are none.
    /// fn numbers<F: BackendFactory>(lines: Stream<F, String>) -> (Stream<F, u64>, Stream<F, String>) {
    ///     lines.partition(|line| line.parse().map_err(|_| line))
    /// }
    /// ```
    pub fn partition<A: Send + 'static, B: Send + 'static>(
        self,
        f: impl FnMut(T) -> Result<A, B> + Clone + Send + Sync + 'static,
    ) -> (Stream<F, A>, Stream<F, B>) {
        let (mut first, mut second) = (Vec::new(), Vec::new());
        for head in &self.heads {
            let (a, b) = (head.behind(), head.behind());
            first.push(a.clone());
            second.push(b.clone());
            let f = f.clone();
            head.enter(move |assembly| {
                Ok(Box::new(Partition::new(f.clone(), a.build(assembly)?, b.build(assembly)?)))
            });
        }
        let other = Stream::new(self.factory.clone(), Arc::clone(&self.graph), second, self.origin.clone());
        (Stream::new(self.factory, self.graph, first, self.origin), other)
    }

    /// One stream with the records of both, in no promised order. Both must be of one pipeline.
    #[must_use]
    pub fn union(mut self, other: Self) -> Self {
        self.heads.extend(other.heads);
        Self { origin: self.origin.and(&other.origin), ..self }
    }

    /// Brings records of one key to one subtask. `f` returns the key and what travels beside it.
    pub fn key_by<K: StateKey, V: Send + 'static>(
        self,
        f: impl FnMut(T) -> (K, V) + Clone + Send + Sync + 'static,
    ) -> KeyedStream<F, K, V> {
        KeyedStream::new(self.factory, self.graph, self.heads, self.origin, f)
    }

    /// Ends the stream in a sink.
    pub fn sink<S>(self, id: &str, factory: S)
    where
        S: SinkFactory,
        S::Sink: Sink<In = T> + 'static,
    {
        let mut graph = lock(&self.graph);
        let Some(id) = graph.take_id(id) else { return };
        let (factory, first) = (Arc::new(factory), self.origin.depth == 0);
        graph.add_sink(id.clone(), Output(Arc::clone(&factory)));
        let operator = id.clone();
        let build = move |assembly: &mut Assembly| -> Result<Collector<T>> {
            Ok(Box::new(SinkNode::open(assembly, &operator, first, factory.as_ref())?))
        };
        let format = self.format;
        if let [head] = self.heads.as_slice() {
            head.enter(move |assembly| {
                let sink = build(assembly)?;
                replay_first(assembly, &id, format.as_ref(), sink)
            });
            return;
        }
        // Several chains end here: the sink gets tasks of its own.
        let inputs: Vec<_> = self.heads.iter().map(|_| graph.edge()).collect();
        for (head, edge) in self.heads.iter().zip(inputs.clone()) {
            head.enter(move |assembly| Ok(Box::new(ForwardWriter::new(assembly, edge)?)));
        }
        graph.add_exchange(&id, &inputs, format.is_some());
        let edge = |edge| {
            let format = format.clone();
            InputEdge { edge, pattern: Pattern::OneToOne, side: Side::Main, format }
        };
        let edges: Vec<_> = inputs.into_iter().map(edge).collect();
        graph.connect(self.heads.iter().map(Slot::origin), &id, &edges);
        graph.add(id, VertexKind::Forward, move |assembly| {
            OpenedInputs::build(assembly, &edges, &|assembly| Ok(Box::new(SingleInlet(build(assembly)?))))
        });
    }

    fn step<U: Send + 'static, S: Transform<T, U> + 'static>(
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
            let next = head.behind();
            heads.push(next.clone());
            let make = Arc::clone(&make);
            head.enter(move |assembly| make(assembly, &next));
        }
        Stream::new(self.factory, self.graph, heads, self.origin)
    }
}

struct Output<S>(Arc<S>);

impl<S: SinkFactory> SinkOutput for Output<S> {
    fn recover(&self, recovery: &SinkRecovery<'_, Vec<u8>>) -> Result<()> {
        let SinkRecovery { job, term, checkpoint, committables, next_checkpoint, dead } = *recovery;
        let committables = &decode_each(committables)?;
        self.0.recover(&SinkRecovery { job, term, checkpoint, committables, next_checkpoint, dead })
    }

    fn sweep(&self, dead: &DeadOutputs) -> Result<()> {
        self.0.sweep(dead)
    }
}

impl<F, T> fmt::Debug for Stream<F, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("heads", &self.heads.len()).field("origin", &self.origin).finish()
    }
}
