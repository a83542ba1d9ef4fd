//! Reducing and aggregating state: one accumulator for each key and namespace, into which values are folded as they come.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::format::StateKind;
use crate::{
    Codec, Evolution, Expiring, KeyedBackend, Lasting, Result, SerdeCodec, StateDescriptor, StateHandle,
    StateKey, Ttl, ValueDescriptor, ValueState,
};

/// How two values become one (Flink: `ReduceFunction`). Should be associative, as namespaces may be merged in any order.
///
/// Every `Fn(&mut V, V)` is one:
///
/// ```
/// use strandline_state_api::{ReduceFunction, ReducingDescriptor};
///
/// let sums = ReducingDescriptor::new("sums", |sum: &mut u64, n: u64| *sum += n);
/// ```
pub trait ReduceFunction<V>: Clone + Send + 'static {
    /// Folds `value` into `into`.
    fn reduce(&self, into: &mut V, value: V);
}

impl<V, F: Fn(&mut V, V) + Clone + Send + 'static> ReduceFunction<V> for F {
    #[inline]
    fn reduce(&self, into: &mut V, value: V) {
        self(into, value);
    }
}

/// How values are folded into an accumulator, and what comes out (Flink: `AggregateFunction`).
///
/// ```
/// use strandline_state_api::AggregateFunction;
///
/// #[derive(Clone, Copy)]
/// struct Average;
///
/// impl AggregateFunction for Average {
///     type In = f64;
///     type Accumulator = (f64, u64);
///     type Out = f64;
///
///     fn create(&self) -> (f64, u64) { (0.0, 0) }
///     fn add(&self, (sum, n): &mut (f64, u64), value: f64) { *sum += value; *n += 1; }
///     fn result(&self, (sum, n): &(f64, u64)) -> f64 { sum / *n as f64 }
///     fn merge(&self, (sum, n): &mut (f64, u64), other: (f64, u64)) { *sum += other.0; *n += other.1; }
/// }
/// ```
pub trait AggregateFunction: Clone + Send + 'static {
    /// What is added.
    type In;
    /// What is kept.
    type Accumulator: Send + 'static;
    /// What is read.
    type Out;

    /// An accumulator of nothing.
    fn create(&self) -> Self::Accumulator;

    /// Folds a value in.
    fn add(&self, accumulator: &mut Self::Accumulator, value: Self::In);

    /// What the accumulator says.
    fn result(&self, accumulator: &Self::Accumulator) -> Self::Out;

    /// Folds another accumulator in: for namespaces that merge.
    fn merge(&self, accumulator: &mut Self::Accumulator, other: Self::Accumulator);
}

macro_rules! folding {
    (
        $(#[$descriptor_doc:meta])* $descriptor:ident, $(#[$state_doc:meta])* $state:ident,
        $kind:expr, [$($param:ident),+], $function:ident: $bound:path, $value:ty
    ) => {
        $(#[$descriptor_doc])*
        pub struct $descriptor<$($param,)+ N = (), A = Lasting>
        where
            $function: $bound,
        {
            value: ValueDescriptor<$value, N, A>,
            function: $function,
        }

        impl<$($param,)+> $descriptor<$($param),+>
        where
            $function: $bound,
            $value: Send + 'static,
        {
            /// A state of this name with the default codec, [`SerdeCodec`].
            pub fn new(name: impl Into<String>, function: $function) -> Self
            where
                $value: Serialize + DeserializeOwned,
            {
                Self::with_codec(name, function, SerdeCodec)
            }

            /// A state of this name with a codec of your own.
            pub fn with_codec(name: impl Into<String>, function: $function, codec: impl Codec<$value>) -> Self {
                Self { value: ValueDescriptor::with_codec(name, codec).of_kind($kind), function }
            }

            /// A state whose value has a history of versions.
            pub fn evolving(name: impl Into<String>, function: $function, evolution: Evolution<$value>) -> Self {
                Self { value: ValueDescriptor::evolving(name, evolution).of_kind($kind), function }
            }

            /// The same with values that expire.
            #[must_use]
            pub fn time_to_live(self, ttl: Ttl) -> $descriptor<$($param,)+ (), Expiring> {
                $descriptor { value: self.value.time_to_live(ttl), function: self.function }
            }
        }

        impl<$($param,)+ N, A: Copy> $descriptor<$($param,)+ N, A>
        where
            $function: $bound,
        {
            /// The same with values addressed by (key, namespace) instead of the key alone.
            #[must_use]
            pub fn namespaced<M: StateKey>(self) -> $descriptor<$($param,)+ M, A> {
                $descriptor { value: self.value.namespaced(), function: self.function }
            }

            /// Sets the version of the value's schema (1 unless set); stored with snapshots.
            #[must_use]
            pub fn schema_version(mut self, version: u32) -> Self {
                self.value = self.value.schema_version(version);
                self
            }

            /// Declares a name that the state had before.
            #[must_use]
            pub fn renamed_from(mut self, name: impl Into<String>) -> Self {
                self.value = self.value.renamed_from(name);
                self
            }

            /// The name of the state.
            pub fn name(&self) -> &str {
                self.value.name()
            }
        }

        impl<$($param,)+ N: StateKey, A> StateDescriptor for $descriptor<$($param,)+ N, A>
        where
            $function: $bound,
            ValueDescriptor<$value, N, A>: StateDescriptor<State = ValueState<$value, N, A>>,
        {
            type State = $state<$($param,)+ N, A>;

            fn register<B: KeyedBackend>(&self, backend: &mut B) -> Result<Self::State> {
                Ok($state { value: self.value.register(backend)?, function: self.function.clone() })
            }
        }

        impl<$($param,)+ N, A> fmt::Debug for $descriptor<$($param,)+ N, A>
        where
            $function: $bound,
        {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($descriptor), "({} v{})"), self.value.name(), self.value.version())
            }
        }

        $(#[$state_doc])*
        pub struct $state<$($param,)+ N = (), A = Lasting>
        where
            $function: $bound,
        {
            pub(crate) value: ValueState<$value, N, A>,
            pub(crate) function: $function,
        }

        impl<$($param,)+ N, A: Copy> Clone for $state<$($param,)+ N, A>
        where
            $function: $bound,
        {
            fn clone(&self) -> Self {
                Self { value: self.value, function: self.function.clone() }
            }
        }

        impl<$($param,)+ N, A: Copy> Copy for $state<$($param,)+ N, A>
        where
            $function: $bound + Copy,
        {
        }

        impl<$($param,)+ N, A> fmt::Debug for $state<$($param,)+ N, A>
        where
            $function: $bound,
        {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($state), "({:?})"), self.value)
            }
        }

        impl<$($param,)+ N: StateKey, A> StateHandle for &$state<$($param,)+ N, A>
        where
            $function: $bound,
            A: Copy,
        {
            type Namespace = N;

            fn position(&self) -> usize {
                self.value.index()
            }
        }
    };
}

folding! {
    /// One value for each key and namespace, into which others are reduced (Flink: `ReducingStateDescriptor`).
    ReducingDescriptor,
    /// A reducing state that is registered with a backend.
    ReducingState,
    StateKind::Reducing, [V, R], R: ReduceFunction<V>, V
}
folding! {
    /// One accumulator for each key and namespace (Flink: `AggregatingStateDescriptor`).
    AggregatingDescriptor,
    /// An aggregating state that is registered with a backend.
    AggregatingState,
    StateKind::Aggregating, [F], F: AggregateFunction, F::Accumulator
}
