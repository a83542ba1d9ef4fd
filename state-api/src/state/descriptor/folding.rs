//! Descriptors of reducing and aggregating state: each wraps the descriptor of the stored value, and adds a
//! function.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Declaration, StateDescriptor, ValueDescriptor};
use crate::backend::KeyedBackend;
use crate::schema::{Decoder, Evolution, StateKind};
use crate::state::{
    AggregateFunction, AggregatingState, Expiring, Lasting, Lifespan, ReduceFunction, ReducingState, Ttl,
};
use crate::{Codec, Result, SerdeCodec, StateKey};

/// Declares one value for each key and namespace, into which others are reduced (Flink:
/// `ReducingStateDescriptor`).
pub struct ReducingDescriptor<V, N = (), L = Lasting, R = fn(&mut V, V)> {
    value: ValueDescriptor<V, N, L>,
    function: R,
}

impl<V: 'static> ReducingDescriptor<V> {
    /// Declares a state of this name (unique within its operator) with the default codec, [`SerdeCodec`]. A
    /// closure that captures nothing is also a function pointer.
    pub fn new(name: impl Into<String>, function: fn(&mut V, V)) -> Self
    where
        V: Serialize + DeserializeOwned,
    {
        Self::with_function(name, function)
    }
}

impl<V: 'static, R: ReduceFunction<V>> ReducingDescriptor<V, (), Lasting, R> {
    /// Declares a state of this name with a function of a type of your own, which is called without an
    /// indirection.
    pub fn with_function(name: impl Into<String>, function: R) -> Self
    where
        V: Serialize + DeserializeOwned,
    {
        Self::with_codec(name, function, SerdeCodec)
    }

    /// Declares a state of this name with a codec of your own.
    pub fn with_codec(name: impl Into<String>, function: R, codec: impl Codec<V>) -> Self {
        let decoder = Decoder::new(1, Arc::new(codec));
        Self { value: value(name.into(), StateKind::Reducing, decoder), function }
    }

    /// Declares a state of this name whose values have older versions.
    pub fn evolving(name: impl Into<String>, function: R, evolution: Evolution<V>) -> Self {
        Self { value: value(name.into(), StateKind::Reducing, evolution.0), function }
    }
}

fn value<V: 'static>(name: String, kind: StateKind, decoder: Decoder<V>) -> ValueDescriptor<V> {
    ValueDescriptor::of(Declaration::new(name, kind, decoder))
}

impl<V, N, L: Copy, R> ReducingDescriptor<V, N, L, R> {
    /// Sets a time-to-live, after which values expire.
    #[must_use]
    pub fn time_to_live(self, ttl: Ttl) -> ReducingDescriptor<V, N, Expiring, R> {
        ReducingDescriptor { value: self.value.time_to_live(ttl), function: self.function }
    }

    /// Addresses values by (key, namespace) instead of the key alone.
    #[must_use]
    pub fn namespaced<M: StateKey>(self) -> ReducingDescriptor<V, M, L, R> {
        ReducingDescriptor { value: self.value.namespaced(), function: self.function }
    }

    /// Sets the version of the value's schema (1 unless set), which snapshots store.
    #[must_use]
    pub fn schema_version(self, version: u32) -> Self {
        Self { value: self.value.schema_version(version), ..self }
    }

    /// Declares a former name of the state: a restore fills this state with what a snapshot stores under that
    /// name.
    #[must_use]
    pub fn renamed_from(self, name: impl Into<String>) -> Self {
        Self { value: self.value.renamed_from(name), ..self }
    }
}

impl<V, N, L, R> StateDescriptor for ReducingDescriptor<V, N, L, R>
where
    V: Send + 'static,
    N: StateKey,
    L: Lifespan,
    R: ReduceFunction<V>,
{
    type State = ReducingState<V, N, L, R>;

    fn name(&self) -> &str {
        self.value.name()
    }

    fn register<B: KeyedBackend>(&self, backend: &mut B) -> Result<Self::State> {
        let value = self.value.register(backend)?;
        Ok(ReducingState::new(value.id(), value.lifespan, self.function))
    }
}

impl<V, N, L: Copy, R: Copy> Clone for ReducingDescriptor<V, N, L, R> {
    fn clone(&self) -> Self {
        Self { value: self.value.clone(), function: self.function }
    }
}

impl<V, N, L, R> fmt::Debug for ReducingDescriptor<V, N, L, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reducing{:?}", self.value)
    }
}

/// Declares one accumulator for each key and namespace (Flink: `AggregatingStateDescriptor`).
pub struct AggregatingDescriptor<F: AggregateFunction, N = (), L = Lasting> {
    value: ValueDescriptor<F::Accumulator, N, L>,
    function: F,
}

impl<F: AggregateFunction> AggregatingDescriptor<F> {
    /// Declares a state of this name (unique within its operator) with the default codec, [`SerdeCodec`].
    pub fn new(name: impl Into<String>, function: F) -> Self
    where
        F::Accumulator: Serialize + DeserializeOwned,
    {
        Self::with_codec(name, function, SerdeCodec)
    }

    /// Declares a state of this name with a codec of your own.
    pub fn with_codec(name: impl Into<String>, function: F, codec: impl Codec<F::Accumulator>) -> Self {
        let decoder = Decoder::new(1, Arc::new(codec));
        Self { value: value(name.into(), StateKind::Aggregating, decoder), function }
    }

    /// Declares a state of this name whose accumulators have older versions.
    pub fn evolving(name: impl Into<String>, function: F, evolution: Evolution<F::Accumulator>) -> Self {
        Self { value: value(name.into(), StateKind::Aggregating, evolution.0), function }
    }
}

impl<F: AggregateFunction, N, L: Copy> AggregatingDescriptor<F, N, L> {
    /// Sets a time-to-live, after which accumulators expire.
    #[must_use]
    pub fn time_to_live(self, ttl: Ttl) -> AggregatingDescriptor<F, N, Expiring> {
        AggregatingDescriptor { value: self.value.time_to_live(ttl), function: self.function }
    }

    /// Addresses accumulators by (key, namespace) instead of the key alone.
    #[must_use]
    pub fn namespaced<M: StateKey>(self) -> AggregatingDescriptor<F, M, L> {
        AggregatingDescriptor { value: self.value.namespaced(), function: self.function }
    }

    /// Sets the version of the accumulator's schema (1 unless set), which snapshots store.
    #[must_use]
    pub fn schema_version(self, version: u32) -> Self {
        Self { value: self.value.schema_version(version), ..self }
    }

    /// Declares a former name of the state: a restore fills this state with what a snapshot stores under that
    /// name.
    #[must_use]
    pub fn renamed_from(self, name: impl Into<String>) -> Self {
        Self { value: self.value.renamed_from(name), ..self }
    }
}

impl<F: AggregateFunction, N: StateKey, L: Lifespan> StateDescriptor for AggregatingDescriptor<F, N, L> {
    type State = AggregatingState<F, N, L>;

    fn name(&self) -> &str {
        self.value.name()
    }

    fn register<B: KeyedBackend>(&self, backend: &mut B) -> Result<Self::State> {
        let value = self.value.register(backend)?;
        Ok(AggregatingState::new(value.id(), value.lifespan, self.function))
    }
}

impl<F: AggregateFunction, N, L: Copy> Clone for AggregatingDescriptor<F, N, L> {
    fn clone(&self) -> Self {
        Self { value: self.value.clone(), function: self.function }
    }
}

impl<F: AggregateFunction, N, L> fmt::Debug for AggregatingDescriptor<F, N, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Aggregating{:?}", self.value)
    }
}
