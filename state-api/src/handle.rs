//! Handles are what a backend gives for descriptors.

use std::fmt;
use std::marker::PhantomData;

use crate::{Expiring, Lasting, StateKey, Timed};

/// A handle of a state of any kind: for what can be done with all of them.
pub trait StateHandle: Copy {
    /// What its entries are addressed by, beside the key.
    type Namespace: StateKey;

    /// For backends: the index that the handle was made from.
    fn position(&self) -> usize;
}

macro_rules! handle {
    ($(#[$doc:meta])* $name:ident<$($param:ident),*>) => {
        $(#[$doc])*
        ///
        /// A small copyable token: it is good for the backend that gave it, and an error elsewhere.
        pub struct $name<$($param,)* N = (), A = Lasting> {
            index: u32,
            lifespan: A,
            types: PhantomData<fn($($param,)* N)>,
        }

        impl<$($param,)* N> $name<$($param,)* N> {
            /// For backends: the handle of the state with this index.
            pub fn from_index(index: u32) -> Self {
                Self { index, lifespan: Lasting, types: PhantomData }
            }
        }

        impl<$($param,)* N, A> $name<$($param,)* N, A> {
            /// For backends: the index it was made from.
            #[inline]
            pub fn index(&self) -> usize {
                self.index as usize
            }
        }

        impl<$($param,)* N, A: Copy> Clone for $name<$($param,)* N, A> {
            fn clone(&self) -> Self {
                *self
            }
        }

        impl<$($param,)* N, A: Copy> Copy for $name<$($param,)* N, A> {}

        impl<$($param,)* N, A> fmt::Debug for $name<$($param,)* N, A> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "(#{})"), self.index)
            }
        }

        impl<$($param,)* N: StateKey, A: Copy> StateHandle for $name<$($param,)* N, A> {
            type Namespace = N;

            #[inline]
            fn position(&self) -> usize {
                self.index()
            }
        }
    };
}

/// For handles of states with a time-to-live: those of what the backend holds.
macro_rules! expiring {
    ($name:ident<$($param:ident,)* | $value:ident>) => {
        impl<$($param,)* $value, N> $name<$($param,)* $value, N, Expiring> {
            pub(crate) fn expiring(stored: $name<$($param,)* Timed<$value>, N>, lifespan: Expiring) -> Self {
                Self { index: stored.index, lifespan, types: PhantomData }
            }

            /// The handle of what the backend holds: values with a stamp.
            #[inline]
            pub fn stored(self) -> $name<$($param,)* Timed<$value>, N> {
                $name::from_index(self.index)
            }

            #[inline]
            pub(crate) fn ttl(self) -> crate::Ttl {
                self.lifespan.0
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
expiring!(ValueState<| V>);
expiring!(ListState<| T>);
expiring!(MapState<MK, | V>);

/// A timer service that is registered with a backend.
///
/// A small copyable token: it is good for the backend that gave it, and an error elsewhere.
pub struct TimerService<N = ()> {
    index: u32,
    namespace: PhantomData<fn(N)>,
}

impl<N> TimerService<N> {
    /// For backends: the handle of the service with this index.
    pub fn from_index(index: u32) -> Self {
        Self { index, namespace: PhantomData }
    }

    /// For backends: the index it was made from.
    #[inline]
    pub fn index(self) -> usize {
        self.index as usize
    }
}

impl<N> Clone for TimerService<N> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<N> Copy for TimerService<N> {}

impl<N> fmt::Debug for TimerService<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TimerService(#{})", self.index)
    }
}
