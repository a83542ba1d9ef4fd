//! Access to reducing and aggregating state.

#![allow(clippy::should_implement_trait, reason = "`add` is what the field calls it")]

use super::{Access, ValueAccess};
use crate::{
    AggregateFunction, AggregatingState, Expiring, KeyedBackend, Lasting, ReduceFunction, ReducingState,
    Result, StateKey, Timed,
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
        for source in sources.into_iter().filter(|source| *source != namespace) {
            if let Some(value) = backend.value_take(state.value, key, source)? {
                let fold = |into: &mut V, value| state.function.reduce(into, value);
                backend.value_merge(state.value, key, namespace, value, fold)?;
            }
        }
        Ok(())
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
        let (ttl, clock) = (state.value.ttl(), *backend.clock());
        let fresh = Timed { stamp: ttl.stamp(&clock), value };
        backend.value_merge(state.value.stored(), key, namespace, fresh, |into, fresh| {
            if ttl.expired(into.stamp, &clock) {
                *into = fresh;
            } else {
                into.stamp = into.stamp.max(fresh.stamp);
                state.function.reduce(&mut into.value, fresh.value);
            }
        })
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
        let (ttl, clock, value) = (state.value.ttl(), *backend.clock(), state.value.stored());
        let stamp = ttl.stamp(&clock);
        for source in sources.into_iter().filter(|source| *source != namespace) {
            let taken = backend.value_take(value, key, source)?;
            let Some(taken) = taken.filter(|timed| !ttl.expired(timed.stamp, &clock)) else { continue };
            let taken = Timed { stamp: taken.stamp.max(stamp), ..taken };
            backend.value_merge(value, key, namespace, taken, |into, taken| {
                if ttl.expired(into.stamp, &clock) {
                    *into = taken;
                } else {
                    into.stamp = into.stamp.max(taken.stamp);
                    state.function.reduce(&mut into.value, taken.value);
                }
            })?;
        }
        Ok(())
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
        for source in sources.into_iter().filter(|source| *source != namespace) {
            if let Some(accumulator) = backend.value_take(state.value, key, source)? {
                let fold = |into: &mut F::Accumulator, other| state.function.merge(into, other);
                backend.value_merge(state.value, key, namespace, accumulator, fold)?;
            }
        }
        Ok(())
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
        let (ttl, clock, value) = (state.value.ttl(), *backend.clock(), state.value.stored());
        let stamp = ttl.stamp(&clock);
        for source in sources.into_iter().filter(|source| *source != namespace) {
            let taken = backend.value_take(value, key, source)?;
            let Some(taken) = taken.filter(|timed| !ttl.expired(timed.stamp, &clock)) else { continue };
            let taken = Timed { stamp: taken.stamp.max(stamp), ..taken };
            backend.value_merge(value, key, namespace, taken, |into, taken| {
                if ttl.expired(into.stamp, &clock) {
                    *into = taken;
                } else {
                    into.stamp = into.stamp.max(taken.stamp);
                    state.function.merge(&mut into.value, taken.value);
                }
            })?;
        }
        Ok(())
    }

    fn value(self) -> ValueAccess<'a, B, F::Accumulator, N, Expiring> {
        let Access { backend, key, namespace, state } = self.0;
        ValueAccess(Access { backend, key, namespace, state: state.value })
    }
}
