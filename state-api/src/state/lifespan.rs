//! Whether the values of a state expire: a type parameter of descriptors, handles and accesses.

use std::fmt;
use std::sync::Arc;

use super::Ttl;
use crate::backend::{StoredValues, Verdict};
use crate::schema::{Decode, Decoder, FormVersion, StampChange, StateMeta, StoredForm};
use crate::time::StateTime;
use crate::{Codec, Error, Result, Timestamp};

/// [`Lasting`] or [`Expiring`]: whether the values of a state expire.
///
/// A descriptor with a [time-to-live](Ttl) registers an expiring handle; every access has the same methods
/// and signatures for both, so a time-to-live changes no call site. A lasting state pays nothing for it, not
/// even a branch. The trait is sealed; the accesses are implemented with its hidden methods.
pub trait Lifespan: Copy + fmt::Debug + Send + Sync + sealed::Sealed + 'static {
    /// What a backend holds for a value of type `V`.
    type Stored<V: Send + 'static>: Send + 'static;

    /// Whether the values expire.
    const EXPIRES: bool;

    #[doc(hidden)]
    fn check(self) -> Result<()>;
    /// Returns for how many milliseconds a value lives.
    #[doc(hidden)]
    fn ttl_ms(self) -> Option<i64>;
    #[doc(hidden)]
    fn store<V: Send + 'static>(self, value: V, clock: &StateTime) -> Self::Stored<V>;
    #[doc(hidden)]
    fn value<V: Send + 'static>(stored: &Self::Stored<V>) -> &V;
    #[doc(hidden)]
    fn value_mut<V: Send + 'static>(stored: &mut Self::Stored<V>) -> &mut V;
    #[doc(hidden)]
    fn into_value<V: Send + 'static>(stored: Self::Stored<V>) -> V;
    #[doc(hidden)]
    fn expired<V: Send + 'static>(self, stored: &Self::Stored<V>, clock: &StateTime) -> bool;
    /// Returns what a read does with the value.
    #[doc(hidden)]
    fn judge<V: Send + 'static>(self, stored: &Self::Stored<V>, clock: &StateTime) -> Verdict;
    #[doc(hidden)]
    fn hides<V: Send + 'static>(self, stored: &Self::Stored<V>, clock: &StateTime) -> bool;
    #[doc(hidden)]
    fn refreshes_on_read(self) -> bool;
    #[doc(hidden)]
    fn refresh<V: Send + 'static>(self, stored: &mut Self::Stored<V>, clock: &StateTime);
    /// Stamps a value that a write changes; the stamp never moves back.
    #[doc(hidden)]
    fn touch<V: Send + 'static>(self, stored: &mut Self::Stored<V>, clock: &StateTime);
    /// Sets the stamp of `into` to the later of both stamps.
    #[doc(hidden)]
    fn join_stamps<V: Send + 'static>(into: &mut Self::Stored<V>, other: &Self::Stored<V>);
    #[doc(hidden)]
    fn stored_values<V: Send + 'static>(self, declared: Declared<V>) -> StoredValues<Self::Stored<V>>;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Lasting {}
    impl Sealed for super::Expiring {}
}

/// The declared properties of the values of a state.
#[doc(hidden)]
#[derive(Debug)]
pub struct Declared<V> {
    pub(crate) meta: StateMeta,
    pub(crate) decoder: Decoder<V>,
    pub(crate) types: &'static str,
}

/// The lifespan of states whose values stay until they are removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lasting;

/// The lifespan of states whose values have a time-to-live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiring(pub(crate) Ttl);

/// A value with its stamp: what backends hold for a state with a time-to-live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timed<V> {
    /// When the time-to-live was last reset; `None` if no time was known, and then the value has not expired.
    pub stamp: Option<Timestamp>,
    /// The value.
    pub value: V,
}

impl Lifespan for Lasting {
    type Stored<V: Send + 'static> = V;
    const EXPIRES: bool = false;

    fn check(self) -> Result<()> {
        Ok(())
    }

    fn ttl_ms(self) -> Option<i64> {
        None
    }

    #[inline]
    fn store<V: Send + 'static>(self, value: V, _: &StateTime) -> V {
        value
    }

    #[inline]
    fn value<V: Send + 'static>(stored: &V) -> &V {
        stored
    }

    #[inline]
    fn value_mut<V: Send + 'static>(stored: &mut V) -> &mut V {
        stored
    }

    #[inline]
    fn into_value<V: Send + 'static>(stored: V) -> V {
        stored
    }

    #[inline]
    fn expired<V: Send + 'static>(self, _: &V, _: &StateTime) -> bool {
        false
    }

    #[inline]
    fn judge<V: Send + 'static>(self, _: &V, _: &StateTime) -> Verdict {
        Verdict::Keep
    }

    #[inline]
    fn hides<V: Send + 'static>(self, _: &V, _: &StateTime) -> bool {
        false
    }

    #[inline]
    fn refreshes_on_read(self) -> bool {
        false
    }

    #[inline]
    fn refresh<V: Send + 'static>(self, _: &mut V, _: &StateTime) {}

    #[inline]
    fn touch<V: Send + 'static>(self, _: &mut V, _: &StateTime) {}

    #[inline]
    fn join_stamps<V: Send + 'static>(_: &mut V, _: &V) {}

    fn stored_values<V: Send + 'static>(self, declared: Declared<V>) -> StoredValues<V> {
        let Declared { meta, decoder, types } = declared;
        let schema = decoder.schema(meta);
        let codec = Arc::clone(&decoder.codec);
        let reader = move |form: StoredForm| match form.stamp {
            StampChange::Keep | StampChange::Add => match form.version {
                FormVersion::Current => None,
                FormVersion::Older(_) => Some(decoder.of_version(form.version)),
            },
            StampChange::Strip => {
                let decode = decoder.of_version(form.version);
                Some(Arc::new(move |bytes: &[u8]| decode(split_stamp(bytes)?.1)) as Decode<V>)
            }
        };
        StoredValues::new(schema, codec, Arc::new(reader), None, types)
    }
}

impl Lifespan for Expiring {
    type Stored<V: Send + 'static> = Timed<V>;
    const EXPIRES: bool = true;

    fn check(self) -> Result<()> {
        self.0.check()
    }

    fn ttl_ms(self) -> Option<i64> {
        Some(self.0.millis())
    }

    #[inline]
    fn store<V: Send + 'static>(self, value: V, clock: &StateTime) -> Timed<V> {
        Timed { stamp: self.0.stamp(clock), value }
    }

    #[inline]
    fn value<V: Send + 'static>(stored: &Timed<V>) -> &V {
        &stored.value
    }

    #[inline]
    fn value_mut<V: Send + 'static>(stored: &mut Timed<V>) -> &mut V {
        &mut stored.value
    }

    #[inline]
    fn into_value<V: Send + 'static>(stored: Timed<V>) -> V {
        stored.value
    }

    #[inline]
    fn expired<V: Send + 'static>(self, stored: &Timed<V>, clock: &StateTime) -> bool {
        self.0.expired(stored.stamp, clock)
    }

    #[inline]
    fn judge<V: Send + 'static>(self, stored: &Timed<V>, clock: &StateTime) -> Verdict {
        self.0.judge(stored.stamp, clock)
    }

    #[inline]
    fn hides<V: Send + 'static>(self, stored: &Timed<V>, clock: &StateTime) -> bool {
        self.0.hides(stored.stamp, clock)
    }

    #[inline]
    fn refreshes_on_read(self) -> bool {
        self.0.refreshes_on_read()
    }

    #[inline]
    fn refresh<V: Send + 'static>(self, stored: &mut Timed<V>, clock: &StateTime) {
        stored.stamp = self.0.after_read(stored.stamp, clock);
    }

    #[inline]
    fn touch<V: Send + 'static>(self, stored: &mut Timed<V>, clock: &StateTime) {
        stored.stamp = stored.stamp.max(self.0.stamp(clock));
    }

    #[inline]
    fn join_stamps<V: Send + 'static>(into: &mut Timed<V>, other: &Timed<V>) {
        into.stamp = into.stamp.max(other.stamp);
    }

    fn stored_values<V: Send + 'static>(self, declared: Declared<V>) -> StoredValues<Timed<V>> {
        let Declared { meta, decoder, types } = declared;
        let schema = decoder.schema(StateMeta { stamped: true, ..meta });
        let codec = Arc::new(TimedCodec(Arc::clone(&decoder.codec)));
        let reader = move |form: StoredForm| {
            let decode = decoder.of_version(form.version);
            match form.stamp {
                StampChange::Keep if form.version == FormVersion::Current => None,
                StampChange::Keep | StampChange::Strip => Some(Arc::new(move |bytes: &[u8]| {
                    let (stamp, value) = split_stamp(bytes)?;
                    Ok(Timed { stamp, value: decode(value)? })
                }) as Decode<Timed<V>>),
                StampChange::Add => {
                    let decode = move |bytes: &[u8]| Ok(Timed { stamp: None, value: decode(bytes)? });
                    Some(Arc::new(decode) as Decode<Timed<V>>)
                }
            }
        };
        let expired = |ttl: &Ttl, timed: &Timed<V>, clock: &StateTime| ttl.expired(timed.stamp, clock);
        StoredValues::new(schema, codec, Arc::new(reader), Some((self.0, expired)), types)
    }
}

/// The codec of a stamped value: eight bytes of stamp, little endian, then the value in the codec of the
/// state.
struct TimedCodec<V>(Arc<dyn Codec<V>>);

impl<V: 'static> Codec<Timed<V>> for TimedCodec<V> {
    fn id(&self) -> String {
        self.0.id()
    }

    fn encode(&self, timed: &Timed<V>, out: &mut Vec<u8>) -> Result<()> {
        out.extend_from_slice(&Timestamp::to_stored(timed.stamp).to_le_bytes());
        self.0.encode(&timed.value, out)
    }

    fn decode(&self, bytes: &[u8]) -> Result<Timed<V>> {
        let (stamp, value) = split_stamp(bytes)?;
        Ok(Timed { stamp, value: self.0.decode(value)? })
    }

    fn is_self_describing(&self) -> bool {
        self.0.is_self_describing()
    }
}

/// Splits the stamp off an encoded value with a time-to-live.
pub(crate) fn split_stamp(bytes: &[u8]) -> Result<(Option<Timestamp>, &[u8])> {
    let Some((stamp, value)) = bytes.split_first_chunk() else {
        return Err(Error::corrupt(format!("{} bytes are too few for a stamp and a value", bytes.len())));
    };
    Ok((Timestamp::from_stored(i64::from_le_bytes(*stamp)), value))
}
