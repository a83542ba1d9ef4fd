//! Descriptors say what a state is.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::evolution::Decoder;
use crate::format::{StateKind, StateMeta};
use crate::ttl::TimedCodec;
use crate::{
    Codec, Evolution, Expiring, Expiry, KeyedBackend, Lasting, ListState, MapState, Result, SerdeCodec,
    StateKey, StateSchema, Timed, TimerService, Ttl, ValueState,
};

/// Which time a timer, a timer service or a time-to-live goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TimeDomain {
    /// Driven by watermarks: times are those of the records.
    Event,
    /// Driven by the clock of the machine.
    Processing,
}

/// Describes a state of some kind, and registers it: the one way that works for all of them.
pub trait StateDescriptor {
    /// The handle of the state.
    type State;

    /// Registers the state with a backend, before the first restore or record.
    ///
    /// # Errors
    /// Those of [`KeyedBackend::register_value`].
    fn register<B: KeyedBackend>(&self, backend: &mut B) -> Result<Self::State>;
}

macro_rules! descriptor {
    (
        $(#[$doc:meta])* $name:ident<$($param:ident $(: $bound:ident)?),+>, $codec_of:ident, $kind:expr,
        $state:ident, $register:ident, $sub:expr
    ) => {
        $(#[$doc])*
        pub struct $name<$($param,)+ N = (), A = Lasting> {
            name: String,
            kind: StateKind,
            decoder: Decoder<$codec_of>,
            expiry: Option<Expiry<$codec_of>>,
            lifespan: A,
            types: PhantomData<fn() -> ($($param,)+ N)>,
        }

        impl<$($param: 'static),+> $name<$($param),+> {
            /// A state of this name (unique within its operator) with the default codec, [`SerdeCodec`].
            pub fn new(name: impl Into<String>) -> Self
            where
                $codec_of: Serialize + DeserializeOwned,
            {
                Self::with_codec(name, SerdeCodec)
            }

            /// A state of this name with a codec of your own.
            pub fn with_codec(name: impl Into<String>, codec: impl Codec<$codec_of>) -> Self {
                Self::of(name.into(), Decoder::new(1, Arc::new(codec)))
            }

            /// A state of this name whose values have a history of versions.
            pub fn evolving(name: impl Into<String>, evolution: Evolution<$codec_of>) -> Self {
                Self::of(name.into(), evolution.into_decoder())
            }

            fn of(name: String, decoder: Decoder<$codec_of>) -> Self {
                Self { name, kind: $kind, decoder, expiry: None, lifespan: Lasting, types: PhantomData }
            }
        }

        impl<$($param,)+ N> $name<$($param,)+ N> {
            /// The same with values that expire.
            #[must_use]
            pub fn time_to_live(self, ttl: Ttl) -> $name<$($param,)+ N, Expiring> {
                self.map_types(Expiring(ttl))
            }

            /// For backends: when values expire, if they do.
            pub fn expiry(&self) -> Option<Expiry<$codec_of>> {
                self.expiry
            }

            /// For backends: how stored values are read.
            pub fn decoder(&self) -> &Decoder<$codec_of> {
                &self.decoder
            }
        }

        impl<$($param,)+ N, A> $name<$($param,)+ N, A> {
            fn map_types<M, L>(self, lifespan: L) -> $name<$($param,)+ M, L> {
                let Self { name, kind, decoder, expiry, .. } = self;
                $name { name, kind, decoder, expiry, lifespan, types: PhantomData }
            }

            /// The same with values addressed by (key, namespace) instead of the key alone.
            #[must_use]
            pub fn namespaced<M: StateKey>(self) -> $name<$($param,)+ M, A>
            where
                A: Copy,
            {
                let lifespan = self.lifespan;
                self.map_types(lifespan)
            }

            /// Sets the version of the value's schema (1 unless set); stored with snapshots. With a codec that
            /// [describes itself](Codec::is_self_describing) lower versions are read as they are; for others see
            /// [`evolving`](Self::evolving).
            #[must_use]
            pub fn schema_version(mut self, version: u32) -> Self {
                self.decoder.version = version;
                self
            }

            /// Declares a name that the state had before: what a snapshot has under that name is restored into this state.
            #[must_use]
            pub fn renamed_from(mut self, name: impl Into<String>) -> Self {
                self.decoder.renamed_from.push(name.into());
                self
            }

            /// The name of the state.
            pub fn name(&self) -> &str {
                &self.name
            }

            /// The kind of the state.
            pub fn kind(&self) -> StateKind {
                self.kind
            }

            /// The codec of its values.
            pub fn codec(&self) -> &Arc<dyn Codec<$codec_of>> {
                &self.decoder.codec
            }

            /// The version of the value's schema.
            pub fn version(&self) -> u32 {
                self.decoder.version
            }
        }

        impl<$($param: 'static $(+ $bound)?,)+ N: StateKey, A> $name<$($param,)+ N, A> {
            /// How the state is described in snapshots of an operator with keys of type `K`.
            pub fn meta<K: StateKey>(&self) -> StateMeta {
                StateMeta {
                    key_codec: K::codec(),
                    namespace_codec: N::codec(),
                    sub_codec: $sub,
                    value_codec: self.decoder.codec.id(),
                    schema_version: self.decoder.version,
                    ..StateMeta::new(&self.name, self.kind)
                }
            }

            /// What it is and what it reads.
            pub fn schema<K: StateKey>(&self) -> StateSchema {
                self.decoder.schema(self.meta::<K>())
            }
        }

        impl<$($param: Send + 'static $(+ $bound)?,)+ N: StateKey> StateDescriptor for $name<$($param,)+ N> {
            type State = $state<$($param,)+ N>;

            fn register<B: KeyedBackend>(&self, backend: &mut B) -> Result<Self::State> {
                self.decoder.check().map_err(|error| error.with("state", &self.name))?;
                backend.$register(self)
            }
        }

        impl<$($param,)+ N, A: Copy> Clone for $name<$($param,)+ N, A> {
            fn clone(&self) -> Self {
                Self {
                    name: self.name.clone(),
                    kind: self.kind,
                    decoder: self.decoder.clone(),
                    expiry: self.expiry,
                    lifespan: self.lifespan,
                    types: PhantomData,
                }
            }
        }

        impl<$($param,)+ N, A> fmt::Debug for $name<$($param,)+ N, A> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({} v{})"), self.name, self.decoder.version)
            }
        }
    };
}

/// For the states whose values have a time-to-live: what the backend holds then.
macro_rules! expiring {
    ($name:ident<$($param:ident $(: $bound:ident)?),+ | $value:ident>, $state:ident) => {
        impl<$($param: 'static $(+ $bound)?,)+ $value: Send + 'static, N: StateKey>
            $name<$($param,)+ $value, N, Expiring>
        {
            expiring!(@stored $name, $value, ($($param),+));
        }
        expiring!(@register $name, $state, $value, ($($param $(: $bound)?),+), ($($param),+));
    };
    ($name:ident<$value:ident>, $state:ident) => {
        impl<$value: Send + 'static, N: StateKey> $name<$value, N, Expiring> {
            expiring!(@stored $name, $value, ());
        }
        expiring!(@register $name, $state, $value, (), ());
    };
    (@stored $name:ident, $value:ident, ($($param:ident),*)) => {
        /// What a backend holds: values with a stamp.
        pub fn stored(&self) -> $name<$($param,)* Timed<$value>, N> {
            let codec = Arc::new(TimedCodec(Arc::clone(&self.decoder.codec)));
            $name {
                name: self.name.clone(),
                kind: self.kind,
                decoder: self.decoder.timed(codec),
                expiry: Some(Expiry::new(self.lifespan.0)),
                lifespan: Lasting,
                types: PhantomData,
            }
        }
    };
    (@register $name:ident, $state:ident, $value:ident, ($($param:ident $(: $bound:ident)?),*), ($($plain:ident),*)) => {
        impl<$($param: 'static $(+ $bound)?,)* $value: Send + 'static, N: StateKey> StateDescriptor
            for $name<$($plain,)* $value, N, Expiring>
        {
            type State = $state<$($plain,)* $value, N, Expiring>;

            fn register<B: KeyedBackend>(&self, backend: &mut B) -> Result<Self::State> {
                self.lifespan.0.check().map_err(|error| error.with("state", &self.name))?;
                self.decoder.check().map_err(|error| error.with("state", &self.name))?;
                Ok($state::expiring(self.stored().register(backend)?, self.lifespan))
            }
        }
    };
}

descriptor! {
    /// One value for each key (Flink: `ValueStateDescriptor`).
    ValueDescriptor<V>, V, StateKind::Value, ValueState, register_value, String::new()
}
descriptor! {
    /// A list for each key, cheap to append to (Flink: `ListStateDescriptor`).
    ListDescriptor<T>, T, StateKind::List, ListState, register_list, String::new()
}
descriptor! {
    /// A map for each key, read and written entry by entry (Flink: `MapStateDescriptor`).
    MapDescriptor<MK: StateKey, V>, V, StateKind::Map, MapState, register_map, MK::codec()
}
expiring!(ValueDescriptor<V>, ValueState);
expiring!(ListDescriptor<T>, ListState);
expiring!(MapDescriptor<MK: StateKey | V>, MapState);

impl<V, N, A> ValueDescriptor<V, N, A> {
    pub(crate) fn of_kind(self, kind: StateKind) -> Self {
        Self { kind, ..self }
    }
}

/// A named timer service: timers are deduplicated by (key, namespace, time) within it.
pub struct TimerDescriptor<N = ()> {
    name: String,
    domain: TimeDomain,
    namespace: PhantomData<fn() -> N>,
}

impl<N> TimerDescriptor<N> {
    /// A service for timers in event time.
    pub fn event_time(name: impl Into<String>) -> Self {
        Self { name: name.into(), domain: TimeDomain::Event, namespace: PhantomData }
    }

    /// A service for timers in processing time.
    pub fn processing_time(name: impl Into<String>) -> Self {
        Self { name: name.into(), domain: TimeDomain::Processing, namespace: PhantomData }
    }

    /// The name of the service; it shares one space of names with the states of the operator.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Which time it goes by.
    pub fn domain(&self) -> TimeDomain {
        self.domain
    }
}

impl<N: StateKey> TimerDescriptor<N> {
    /// How the service is described in snapshots of an operator with keys of type `K`.
    pub fn meta<K: StateKey>(&self) -> StateMeta {
        let kind = match self.domain {
            TimeDomain::Event => StateKind::EventTimers,
            TimeDomain::Processing => StateKind::ProcessingTimers,
        };
        StateMeta {
            key_codec: K::codec(),
            namespace_codec: N::codec(),
            schema_version: 1,
            ..StateMeta::new(&self.name, kind)
        }
    }
}

impl<N: StateKey> StateDescriptor for TimerDescriptor<N> {
    type State = TimerService<N>;

    fn register<B: KeyedBackend>(&self, backend: &mut B) -> Result<TimerService<N>> {
        backend.register_timers(self)
    }
}

impl<N> fmt::Debug for TimerDescriptor<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TimerDescriptor({}, {:?})", self.name, self.domain)
    }
}
