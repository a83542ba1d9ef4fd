//! The operator: a plain value that processes records, state and timers, independent of barriers, channels
//! and threads.

mod batch;
mod broadcast;
mod context;
mod open;

pub use batch::Batch;
pub use broadcast::{BroadcastContext, BroadcastOperator};
pub use context::Context;
pub(crate) use open::Service;
pub use open::{Open, Register};

use crate::backend::KeyedBackend;
use crate::state::TimerService;
use crate::{AbortNotice, CheckpointId, Result, StateKey, Timestamp};

/// A keyed operator (Flink: `KeyedProcessFunction`).
///
/// An operator is synchronous and owned by one thread. The same operator runs under our executor, in a bare
/// loop, in a test harness and on another engine: its host drives it through
/// [`KeyedProcess`](crate::host::KeyedProcess), on any backend. A function creates the operator and registers
/// its states ([`Open`]), so the operator holds its handles from the start. Every subtask has its own
/// instance.
///
/// ```
/// use strandline_state_api::{Context, KeyedBackend, Open, Operator, Result, ValueDescriptor, ValueState};
///
/// struct WordCount { counts: ValueState<u64> }
///
/// impl WordCount {
///     fn open<B: KeyedBackend>(ctx: &mut Open<'_, B>) -> Result<Self> {
///         Ok(Self { counts: ctx.register(&ValueDescriptor::new("counts"))? })
///     }
/// }
///
/// impl Operator for WordCount {
///     type Key = String;
///     type In = ();
///     type Out = (String, u64);
///     type Namespace = ();
///
///     fn process<B>(&mut self, _: (), ctx: &mut Context<'_, B, (String, u64)>) -> Result<()>
///     where
///         B: KeyedBackend<Key = String>,
///     {
///         let n = ctx.state(self.counts).update_or_default(|n| { *n += 1; *n })?;
///         ctx.emit((ctx.key().clone(), n));
///         Ok(())
///     }
/// }
/// ```
pub trait Operator: Send {
    /// The type of the keys.
    type Key: StateKey;
    /// The input records, without their key (the context has it).
    type In;
    /// The output records.
    type Out;
    /// The namespace of the operator's timers; `()` where they have none.
    type Namespace: StateKey;

    /// Handles the start: what the restored checkpoint has of the keyed state is there, and neither a record nor time
    /// has come (Flink: `CheckpointedFunction#initializeState`). For what an operator derives from its state.
    ///
    /// # Errors
    /// Those of [`process`](Self::process).
    fn on_start<B: KeyedBackend<Key = Self::Key>>(&mut self, _backend: &mut B) -> Result<()> {
        Ok(())
    }

    /// Processes one record.
    ///
    /// # Errors
    /// An error fails the task; the job restarts from its newest checkpoint.
    fn process<B: KeyedBackend<Key = Self::Key>>(
        &mut self,
        record: Self::In,
        ctx: &mut Context<'_, B, Self::Out>,
    ) -> Result<()>;

    /// Processes a timer of this operator that is due. The context has the timer's key, and its time as the
    /// timestamp.
    ///
    /// # Errors
    /// Those of [`process`](Self::process).
    fn on_timer<B: KeyedBackend<Key = Self::Key>>(
        &mut self,
        _timer: &Timer<Self::Key, Self::Namespace>,
        _ctx: &mut Context<'_, B, Self::Out>,
    ) -> Result<()> {
        Ok(())
    }

    /// Handles a new watermark, after all timers up to `watermark` have fired.
    ///
    /// # Errors
    /// Those of [`process`](Self::process).
    fn on_watermark(&mut self, _watermark: Timestamp, _output: &mut Batch<Self::Out>) -> Result<()> {
        Ok(())
    }

    /// Returns the time that the output has reached when the input has reached `watermark`: all that the operator
    /// emits from now on has a greater one, but for records that came late.
    ///
    /// It is `watermark`, unless an operator emits records after the time at which they came, as asynchronous
    /// calls do. Then it is less while such a record is missing, so that the record is not late for what follows.
    /// The host asks after each batch and each timer, and passes on a time that has risen.
    fn output_watermark(&self, watermark: Timestamp) -> Timestamp {
        watermark
    }

    /// Handles the end of the input, after all event timers have fired. The job's result includes the records
    /// emitted here.
    ///
    /// # Errors
    /// Those of [`process`](Self::process).
    fn on_end<B: KeyedBackend<Key = Self::Key>>(
        &mut self,
        _backend: &mut B,
        _output: &mut Batch<Self::Out>,
    ) -> Result<()> {
        Ok(())
    }

    /// Handles that `checkpoint` is complete: what the operator did before its barrier will not be done again
    /// (Flink: `CheckpointListener#notifyCheckpointComplete`). For what lies outside of state, such as a
    /// lease that may end.
    ///
    /// A host calls this late, or only for a later checkpoint, or not at all when the job fails.
    ///
    /// # Errors
    /// Those of [`process`](Self::process).
    fn on_checkpoint_complete(&mut self, _checkpoint: CheckpointId) -> Result<()> {
        Ok(())
    }

    /// Handles that a checkpoint will never be complete; the job goes on, and the state that it held is part
    /// of the next one (Flink: `CheckpointListener#notifyCheckpointAborted`). A host calls this as seldom as
    /// [`on_checkpoint_complete`](Self::on_checkpoint_complete).
    ///
    /// # Errors
    /// Those of [`process`](Self::process).
    fn on_checkpoint_aborted(&mut self, _aborted: &AbortNotice) -> Result<()> {
        Ok(())
    }
}

/// A timer that fires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timer<K, N = ()> {
    /// The time at which the timer is due.
    pub time: Timestamp,
    /// The key that the timer was registered for.
    pub key: K,
    /// The namespace that the timer was registered for.
    pub namespace: N,
    /// The service that the timer was registered with; compare it with the operator's handle.
    pub service: TimerService<N>,
}
