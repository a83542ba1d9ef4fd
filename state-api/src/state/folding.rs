//! The functions of reducing and aggregating state.

/// Combines two values into one (Flink: `ReduceFunction`). The function should be associative: namespaces
/// merge in any order.
///
/// Every `fn(&mut V, V)` and every copyable closure implements the trait. A call of a type of your own that
/// implements it needs no indirection:
///
/// ```
/// use strandline_state_api::{ReduceFunction, ReducingDescriptor};
///
/// let sums = ReducingDescriptor::<u64>::new("sums", |sum, n| *sum += n);
///
/// #[derive(Clone, Copy)]
/// struct Max;
/// impl ReduceFunction<u64> for Max {
///     fn reduce(&self, into: &mut u64, value: u64) { *into = value.max(*into); }
/// }
/// let maxima = ReducingDescriptor::with_function("maxima", Max);
/// ```
pub trait ReduceFunction<V>: Copy + Send + 'static {
    /// Folds `value` into `into`.
    fn reduce(&self, into: &mut V, value: V);
}

impl<V, F: Fn(&mut V, V) + Copy + Send + 'static> ReduceFunction<V> for F {
    #[inline]
    fn reduce(&self, into: &mut V, value: V) {
        self(into, value);
    }
}

/// Folds values into an accumulator, and computes the result of a read (Flink: `AggregateFunction`).
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
pub trait AggregateFunction: Copy + Send + 'static {
    /// The type of the values.
    type In;
    /// The type that the state keeps.
    type Accumulator: Send + 'static;
    /// The type of the result.
    type Out;

    /// Creates the accumulator of no values.
    fn create(&self) -> Self::Accumulator;

    /// Folds `value` into `accumulator`.
    fn add(&self, accumulator: &mut Self::Accumulator, value: Self::In);

    /// Computes the result of the values that were added so far.
    fn result(&self, accumulator: &Self::Accumulator) -> Self::Out;

    /// Folds `other` into `accumulator`, when namespaces merge.
    fn merge(&self, accumulator: &mut Self::Accumulator, other: Self::Accumulator);
}
