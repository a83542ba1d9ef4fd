//! Records with keys.

use std::fmt;
use std::sync::{Arc, Mutex};

use strandline_state_api::{
    BackendFactory, BackendScope, KeyGroupRange, KeyedBackend, KeyedProcess, Open, Operator, OperatorId,
    Result, StateKey, StateSchema,
};

use super::graph::{Graph, VertexKind, lock};
use super::stream::{Slot, Stream};
use crate::chain::{Assembly, EdgeId, ExchangeWriter, KeyChain, KeyedBatch, KeyedNode, Node};
use crate::task::InputTask;

/// Builds a node that takes records with keys.
type KeyedBuilder<K, V> = Arc<dyn Fn(&mut Assembly) -> Result<Box<dyn Node<KeyedBatch<K, V>>>> + Send + Sync>;

/// Enters the exchange into every chain that feeds the operator.
type Attach<K, V> = Box<dyn FnOnce(&[EdgeId], &KeyedBuilder<K, V>) + Send>;

/// A stream whose records of one key come to one subtask.
pub struct KeyedStream<F, K, V> {
    factory: F,
    graph: Arc<Mutex<Graph>>,
    heads: usize,
    depth: u32,
    attach: Attach<K, V>,
}

impl<F: BackendFactory, K: StateKey, V: Send + 'static> KeyedStream<F, K, V> {
    pub(crate) fn new<T: Send + 'static>(
        factory: F,
        graph: Arc<Mutex<Graph>>,
        heads: Vec<Slot<T>>,
        depth: u32,
        key: impl FnMut(T) -> (K, V) + Clone + Send + Sync + 'static,
    ) -> Self {
        let count = heads.len();
        let attach: Attach<K, V> = Box::new(move |edges, node| {
            for (head, edge) in heads.iter().zip(edges.iter().copied()) {
                let (key, node) = (key.clone(), Arc::clone(node));
                head.enter(move |assembly| {
                    if assembly.is_chained(edge) {
                        let node = node(assembly)?;
                        return Ok(Box::new(KeyChain::new(key.clone(), node)));
                    }
                    Ok(Box::new(ExchangeWriter::new(assembly, edge, key.clone())?))
                });
            }
        });
        Self { factory, graph, heads: count, depth, attach }
    }

    /// Runs an operator. `open` makes one instance for each subtask and registers its states.
    pub fn process<O>(
        self,
        id: &str,
        open: impl Fn(&mut Open<'_, F::Backend<K>, O::Namespace>) -> Result<O> + Send + Sync + 'static,
    ) -> Stream<F, O::Out>
    where
        O: Operator<F::Backend<K>, In = V> + 'static,
        O::Out: Send + 'static,
    {
        let next = Slot::new();
        let mut graph = lock(&self.graph);
        if let Some(id) = graph.take_id(id) {
            let inputs: Vec<_> = (0..self.heads).map(|_| graph.edge()).collect();
            let open = Arc::new(open);
            graph.declare(id.clone(), declared(&id, &self.factory, &open));
            let (factory, first) = (self.factory.clone(), self.depth == 0);
            let (operator, next) = (id.clone(), next.clone());
            let node: KeyedBuilder<K, V> = Arc::new(move |assembly| {
                Ok(Box::new(KeyedNode::open(assembly, &operator, first, &factory, &*open, &next)?))
            });
            (self.attach)(&inputs, &node);
            let kind = VertexKind::Keyed { inputs: inputs.clone() };
            graph.add(id, kind, move |assembly| InputTask::build(assembly, &inputs, node.as_ref()));
        }
        drop(graph);
        Stream::new(self.factory, self.graph, vec![next], self.depth + 1)
    }
}

/// Says which states an operator declares.
fn declared<F: BackendFactory, K: StateKey, O: Operator<F::Backend<K>>>(
    id: &OperatorId,
    factory: &F,
    open: &Arc<impl Fn(&mut Open<'_, F::Backend<K>, O::Namespace>) -> Result<O> + Send + Sync + 'static>,
) -> impl Fn() -> Result<Vec<StateSchema>> + Send + Sync + 'static {
    let (id, factory, open) = (id.clone(), factory.clone(), Arc::clone(open));
    move || {
        let key_groups = KeyGroupRange::ALL;
        let backend = factory.create::<K>(BackendScope { operator: id.clone(), subtask: 0, key_groups })?;
        let mut process = KeyedProcess::open(&*open, backend, Vec::new())?;
        Ok(process.backend_mut().schemas())
    }
}

impl<F, K, V> fmt::Debug for KeyedStream<F, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedStream").field("heads", &self.heads).field("depth", &self.depth).finish()
    }
}
