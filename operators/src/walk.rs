//! Walks over all state of a subtask.

use strandline_state_api::{
    KeyGroupRange, KeyHash, KeyScope, Keyed, KeyedBackend, Result, StateKey, ValueState,
};

/// Calls `work` with every key and namespace of a state; `work` may change them. Holds the keys of one part of
/// the key groups in memory at a time.
pub(crate) fn for_each_entry<B, V, N>(
    backend: &mut B,
    state: ValueState<V, N>,
    mut work: impl FnMut(&mut KeyScope<'_, B>, &N) -> Result<()>,
) -> Result<()>
where
    B: KeyedBackend,
    V: Send + 'static,
    N: StateKey,
{
    // A part has about as many entries as fit into a cache; a small state is one part.
    let parts = (backend.entries() / 8192).clamp(1, 256) as u32;
    for part in 0..parts {
        let mut entries: Vec<(KeyHash, B::Key, N)> = Vec::new();
        let key_groups = KeyGroupRange::of_subtask(part, parts);
        backend.for_each_key(state.id(), key_groups, |key, namespace: &N| {
            entries.push((key.hash(), key.key().clone(), namespace.clone()));
            Ok(())
        })?;
        for (hash, key, namespace) in &entries {
            work(&mut KeyScope::new(backend, Keyed::with_hash(key, *hash)), namespace)?;
        }
    }
    Ok(())
}
