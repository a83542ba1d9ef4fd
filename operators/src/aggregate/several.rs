//! Several aggregates over the same records.

use serde::Serialize;
use serde::de::DeserializeOwned;
use strandline_state_api::{Evolution, Result, SerdeCodec};

use super::Aggregate;

/// Two to four aggregates at once: the records are cloned for all but the last, and the result has the results
/// of all, in their order.
///
/// The accumulators are stored together, with the default codec. Aggregates that evolve on their own belong
/// into an [`Aggregate`] of yours.
///
/// ```
/// use strandline_operators::{Count, Reduce, Several};
///
/// let count_and_greatest =
///     Several((Count::<u64>::new(), Reduce::new(|greatest: &mut u64, n: u64| *greatest = n.max(*greatest))));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Several<A>(pub A);

macro_rules! several {
    ($($index:tt $name:ident),+; $last:tt $last_name:ident) => {
        impl<T, $($name,)+ $last_name> Aggregate for Several<($($name,)+ $last_name)>
        where
            T: Clone,
            $($name: Aggregate<In = T>, $name::Accumulator: Serialize + DeserializeOwned,)+
            $last_name: Aggregate<In = T>,
            $last_name::Accumulator: Serialize + DeserializeOwned,
        {
            type In = T;
            type Accumulator = ($($name::Accumulator,)+ $last_name::Accumulator);
            type Out = ($($name::Out,)+ $last_name::Out);

            fn storage(&self) -> Evolution<Self::Accumulator> {
                Evolution::first(1, SerdeCodec)
            }

            #[inline]
            fn create(&self) -> Self::Accumulator {
                ($(self.0.$index.create(),)+ self.0.$last.create())
            }

            #[inline]
            fn add(&self, accumulator: &mut Self::Accumulator, record: T) -> Result<()> {
                $(self.0.$index.add(&mut accumulator.$index, record.clone())?;)+
                self.0.$last.add(&mut accumulator.$last, record)
            }

            #[inline]
            fn merge(&self, accumulator: &mut Self::Accumulator, other: Self::Accumulator) -> Result<()> {
                $(self.0.$index.merge(&mut accumulator.$index, other.$index)?;)+
                self.0.$last.merge(&mut accumulator.$last, other.$last)
            }

            #[inline]
            fn result(&self, accumulator: &Self::Accumulator) -> Result<Self::Out> {
                Ok(($(self.0.$index.result(&accumulator.$index)?,)+ self.0.$last.result(&accumulator.$last)?))
            }
        }
    };
}

several!(0 A; 1 B);
several!(0 A, 1 B; 2 C);
several!(0 A, 1 B, 2 C; 3 D);
