//! Descriptors say what a state is; handles are what a backend gives for them.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Codec, SerdeCodec, StateKey};

/// Which time a timer or a timer service goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TimeDomain {
    /// Driven by watermarks: times are those of the records.
    Event,
    /// Driven by the clock of the machine.
    Processing,
}

macro_rules! descriptor {
    ($(#[$doc:meta])* $name:ident<$($param:ident),+>, $codec_of:ident) => {
        $(#[$doc])*
        pub struct $name<$($param,)+ N = ()> {
            pub(crate) name: String,
            pub(crate) codec: Arc<dyn Codec<$codec_of>>,
            pub(crate) schema_version: u32,
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
                Self { name: name.into(), codec: Arc::new(codec), schema_version: 1, types: PhantomData }
            }
        }

        impl<$($param,)+ N> $name<$($param,)+ N> {
            /// The same with values addressed by (key, namespace) instead of the key alone.
            #[must_use]
            pub fn namespaced<M: StateKey>(self) -> $name<$($param,)+ M> {
                $name { name: self.name, codec: self.codec, schema_version: self.schema_version, types: PhantomData }
            }

            /// Sets the version of the value's schema (1 unless set); stored with snapshots.
            #[must_use]
            pub fn schema_version(mut self, version: u32) -> Self {
                self.schema_version = version;
                self
            }

            /// The name of the state.
            pub fn name(&self) -> &str {
                &self.name
            }

            /// The codec of its values.
            pub fn codec(&self) -> &Arc<dyn Codec<$codec_of>> {
                &self.codec
            }

            /// The version of the value's schema.
            pub fn version(&self) -> u32 {
                self.schema_version
            }
        }

        impl<$($param,)+ N> Clone for $name<$($param,)+ N> {
            fn clone(&self) -> Self {
                Self {
                    name: self.name.clone(),
                    codec: Arc::clone(&self.codec),
                    schema_version: self.schema_version,
                    types: PhantomData,
                }
            }
        }

        impl<$($param,)+ N> fmt::Debug for $name<$($param,)+ N> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({} v{})"), self.name, self.schema_version)
            }
        }
    };
}

descriptor! {
    /// One value for each key (Flink: `ValueStateDescriptor`).
    ValueDescriptor<V>, V
}
descriptor! {
    /// A list for each key, cheap to append to (Flink: `ListStateDescriptor`).
    ListDescriptor<T>, T
}
descriptor! {
    /// A map for each key, read and written entry by entry (Flink: `MapStateDescriptor`).
    MapDescriptor<MK, V>, V
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

impl<N> fmt::Debug for TimerDescriptor<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TimerDescriptor({}, {:?})", self.name, self.domain)
    }
}

macro_rules! handle {
    ($(#[$doc:meta])* $name:ident<$($param:ident),*>) => {
        $(#[$doc])*
        ///
        /// A small copyable token: it is good for the backend that gave it, and an error elsewhere.
        pub struct $name<$($param,)* N = ()> {
            index: u32,
            types: PhantomData<fn($($param,)* N)>,
        }

        impl<$($param,)* N> $name<$($param,)* N> {
            /// For backends: the handle of the state with this index.
            pub fn from_index(index: u32) -> Self {
                Self { index, types: PhantomData }
            }

            /// For backends: the index it was made from.
            #[inline]
            pub fn index(self) -> usize {
                self.index as usize
            }
        }

        impl<$($param,)* N> Clone for $name<$($param,)* N> {
            fn clone(&self) -> Self {
                *self
            }
        }

        impl<$($param,)* N> Copy for $name<$($param,)* N> {}

        impl<$($param,)* N> fmt::Debug for $name<$($param,)* N> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "(#{})"), self.index)
            }
        }
    };
}

handle! {
    /// A value state that is registered with a backend.
    ValueState<V>
}
handle! {
    /// A list state that is registered with a backend.
    ListState<T>
}
handle! {
    /// A map state that is registered with a backend.
    MapState<MK, V>
}
handle! {
    /// A timer service that is registered with a backend.
    TimerService<>
}
