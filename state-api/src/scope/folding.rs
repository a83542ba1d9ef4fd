//! Access to reducing and aggregating state.

#![allow(clippy::should_implement_trait, reason = "`add` is what the field calls it")]

use super::{Access, ValueAccess};
use crate::{
    AggregateFunction, AggregatingState, Expiring, Keyed, KeyedBackend, Lasting, ReduceFunction,
    ReducingState, Result, StateKey, Timed, ValueState,
};

/// The reducing state of one key and namespace. Errors are those of [`KeyedBackend`].
#[derive(Debug)]
pub struct ReducingAccess<'a, B: KeyedBackend, V, R: ReduceFunction<V>, N, A = Lasting>(
    pub(super) Access<'a, B, &'a ReducingState<V, R, N, A>, N>,
);

impl<'a, B: KeyedBackend, V: Send + 'static, R: ReduceFunction<V>, N: StateKey>
    ReducingAccess<'a, B, V, R, N>
{
    /// Folds a value in.
    #[inline]
    pub fn add(self, value: V) -> Result<()> {
        let Access { backend, key, namespace, state } = self.0;
        let fold = |into: &mut V, value| state.function.reduce(into, value);
        backend.value_merge(state.value, key, namespace, value, fold)
    }

    /// Lends what all values were reduced to; nothing before the first.
    #[inline]
    pub fn get(self) -> Result<Option<&'a V>> {
        self.value().get()
    }

    /// Forgets all values; says whether there were any.
    #[inline]
    pub fn clear(self) -> Result<bool> {
        self.value().clear()
    }

    /// Folds other namespaces of this key into this one, and removes them (Flink: `mergeNamespaces`). This namespace among
    /// them stays as it is.
    pub fn merge<'n>(self, sources: impl IntoIterator<Item = &'n N>) -> Result<()> {
        let Access { backend, key, namespace, state } = self.0;
        let fold = |into: &mut V, other| state.function.reduce(into, other);
        merge_namespaces(backend, state.value, (key, namespace), sources, fold)
    }

    fn value(self) -> ValueAccess<'a, B, V, N> {
        let Access { backend, key, namespace, state } = self.0;
        ValueAccess(Access { backend, key, namespace, state: state.value })
    }
}

impl<'a, B: KeyedBackend, V: Send + 'static, R: ReduceFunction<V>, N: StateKey>
    ReducingAccess<'a, B, V, R, N, Expiring>
{
    /// Folds a value in; with what has expired the fold begins anew.
    #[inline]
    pub fn add(self, value: V) -> Result<()> {
        let Access { backend, key, namespace, state } = self.0;
        let stamp = state.value.ttl().stamp(backend.clock());
        let fold = |into: &mut V, value| state.function.reduce(into, value);
        merge_timed(backend, state.value, (key, namespace), Timed { stamp, value }, fold)
    }

    /// Lends what all values were reduced to, unless it has expired; nothing before the first.
    #[inline]
    pub fn get(self) -> Result<Option<&'a V>> {
        self.value().get()
    }

    /// Forgets all values; says whether there were any, expired or not.
    #[inline]
    pub fn clear(self) -> Result<bool> {
        self.value().clear()
    }

    /// Folds other namespaces of this key into this one, and removes them. What has expired counts as nothing; the result
    /// is fresh.
    pub fn merge<'n>(self, sources: impl IntoIterator<Item = &'n N>) -> Result<()> {
        let Access { backend, key, namespace, state } = self.0;
        let fold = |into: &mut V, other| state.function.reduce(into, other);
        merge_timed_namespaces(backend, state.value, (key, namespace), sources, fold)
    }

    fn value(self) -> ValueAccess<'a, B, V, N, Expiring> {
        let Access { backend, key, namespace, state } = self.0;
        ValueAccess(Access { backend, key, namespace, state: state.value })
    }
}

/// The aggregating state of one key and namespace. Errors are those of [`KeyedBackend`].
#[derive(Debug)]
pub struct AggregatingAccess<'a, B: KeyedBackend, F: AggregateFunction, N, A = Lasting>(
    pub(super) Access<'a, B, &'a AggregatingState<F, N, A>, N>,
);

impl<'a, B: KeyedBackend, F: AggregateFunction, N: StateKey> AggregatingAccess<'a, B, F, N> {
    /// Folds a value in.
    #[inline]
    pub fn add(self, value: F::In) -> Result<()> {
        let Access { backend, key, namespace, state } = self.0;
        let function = &state.function;
        let add = |accumulator: &mut F::Accumulator| function.add(accumulator, value);
        backend.value_modify(state.value, key, namespace, || function.create(), add)
    }

    /// What the accumulator says; nothing before the first value.
    #[inline]
    pub fn get(self) -> Result<Option<F::Out>> {
        let function = &self.0.state.function;
        Ok(self.value().get()?.map(|accumulator| function.result(accumulator)))
    }

    /// Forgets all values; says whether there were any.
    #[inline]
    pub fn clear(self) -> Result<bool> {
        self.value().clear()
    }

    /// Folds other namespaces of this key into this one, and removes them (Flink: `mergeNamespaces`). This namespace among
    /// them stays as it is.
    pub fn merge<'n>(self, sources: impl IntoIterator<Item = &'n N>) -> Result<()> {
        let Access { backend, key, namespace, state } = self.0;
        let fold = |into: &mut F::Accumulator, other| state.function.merge(into, other);
        merge_namespaces(backend, state.value, (key, namespace), sources, fold)
    }

    fn value(self) -> ValueAccess<'a, B, F::Accumulator, N> {
        let Access { backend, key, namespace, state } = self.0;
        ValueAccess(Access { backend, key, namespace, state: state.value })
    }
}

impl<'a, B: KeyedBackend, F: AggregateFunction, N: StateKey> AggregatingAccess<'a, B, F, N, Expiring> {
    /// Folds a value in; with what has expired the fold begins anew.
    #[inline]
    pub fn add(self, value: F::In) -> Result<()> {
        let function = &self.0.state.function;
        self.value().modify(|| function.create(), |accumulator| function.add(accumulator, value))
    }

    /// What the accumulator says, unless it has expired; nothing before the first value.
    #[inline]
    pub fn get(self) -> Result<Option<F::Out>> {
        let function = &self.0.state.function;
        Ok(self.value().get()?.map(|accumulator| function.result(accumulator)))
    }

    /// Forgets all values; says whether there were any, expired or not.
    #[inline]
    pub fn clear(self) -> Result<bool> {
        self.value().clear()
    }

    /// Folds other namespaces of this key into this one, and removes them. What has expired counts as nothing; the result
    /// is fresh.
    pub fn merge<'n>(self, sources: impl IntoIterator<Item = &'n N>) -> Result<()> {
        let Access { backend, key, namespace, state } = self.0;
        let fold = |into: &mut F::Accumulator, other| state.function.merge(into, other);
        merge_timed_namespaces(backend, state.value, (key, namespace), sources, fold)
    }

    fn value(self) -> ValueAccess<'a, B, F::Accumulator, N, Expiring> {
        let Access { backend, key, namespace, state } = self.0;
        ValueAccess(Access { backend, key, namespace, state: state.value })
    }
}

/// Folds values of other namespaces of a key into that of one, and removes them.
fn merge_namespaces<'n, B: KeyedBackend, V: Send + 'static, N: StateKey>(
    backend: &mut B,
    state: ValueState<V, N>,
    (key, namespace): (Keyed<'_, B::Key>, &N),
    sources: impl IntoIterator<Item = &'n N>,
    fold: impl Fn(&mut V, V),
) -> Result<()> {
    for source in sources.into_iter().filter(|source| *source != namespace) {
        if let Some(value) = backend.value_take(state, key, source)? {
            backend.value_merge(state, key, namespace, value, &fold)?;
        }
    }
    Ok(())
}

/// The same where values expire: those that have count as nothing, and the result is fresh.
fn merge_timed_namespaces<'n, B: KeyedBackend, V: Send + 'static, N: StateKey>(
    backend: &mut B,
    state: ValueState<V, N, Expiring>,
    (key, namespace): (Keyed<'_, B::Key>, &N),
    sources: impl IntoIterator<Item = &'n N>,
    fold: impl Fn(&mut V, V),
) -> Result<()> {
    let (ttl, clock) = (state.ttl(), *backend.clock());
    for source in sources.into_iter().filter(|source| *source != namespace) {
        let taken = backend.value_take(state.stored(), key, source)?;
        let Some(taken) = taken.filter(|timed| !ttl.expired(timed.stamp, &clock)) else { continue };
        let taken = Timed { stamp: taken.stamp.max(ttl.stamp(&clock)), ..taken };
        merge_timed(backend, state, (key, namespace), taken, &fold)?;
    }
    Ok(())
}

/// Folds a value into the one that is there; one that has expired is replaced.
#[inline]
fn merge_timed<B: KeyedBackend, V: Send + 'static, N: StateKey>(
    backend: &mut B,
    state: ValueState<V, N, Expiring>,
    (key, namespace): (Keyed<'_, B::Key>, &N),
    value: Timed<V>,
    fold: impl FnOnce(&mut V, V),
) -> Result<()> {
    let (ttl, clock) = (state.ttl(), *backend.clock());
    backend.value_merge(state.stored(), key, namespace, value, |into, value| {
        if ttl.expired(into.stamp, &clock) {
            *into = value;
        } else {
            into.stamp = into.stamp.max(value.stamp);
            fold(&mut into.value, value.value);
        }
    })
}
