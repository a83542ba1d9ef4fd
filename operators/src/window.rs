//! Windows: bounded parts of an endless stream, and what they compute.

mod aligned;
mod count;
mod early;
mod firing_panes;
mod folds;
mod grid;
mod output;
mod session;
mod settings;
mod sliding;
mod times;

pub use aligned::AlignedWindows;
pub use count::{CountWindow, CountWindowing, CountWindows};
pub use output::{Firing, LateRow, WindowOutput, WindowResult};
pub use session::SessionWindows;
pub(crate) use settings::millis;
pub use settings::{Aligned, FixedGap, Gap, GapFrom, Session, Sliding, TimeWindows, Trigger};
pub use sliding::SlidingWindows;
pub(crate) use times::{Times, floor};

use strandline_state_api::{KeyedBackend, Open, Operator, Result, StateKey, TimeWindow};

use crate::Aggregate;

/// A way to cut the records of a key into windows: [`TimeWindows`] and [`CountWindows`].
///
/// ```
/// use std::time::Duration;
///
/// use strandline_backend_memory::MemoryBackendFactory;
/// use strandline_operators::Count;
/// use strandline_operators::window::{TimeWindows, Windows, WindowOutput};
/// use strandline_state_testing::Harness;
///
/// # fn main() -> strandline_state_api::Result<()> {
/// let minutes = TimeWindows::tumbling(Duration::from_secs(60));
/// let mut harness = Harness::new(MemoryBackendFactory::default(), "clicks", |ctx| {
///     minutes.open::<String, _, _>(&Count::<()>::new(), ctx)
/// })?;
/// harness.process("ada", (), 1_000)?;
/// harness.process("ada", (), 59_999)?;
/// harness.process("ada", (), 60_000)?;
/// harness.watermark(60_000)?;
/// let first = harness.take_output().into_iter().next();
/// let Some((WindowOutput::Result(first), _)) = first else { panic!("no result") };
/// assert_eq!((first.window.start, first.window.end, first.value), (0, 60_000, 2));
/// # Ok(())
/// # }
/// ```
pub trait Windows<T>: Clone + Send + Sync + 'static {
    /// What tells the windows of a key apart.
    type Window: Clone + Send + 'static;

    /// The operator that computes `A` in these windows.
    type Operator<K: StateKey, A: Aggregate<In = T>>: Operator<Key = K, In = T, Out = WindowOutput<K, Self::Window, A::Out, T>, Namespace = TimeWindow>
        + 'static;

    /// Makes the operator of one subtask and registers its states.
    ///
    /// # Errors
    /// [`Invalid`](strandline_state_api::ErrorKind::Invalid) names a setting that these windows cannot have;
    /// and the errors of [`Open::register`].
    fn open<K, A, B>(&self, aggregate: &A, ctx: &mut Open<'_, B, TimeWindow>) -> Result<Self::Operator<K, A>>
    where
        K: StateKey,
        A: Aggregate<In = T>,
        B: KeyedBackend<Key = K>;
}
