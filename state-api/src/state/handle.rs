//! The handles that registrations return.

use std::fmt;
use std::marker::PhantomData;

use super::Lasting;
use crate::TimeDomain;
use crate::backend::StateId;

macro_rules! handle {
    ($(#[$doc:meta])* $name:ident<$($param:ident),* | $($last:ident $(= $default:ty)?)?> $({ $field:ident })?) => {
        $(#[$doc])*
        ///
        /// The handle is a small copyable token, valid for the backend that registered the state; any other
        /// backend refuses it. What it lends borrows the backend:
        /// [two states of one key](crate::KeyScope#two-states-of-one-key) are accessed one after the other.
        pub struct $name<$($param,)* N = (), L = Lasting $(, $last $(= $default)?)?> {
            pub(crate) id: StateId,
            pub(crate) lifespan: L,
            $(pub(crate) $field: $last,)?
            types: PhantomData<fn($($param,)* N)>,
        }

        impl<$($param,)* N, L $(, $last)?> $name<$($param,)* N, L $(, $last)?> {
            pub(crate) fn new(id: StateId, lifespan: L $(, $field: $last)?) -> Self {
                Self { id, lifespan, $($field,)? types: PhantomData }
            }

            /// Returns the identity of the registered state, for backends.
            #[inline]
            pub fn id(&self) -> StateId {
                self.id
            }
        }

        impl<$($param,)* N, L: Copy $(, $last: Copy)?> Clone for $name<$($param,)* N, L $(, $last)?> {
            fn clone(&self) -> Self {
                *self
            }
        }

        impl<$($param,)* N, L: Copy $(, $last: Copy)?> Copy for $name<$($param,)* N, L $(, $last)?> {}

        impl<$($param,)* N, L $(, $last)?> fmt::Debug for $name<$($param,)* N, L $(, $last)?> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.id)
            }
        }
    };
}

handle! {
    /// A value state that is registered with a backend.
    ValueState<V |>
}
handle! {
    /// A list state that is registered with a backend.
    ListState<T |>
}
handle! {
    /// A map state that is registered with a backend.
    MapState<MK, V |>
}
handle! {
    /// A reducing state that is registered with a backend. `R` is its [function](super::ReduceFunction), a
    /// function pointer unless named.
    ReducingState<V | R = fn(&mut V, V)> { function }
}

/// An aggregating state that is registered with a backend. `F` is its [function](super::AggregateFunction).
///
/// The handle is a small copyable token, valid for the backend that registered the state; any other backend
/// refuses it. What it lends borrows the backend:
/// [two states of one key](crate::KeyScope#two-states-of-one-key) are accessed one after the other.
pub struct AggregatingState<F, N = (), L = Lasting> {
    pub(crate) id: StateId,
    pub(crate) lifespan: L,
    pub(crate) function: F,
    namespace: PhantomData<fn(N)>,
}

impl<F, N, L> AggregatingState<F, N, L> {
    pub(crate) fn new(id: StateId, lifespan: L, function: F) -> Self {
        Self { id, lifespan, function, namespace: PhantomData }
    }

    /// Returns the identity of the registered state, for backends.
    #[inline]
    pub fn id(&self) -> StateId {
        self.id
    }
}

impl<F: Copy, N, L: Copy> Clone for AggregatingState<F, N, L> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F: Copy, N, L: Copy> Copy for AggregatingState<F, N, L> {}

impl<F, N, L> fmt::Debug for AggregatingState<F, N, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AggregatingState({})", self.id)
    }
}

/// A timer service that is registered with a backend. A [timer](crate::Timer) that fires carries its service:
/// compare the two with `==`.
///
/// The handle is a small copyable token, valid for the backend that registered the service; any other backend
/// refuses it. Like every access, one to timers borrows the backend:
/// [two states of one key](crate::KeyScope#two-states-of-one-key) are accessed one after the other.
pub struct TimerService<N = ()> {
    pub(crate) id: StateId,
    domain: TimeDomain,
    namespace: PhantomData<fn(N)>,
}

impl<N> TimerService<N> {
    pub(crate) fn new(id: StateId, domain: TimeDomain) -> Self {
        Self { id, domain, namespace: PhantomData }
    }

    /// Returns the identity of the registered service, for backends.
    #[inline]
    pub fn id(&self) -> StateId {
        self.id
    }

    /// Returns the time domain of the timers.
    #[inline]
    pub fn domain(&self) -> TimeDomain {
        self.domain
    }
}

impl<N> Clone for TimerService<N> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<N> Copy for TimerService<N> {}

impl<N, M> PartialEq<TimerService<M>> for TimerService<N> {
    fn eq(&self, other: &TimerService<M>) -> bool {
        self.id == other.id
    }
}

impl<N> Eq for TimerService<N> {}

impl<N> fmt::Debug for TimerService<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TimerService({})", self.id)
    }
}
