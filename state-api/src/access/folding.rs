//! Access to reducing and aggregating state.

#![allow(clippy::should_implement_trait, reason = "`add` is what the field calls it")]

use super::{Entry, StateHandle, ValueAccess};
use crate::backend::{KeyedBackend, StateId};
use crate::state::{
    AggregateFunction, AggregatingState, Lasting, Lifespan, ReduceFunction, ReducingState, ValueState,
};
use crate::{Result, StateKey};

/// Access to the reducing state of one key and namespace.
///
/// # Errors
/// Those of [`ValueAccess`].
#[derive(Debug)]
pub struct ReducingAccess<'a, B: KeyedBackend, V, N, L, R> {
    entry: Entry<'a, B, N>,
    state: ReducingState<V, N, L, R>,
}

impl<V, N, L, R> StateHandle for ReducingState<V, N, L, R>
where
    V: Send + 'static,
    N: StateKey,
    L: Lifespan,
    R: ReduceFunction<V>,
{
    type Namespace = N;
    type Access<'a, B: KeyedBackend + 'a> = ReducingAccess<'a, B, V, N, L, R>;

    fn state_id(&self) -> StateId {
        self.id
    }

    #[inline]
    fn access<B: KeyedBackend>(self, entry: Entry<'_, B, N>) -> ReducingAccess<'_, B, V, N, L, R> {
        ReducingAccess { entry, state: self }
    }
}

impl<'a, B, V, N, L, R> ReducingAccess<'a, B, V, N, L, R>
where
    B: KeyedBackend,
    V: Send + 'static,
    N: StateKey,
    L: Lifespan,
    R: ReduceFunction<V>,
{
    /// Folds a value in. If the folded value has expired, the fold begins anew.
    #[inline]
    pub fn add(self, value: V) -> Result<()> {
        let (function, lifespan) = (self.state.function, self.state.lifespan);
        let access = self.value();
        let clock = *access.entry.backend.clock();
        access.fold(lifespan.store(value, &clock), |into, value| function.reduce(into, value))
    }

    /// Lends the folded value; `None` before the first.
    #[inline]
    pub fn get(self) -> Result<Option<&'a V>> {
        self.value().get()
    }

    /// Removes the folded value; returns whether one existed, expired or not.
    #[inline]
    pub fn clear(self) -> Result<bool> {
        self.value().clear()
    }

    /// Folds other namespaces of this key into this one and removes them (Flink: `mergeNamespaces`). If
    /// `sources` includes this namespace, its value stays. Expired values count as absent; the result is
    /// fresh.
    pub fn merge<'n>(self, sources: impl IntoIterator<Item = &'n N>) -> Result<()> {
        let function = self.state.function;
        self.value().merge_namespaces(sources, |into, other| function.reduce(into, other))
    }

    #[inline]
    fn value(self) -> ValueAccess<'a, B, V, N, L> {
        let state = ValueState::new(self.state.id, self.state.lifespan);
        ValueAccess { entry: self.entry, state }
    }
}

/// Access to the aggregating state of one key and namespace.
///
/// # Errors
/// Those of [`ValueAccess`].
#[derive(Debug)]
pub struct AggregatingAccess<'a, B: KeyedBackend, F, N, L = Lasting> {
    entry: Entry<'a, B, N>,
    state: AggregatingState<F, N, L>,
}

impl<F: AggregateFunction, N: StateKey, L: Lifespan> StateHandle for AggregatingState<F, N, L> {
    type Namespace = N;
    type Access<'a, B: KeyedBackend + 'a> = AggregatingAccess<'a, B, F, N, L>;

    fn state_id(&self) -> StateId {
        self.id
    }

    #[inline]
    fn access<B: KeyedBackend>(self, entry: Entry<'_, B, N>) -> AggregatingAccess<'_, B, F, N, L> {
        AggregatingAccess { entry, state: self }
    }
}

impl<'a, B: KeyedBackend, F: AggregateFunction, N: StateKey, L: Lifespan> AggregatingAccess<'a, B, F, N, L> {
    /// Folds a value in. If the accumulator has expired, the fold begins anew.
    #[inline]
    pub fn add(self, value: F::In) -> Result<()> {
        let function = self.state.function;
        self.value().modify(|| function.create(), |accumulator| function.add(accumulator, value))
    }

    /// Computes the result of the accumulator; `None` before the first value.
    #[inline]
    pub fn get(self) -> Result<Option<F::Out>> {
        let function = self.state.function;
        Ok(self.value().get()?.map(|accumulator| function.result(accumulator)))
    }

    /// Removes the accumulator; returns whether one existed, expired or not.
    #[inline]
    pub fn clear(self) -> Result<bool> {
        self.value().clear()
    }

    /// Folds other namespaces of this key into this one and removes them (Flink: `mergeNamespaces`). If
    /// `sources` includes this namespace, its accumulator stays. Expired accumulators count as absent; the
    /// result is fresh.
    pub fn merge<'n>(self, sources: impl IntoIterator<Item = &'n N>) -> Result<()> {
        let function = self.state.function;
        self.value().merge_namespaces(sources, |into, other| function.merge(into, other))
    }

    #[inline]
    fn value(self) -> ValueAccess<'a, B, F::Accumulator, N, L> {
        let state = ValueState::new(self.state.id, self.state.lifespan);
        ValueAccess { entry: self.entry, state }
    }
}
