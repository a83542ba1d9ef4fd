//! Records with keys.

use std::fmt;
use std::sync::{Arc, Mutex};

use strandline_state_api::backend::{BackendFactory, BackendScope};
use strandline_state_api::host::KeyedProcess;
use strandline_state_api::schema::StateSchema;
use strandline_state_api::{Codec, KeyedBackend, Open, Operator, OperatorId, Result, StateKey};

use super::connected_stream::ConnectedStream;
use super::graph::{Graph, Origin, VertexKind};
use super::stream::Stream;
use crate::batch::{KeyedBatch, Side};
use crate::chain::assembly::Assembly;
use crate::chain::exchange::{ExchangeWriter, KeyChain};
use crate::chain::keyed::KeyedNode;
use crate::chain::replay::replay_first;
use crate::chain::slot::Slot;
use crate::chain::{Node, SingleInlet};
use crate::channel::{EdgeId, Pattern};
use crate::record_format::{KeyedFormat, RecordFormat};
use crate::sync::lock;
use crate::task::input::{InputEdge, OpenedInputs};

/// Builds a node that takes records with keys.
type KeyedBuilder<K, V> = Arc<dyn Fn(&mut Assembly) -> Result<Box<dyn Node<KeyedBatch<K, V>>>> + Send + Sync>;

/// Enters the exchange into every chain that feeds the operator. With a node, that may run in the thread of
/// what feeds it.
type Attach<K, V> = Box<dyn FnOnce(&[EdgeId], Option<&KeyedBuilder<K, V>>) + Send>;

/// A stream whose records of one key come to one subtask.
pub struct KeyedStream<F, K, V> {
    pub(super) factory: F,
    pub(super) graph: Arc<Mutex<Graph>>,
    /// The operators whose records come here, one for each chain.
    pub(super) heads: Vec<Option<OperatorId>>,
    pub(super) origin: Origin,
    /// The bytes of its records, where it has a codec.
    pub(super) format: Option<Arc<dyn RecordFormat>>,
    pub(super) attach: Attach<K, V>,
}

impl<F: BackendFactory, K: StateKey, V: Send + 'static> KeyedStream<F, K, V> {
    pub(crate) fn new<T: Send + 'static>(
        factory: F,
        graph: Arc<Mutex<Graph>>,
        heads: Vec<Slot<T>>,
        origin: Origin,
        key: impl FnMut(T) -> (K, V) + Clone + Send + Sync + 'static,
    ) -> Self {
        let of_heads = heads.iter().map(|head| head.origin().cloned()).collect();
        let attach: Attach<K, V> = Box::new(move |edges, node| {
            for (head, edge) in heads.iter().zip(edges.iter().copied()) {
                let (key, node) = (key.clone(), node.cloned());
                head.enter(move |assembly| {
                    if let Some(node) = &node
                        && assembly.is_chained(edge)
                    {
                        let node = node(assembly)?;
                        return Ok(Box::new(KeyChain::new(key.clone(), node)));
                    }
                    Ok(Box::new(ExchangeWriter::new(assembly, edge, key.clone())?))
                });
            }
        });
        Self { factory, graph, heads: of_heads, origin, format: None, attach }
    }

    /// Sets the codec of what travels beside the key, for wherever the records leave the memory of their
    /// subtask: a checkpoint whose barrier [overtakes](crate::Unaligned) them stores them by it. The key
    /// encodes itself. A job without such checkpoints needs none in one process; a [host](crate::host) of several
    /// sends the records from one to another by it.
    ///
    /// The id of the codec is stored with the records: a restore by another one is refused.
    #[must_use]
    pub fn codec(self, codec: impl Codec<V>) -> Self {
        Self { format: Some(Arc::new(KeyedFormat::<K, V>::new(codec))), ..self }
    }

    /// Runs an operator. `open` makes one instance for each subtask and registers its states.
    pub fn process<O>(
        self,
        id: &str,
        open: impl Fn(&mut Open<'_, F::Backend<K>, O::Namespace>) -> Result<O> + Send + Sync + 'static,
    ) -> Stream<F, O::Out>
    where
        O: Operator<Key = K, In = V> + 'static,
        O::Out: Send + 'static,
    {
        let mut graph = lock(&self.graph);
        let id = graph.take_id(id);
        let next = Slot::new(id.clone());
        if let Some(id) = id {
            let inputs: Vec<_> = self.heads.iter().map(|_| graph.edge()).collect();
            let open = Arc::new(open);
            let heads = self.heads.iter().flatten().cloned().collect();
            graph.declare(id.clone(), heads, declared(&id, &self.factory, &open));
            graph.note_origin(&id, &self.origin);
            let (factory, first) = (self.factory.clone(), self.origin.depth == 0);
            let (operator, next) = (id.clone(), next.clone());
            let chained = (operator.clone(), self.format.clone());
            let node: KeyedBuilder<K, V> = Arc::new(move |assembly| {
                Ok(Box::new(KeyedNode::open(assembly, &operator, first, &factory, &*open, &next)?))
            });
            let build = Arc::clone(&node);
            let in_chain: KeyedBuilder<K, V> = Arc::new(move |assembly| {
                let (operator, format) = &chained;
                let node = build(assembly)?;
                replay_first(assembly, operator, format.as_ref(), node)
            });
            (self.attach)(&inputs, Some(&in_chain));
            let kind = VertexKind::Keyed { inputs: inputs.clone() };
            graph.add_exchange(&id, &inputs, self.format.is_some());
            let inputs = input_edges(&inputs, Side::Main, self.format.as_ref());
            graph.connect(self.heads.iter().map(Option::as_ref), &id, &inputs);
            graph.add(id, kind, move |assembly| {
                OpenedInputs::build(assembly, &inputs, &|assembly| Ok(Box::new(SingleInlet(node(assembly)?))))
            });
        }
        drop(graph);
        Stream::new(self.factory, self.graph, vec![next], self.origin.behind_operator())
    }

    /// Connects a stream whose every record reaches every subtask: rules, settings, small tables. Both must
    /// be of one pipeline.
    ///
    /// Event time is that of the slower of both. A broadcast stream without [timestamps](Stream::timestamps)
    /// has none until it ends, and until then no event timer fires, unless it
    /// [stays out of event time](Stream::without_watermarks). When one of them ends, the other goes on.
    ///
    /// ```no_run
    /// # use strandline_runtime::{Stream, sink::{Sink, SinkFactory}};
    /// # use strandline_state_api::backend::BackendFactory;
    /// # use strandline_state_api::*;
    /// # struct Limits { limits: BroadcastState<String, u64> }
    /// # impl Limits { fn open<B: KeyedBackend>(ctx: &mut Open<'_, B>) -> Result<Self> {
    /// #     Ok(Self { limits: ctx.register(&BroadcastDescriptor::new("limits"))? }) } }
    /// # impl Operator for Limits {
    /// #     type Key = String; type In = u64; type Out = u64; type Namespace = ();
    /// #     fn process<B: KeyedBackend<Key = String>>(
    /// #         &mut self, n: u64, ctx: &mut Context<'_, B, u64>) -> Result<()> {
    /// #         if ctx.broadcast(self.limits)?.get(ctx.key()) < Some(&n) { ctx.emit(n); } Ok(()) } }
    /// # impl BroadcastOperator for Limits {
    /// #     type Broadcast = (String, u64);
    /// #     fn process_broadcast<B: KeyedBackend<Key = String>>(
    /// #         &mut self, (c, n): (String, u64), ctx: &mut BroadcastContext<'_, B, u64>) -> Result<()> {
    /// #         ctx.broadcast(self.limits)?.put(c, n); Ok(()) } }
    /// # fn job<F: BackendFactory, S: SinkFactory>(
    /// #     orders: Stream<F, (String, u64)>, limits: Stream<F, (String, u64)>, large: S)
    /// # where S::Sink: Sink<In = u64> {
    /// orders
    ///     .key_by(|(category, amount): (String, u64)| (category, amount))
    ///     .connect_broadcast(limits)
    ///     .process("limits", Limits::open)
    ///     .sink("large", large);
    /// # }
    /// ```
    pub fn connect_broadcast<R: Clone + Send + 'static>(
        self,
        broadcast: Stream<F, R>,
    ) -> ConnectedStream<F, K, V, R> {
        ConnectedStream::new(self, broadcast)
    }
}

/// The exchanges of one side of a keyed operator.
pub(super) fn input_edges(
    edges: &[EdgeId],
    side: Side,
    format: Option<&Arc<dyn RecordFormat>>,
) -> Vec<InputEdge> {
    let edge = |edge: &EdgeId| {
        let (edge, format) = (*edge, format.cloned());
        InputEdge { edge, pattern: Pattern::AllToAll, side, format }
    };
    edges.iter().map(edge).collect()
}

/// Lists the states that an operator declares.
pub(super) fn declared<F: BackendFactory, O: Operator>(
    id: &OperatorId,
    factory: &F,
    open: &Arc<impl Fn(&mut Open<'_, F::Backend<O::Key>, O::Namespace>) -> Result<O> + Send + Sync + 'static>,
) -> impl Fn() -> Result<Vec<StateSchema>> + Send + Sync + 'static {
    let (id, factory, open) = (id.clone(), factory.clone(), Arc::clone(open));
    move || {
        let backend = factory.create::<O::Key>(BackendScope::new(id.clone(), 0, 1))?;
        let mut process = KeyedProcess::open(&*open, backend, Vec::new())?;
        Ok(process.backend_mut().schemas())
    }
}

impl<F, K, V> fmt::Debug for KeyedStream<F, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedStream").field("heads", &self.heads).field("origin", &self.origin).finish()
    }
}
