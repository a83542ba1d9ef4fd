//! Descriptors declare states.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::lifespan::Declared;
use super::{Expiring, Lasting, Lifespan, ListState, MapState, TimerService, Ttl, ValueState};
use crate::backend::{KeyedBackend, StoredValues};
use crate::schema::{Decoder, Description, Evolution, StateKind, StateMeta, StateSchema, StateTypes};
use crate::{Codec, Result, SerdeCodec, StateKey, TimeDomain};

mod folding;

pub use folding::{AggregatingDescriptor, ReducingDescriptor};

/// Declares a state of some kind and registers it.
///
/// An entry of a state has 64 MiB less 1 KiB at most, encoded: key, namespace, map key and value together, or a
/// whole list. A backend that encodes at the access refuses a larger one there; the memory backend, which does
/// not, fails the next snapshot with an error that names state and key, and takes snapshots again once the entry
/// is smaller or gone. Spread large values over the entries of a map.
pub trait StateDescriptor {
    /// The handle that the registration returns.
    type State;

    /// Returns the name of the state.
    fn name(&self) -> &str;

    /// Registers the state with a backend, before the first restore or record. The same name with the same
    /// types returns the same handle.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) when a state of another kind or type has the name, when a
    /// restore has already met a state of this name, or when the declaration itself is wrong (versions that
    /// do not rise, a time-to-live below 1 ms); [`Unsupported`](crate::ErrorKind::Unsupported) when the
    /// backend has no such kind.
    fn register<B: KeyedBackend>(&self, backend: &mut B) -> Result<Self::State>;
}

/// What the descriptors of all kinds share: name, kind, and the storage of values.
struct Declaration<V> {
    name: String,
    kind: StateKind,
    decoder: Decoder<V>,
    /// How keys are to be read, where their type does not show it.
    key: Option<Description>,
}

impl<V: 'static> Declaration<V> {
    fn new(name: String, kind: StateKind, decoder: Decoder<V>) -> Self {
        Self { name, kind, decoder, key: None }
    }

    fn meta<K: StateKey, N: StateKey>(&self, sub_codec: String) -> StateMeta {
        StateMeta {
            key_codec: K::codec(),
            namespace_codec: N::codec(),
            sub_codec,
            value_codec: self.decoder.codec.id(),
            schema_version: self.decoder.version,
            ..StateMeta::new(&self.name, self.kind)
        }
    }

    /// Returns what a backend registers for keys of type `K`.
    fn stored<K: StateKey, N: StateKey, L: Lifespan>(
        &self,
        lifespan: L,
        map_key: MapKey,
        types: &'static str,
    ) -> Result<StoredValues<L::Stored<V>>>
    where
        V: Send,
    {
        let checked = lifespan.check().and_then(|()| self.decoder.check());
        checked.map_err(|error| error.with("state", &self.name))?;
        let MapKey { codec, description } = map_key;
        let meta = self.meta::<K, N>(codec);
        let of_state = StateTypes {
            map_key: description,
            value_codec: meta.value_codec.clone(),
            ttl_ms: lifespan.ttl_ms(),
            ..key_types::<K, N>(&self.name, self.key.as_ref())
        };
        let declared = Declared { meta, decoder: self.decoder.clone(), types };
        Ok(lifespan.stored_values(declared).described(self.decoder.types(&of_state)))
    }
}

/// The map keys of a state; the codec is empty unless the state is a map.
#[derive(Default)]
struct MapKey {
    codec: String,
    description: Option<Description>,
}

impl MapKey {
    fn of<MK: StateKey>() -> Self {
        Self { codec: MK::codec(), description: unrevealed::<MK>() }
    }
}

/// Returns the description of a type of keys, unless the name of their codec reveals it.
fn unrevealed<K: StateKey>() -> Option<Description> {
    let description = K::description();
    if description == Description::of_key_codec(&K::codec()) { None } else { description }
}

/// Returns the descriptions of keys and namespaces.
fn key_types<K: StateKey, N: StateKey>(state: &str, key: Option<&Description>) -> StateTypes {
    StateTypes {
        state: state.to_owned(),
        key: key.cloned().or_else(unrevealed::<K>),
        namespace: unrevealed::<N>(),
        ..StateTypes::default()
    }
}

impl<V> Clone for Declaration<V> {
    fn clone(&self) -> Self {
        let (name, key) = (self.name.clone(), self.key.clone());
        Self { name, kind: self.kind, decoder: self.decoder.clone(), key }
    }
}

/// Defines the descriptor of a kind without a function.
macro_rules! descriptor {
    ($(#[$doc:meta])* $name:ident<$($param:ident $(: $bound:ident)?),+ | $value:ident>, $kind:expr) => {
        $(#[$doc])*
        pub struct $name<$($param,)+ N = (), L = Lasting> {
            declaration: Declaration<$value>,
            lifespan: L,
            types: PhantomData<fn() -> ($($param,)+ N)>,
        }

        impl<$($param: 'static),+> $name<$($param),+> {
            /// Declares a state of this name (unique within its operator) with the default codec,
            /// [`SerdeCodec`].
            pub fn new(name: impl Into<String>) -> Self
            where
                $value: Serialize + DeserializeOwned,
            {
                Self::with_codec(name, SerdeCodec)
            }

            /// Declares a state of this name with a codec of your own.
            pub fn with_codec(name: impl Into<String>, codec: impl Codec<$value>) -> Self {
                Self::of(Declaration::new(name.into(), $kind, Decoder::new(1, Arc::new(codec))))
            }

            /// Declares a state of this name whose values have older versions.
            pub fn evolving(name: impl Into<String>, evolution: Evolution<$value>) -> Self {
                Self::of(Declaration::new(name.into(), $kind, evolution.0))
            }

            fn of(declaration: Declaration<$value>) -> Self {
                Self { declaration, lifespan: Lasting, types: PhantomData }
            }
        }

        impl<$($param,)+ N, L: Copy> $name<$($param,)+ N, L> {
            fn with_types<M, K>(self, lifespan: K) -> $name<$($param,)+ M, K> {
                $name { declaration: self.declaration, lifespan, types: PhantomData }
            }

            /// Sets a time-to-live, after which values expire.
            #[must_use]
            pub fn time_to_live(self, ttl: Ttl) -> $name<$($param,)+ N, Expiring> {
                self.with_types(Expiring(ttl))
            }

            /// Addresses values by (key, namespace) instead of the key alone.
            #[must_use]
            pub fn namespaced<M: StateKey>(self) -> $name<$($param,)+ M, L> {
                let lifespan = self.lifespan;
                self.with_types(lifespan)
            }

            /// Sets the version of the value's schema (1 unless set); snapshots store it. A codec that
            /// [describes itself](Codec::is_self_describing) reads lower versions as they are; for others see
            /// [`evolving`](Self::evolving).
            #[must_use]
            pub fn schema_version(mut self, version: u32) -> Self {
                self.declaration.decoder.version = version;
                self
            }

            /// Declares a former name of the state: a restore fills this state with what a snapshot stores
            /// under that name.
            #[must_use]
            pub fn renamed_from(mut self, name: impl Into<String>) -> Self {
                self.declaration.decoder.renamed_from.push(name.into());
                self
            }

            /// Describes the keys, for programs that read a snapshot without the job: where the keys of a job
            /// have names that their type does not. The description changes nothing for the job.
            #[must_use]
            pub fn describe_keys(mut self, description: Description) -> Self {
                self.declaration.key = Some(description);
                self
            }

            /// Returns the version of the value's schema.
            pub fn version(&self) -> u32 {
                self.declaration.decoder.version
            }
        }

        impl<$($param,)+ N, L: Copy> Clone for $name<$($param,)+ N, L> {
            fn clone(&self) -> Self {
                Self { declaration: self.declaration.clone(), lifespan: self.lifespan, types: PhantomData }
            }
        }

        impl<$($param,)+ N, L> fmt::Debug for $name<$($param,)+ N, L> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let Declaration { name, decoder, .. } = &self.declaration;
                write!(f, concat!(stringify!($name), "({} v{})"), name, decoder.version)
            }
        }
    };
}

descriptor! {
    /// One value for each key (Flink: `ValueStateDescriptor`).
    ValueDescriptor<V | V>, StateKind::Value
}
descriptor! {
    /// A list for each key, cheap to append to (Flink: `ListStateDescriptor`).
    ListDescriptor<T | T>, StateKind::List
}
descriptor! {
    /// A map for each key, read and written entry by entry (Flink: `MapStateDescriptor`).
    MapDescriptor<MK, V | V>, StateKind::Map
}

impl<V: Send + 'static, N: StateKey, L: Lifespan> StateDescriptor for ValueDescriptor<V, N, L> {
    type State = ValueState<V, N, L>;

    fn name(&self) -> &str {
        &self.declaration.name
    }

    fn register<B: KeyedBackend>(&self, backend: &mut B) -> Result<Self::State> {
        let types = std::any::type_name::<V>();
        let values = self.declaration.stored::<B::Key, N, L>(self.lifespan, MapKey::default(), types)?;
        let id = backend.register_values::<L::Stored<V>, N>(values)?;
        Ok(ValueState::new(id, self.lifespan))
    }
}

impl<T: Send + 'static, N: StateKey, L: Lifespan> StateDescriptor for ListDescriptor<T, N, L> {
    type State = ListState<T, N, L>;

    fn name(&self) -> &str {
        &self.declaration.name
    }

    fn register<B: KeyedBackend>(&self, backend: &mut B) -> Result<Self::State> {
        let types = std::any::type_name::<[T]>();
        let elements = self.declaration.stored::<B::Key, N, L>(self.lifespan, MapKey::default(), types)?;
        let id = backend.register_lists::<L::Stored<T>, N>(elements)?;
        Ok(ListState::new(id, self.lifespan))
    }
}

impl<MK: StateKey, V: Send + 'static, N: StateKey, L: Lifespan> StateDescriptor
    for MapDescriptor<MK, V, N, L>
{
    type State = MapState<MK, V, N, L>;

    fn name(&self) -> &str {
        &self.declaration.name
    }

    fn register<B: KeyedBackend>(&self, backend: &mut B) -> Result<Self::State> {
        let types = std::any::type_name::<(MK, V)>();
        let values = self.declaration.stored::<B::Key, N, L>(self.lifespan, MapKey::of::<MK>(), types)?;
        let id = backend.register_maps::<MK, L::Stored<V>, N>(values)?;
        Ok(MapState::new(id, self.lifespan))
    }
}

/// Declares a timer service, which deduplicates timers by (key, namespace, time).
pub struct TimerDescriptor<N = ()> {
    name: String,
    domain: TimeDomain,
    namespace: PhantomData<fn() -> N>,
}

impl<N> TimerDescriptor<N> {
    /// Declares a service for timers in event time. Its name must differ from those of the operator's states.
    pub fn event_time(name: impl Into<String>) -> Self {
        Self { name: name.into(), domain: TimeDomain::Event, namespace: PhantomData }
    }

    /// Declares a service for timers in processing time.
    pub fn processing_time(name: impl Into<String>) -> Self {
        Self { name: name.into(), domain: TimeDomain::Processing, namespace: PhantomData }
    }

    /// Returns the time domain of the timers.
    pub fn domain(&self) -> TimeDomain {
        self.domain
    }
}

impl<N: StateKey> StateDescriptor for TimerDescriptor<N> {
    type State = TimerService<N>;

    fn name(&self) -> &str {
        &self.name
    }

    fn register<B: KeyedBackend>(&self, backend: &mut B) -> Result<TimerService<N>> {
        let kind = match self.domain {
            TimeDomain::Event => StateKind::EventTimers,
            TimeDomain::Processing => StateKind::ProcessingTimers,
        };
        let meta = StateMeta {
            key_codec: B::Key::codec(),
            namespace_codec: N::codec(),
            schema_version: 1,
            ..StateMeta::new(&self.name, kind)
        };
        let types = StateTypes { schema_version: 1, ..key_types::<B::Key, N>(&self.name, None) };
        let schema = StateSchema { types: vec![types], ..StateSchema::plain(meta) };
        let id = backend.register_timers::<N>(schema)?;
        Ok(TimerService::new(id, self.domain))
    }
}

impl<N> Clone for TimerDescriptor<N> {
    fn clone(&self) -> Self {
        Self { name: self.name.clone(), domain: self.domain, namespace: PhantomData }
    }
}

impl<N> fmt::Debug for TimerDescriptor<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TimerDescriptor({}, {:?})", self.name, self.domain)
    }
}
