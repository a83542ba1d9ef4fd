//! Records with keys beside records that reach every subtask.

use std::fmt;
use std::sync::Arc;

use strandline_state_api::backend::BackendFactory;
use strandline_state_api::{BroadcastOperator, Open, Result, StateKey};

use super::graph::{Origin, VertexKind};
use super::keyed_stream::{KeyedStream, declared, input_edges};
use super::stream::Stream;
use crate::batch::Side;
use crate::chain::Inlet;
use crate::chain::assembly::Assembly;
use crate::chain::exchange::BroadcastWriter;
use crate::chain::keyed::KeyedNode;
use crate::chain::keyed::broadcast::BroadcastNode;
use crate::chain::slot::Slot;
use crate::record_format::RecordFormat;
use crate::sync::lock;
use crate::task::input::OpenedInputs;

/// A keyed stream with a broadcast stream beside it, see [`KeyedStream::connect_broadcast`].
pub struct ConnectedStream<F, K, V, R> {
    keyed: KeyedStream<F, K, V>,
    broadcast: Vec<Slot<R>>,
    /// The bytes of the broadcast records, where they have a codec.
    format: Option<Arc<dyn RecordFormat>>,
    origin: Origin,
}

impl<F, K, V, R> ConnectedStream<F, K, V, R>
where
    F: BackendFactory,
    K: StateKey,
    V: Send + 'static,
    R: Clone + Send + 'static,
{
    pub(super) fn new(keyed: KeyedStream<F, K, V>, broadcast: Stream<F, R>) -> Self {
        if !Arc::ptr_eq(&keyed.graph, &broadcast.graph) {
            let mistake = "connect_broadcast was given a stream of another pipeline: both must be of one";
            lock(&keyed.graph).mistake(mistake);
        }
        let origin = keyed.origin.and(&broadcast.origin);
        Self { keyed, broadcast: broadcast.heads, format: broadcast.format, origin }
    }

    /// Runs an operator with a broadcast side. `open` makes one instance for each subtask and registers its
    /// states.
    pub fn process<O>(
        self,
        id: &str,
        open: impl Fn(&mut Open<'_, F::Backend<K>, O::Namespace>) -> Result<O> + Send + Sync + 'static,
    ) -> Stream<F, O::Out>
    where
        O: BroadcastOperator<Key = K, In = V, Broadcast = R> + 'static,
        O::Out: Send + 'static,
    {
        let Self { keyed, broadcast, format, origin } = self;
        let mut graph = lock(&keyed.graph);
        let id = graph.take_id(id);
        let next = Slot::new(id.clone());
        if let Some(id) = id {
            let of_keyed: Vec<_> = keyed.heads.iter().map(|_| graph.edge()).collect();
            let of_broadcast: Vec<_> = broadcast.iter().map(|_| graph.edge()).collect();
            (keyed.attach)(&of_keyed, None);
            for (head, edge) in broadcast.iter().zip(of_broadcast.iter().copied()) {
                head.enter(move |assembly| Ok(Box::new(BroadcastWriter::new(assembly, edge)?)));
            }
            let open = Arc::new(open);
            let heads = keyed.heads.iter().flatten().chain(broadcast.iter().filter_map(Slot::origin));
            graph.declare(id.clone(), heads.cloned().collect(), declared(&id, &keyed.factory, &open));
            graph.note_origin(&id, &origin);
            let (factory, first) = (keyed.factory.clone(), keyed.origin.depth == 0);
            let (operator, next) = (id.clone(), next.clone());
            let inputs = [of_keyed.as_slice(), &of_broadcast].concat();
            let node = move |assembly: &mut Assembly| -> Result<Box<dyn Inlet>> {
                let node = KeyedNode::open(assembly, &operator, first, &factory, &*open, &next)?;
                Ok(Box::new(BroadcastNode(node)))
            };
            graph.add_exchange(&id, &of_keyed, keyed.format.is_some());
            let edges = [
                input_edges(&of_keyed, Side::Main, keyed.format.as_ref()),
                input_edges(&of_broadcast, Side::Broadcast, format.as_ref()),
            ]
            .concat();
            let heads = keyed.heads.iter().map(Option::as_ref).chain(broadcast.iter().map(Slot::origin));
            graph.connect(heads, &id, &edges);
            graph.add(id, VertexKind::Keyed { inputs }, move |assembly| {
                OpenedInputs::build(assembly, &edges, &node)
            });
        }
        drop(graph);
        Stream::new(keyed.factory, keyed.graph, vec![next], origin.behind_operator())
    }
}

impl<F, K, V, R> fmt::Debug for ConnectedStream<F, K, V, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectedStream")
            .field("keyed", &self.keyed)
            .field("broadcast", &self.broadcast.len())
            .field("origin", &self.origin)
            .finish()
    }
}
