//! Operators with a method for each of two keyed inputs.

use strandline_state_api::{
    AbortNotice, Batch, CheckpointId, Context, KeyedBackend, Operator, Result, StateKey, Timer, Timestamp,
};

use crate::Either;

/// A keyed operator with two inputs (Flink: `KeyedCoProcessFunction`).
///
/// Both inputs have the same keys and share state and timers. [`TwoInputs`] makes an [`Operator`] of it, which any
/// host runs.
///
/// ```
/// use strandline_backend_memory::MemoryBackendFactory;
/// use strandline_operators::{Either, TwoInputOperator, TwoInputs};
/// use strandline_state_api::{Context, KeyedBackend, Open, Result, ValueDescriptor, ValueState};
/// use strandline_state_testing::Harness;
///
/// /// Passes on what a user does while a switch of theirs is on.
/// struct Switched { on: ValueState<bool> }
///
/// impl Switched {
///     fn open<B: KeyedBackend<Key = u64>>(ctx: &mut Open<'_, B>) -> Result<TwoInputs<Self>> {
///         Ok(TwoInputs(Self { on: ctx.register(&ValueDescriptor::new("on"))? }))
///     }
/// }
///
/// impl TwoInputOperator for Switched {
///     type Key = u64;
///     type Left = String;
///     type Right = bool;
///     type Out = String;
///     type Namespace = ();
///
///     fn process_left<B>(&mut self, deed: String, ctx: &mut Context<'_, B, String>) -> Result<()>
///     where
///         B: KeyedBackend<Key = u64>,
///     {
///         if ctx.state(self.on).get()?.is_some_and(|on| *on) {
///             ctx.emit(deed);
///         }
///         Ok(())
///     }
///
///     fn process_right<B>(&mut self, on: bool, ctx: &mut Context<'_, B, String>) -> Result<()>
///     where
///         B: KeyedBackend<Key = u64>,
///     {
///         ctx.state(self.on).put(on)
///     }
/// }
///
/// # fn main() -> Result<()> {
/// let mut harness = Harness::new(MemoryBackendFactory::default(), "switched", Switched::open)?;
/// harness.process(7u64, Either::Left("clicks".to_owned()), None)?;
/// harness.process(7u64, Either::Right(true), None)?;
/// harness.process(7u64, Either::Left("buys".to_owned()), None)?;
/// assert_eq!(harness.take_output().records(), ["buys"]);
/// # Ok(())
/// # }
/// ```
pub trait TwoInputOperator: Send {
    /// The type of the keys.
    type Key: StateKey;
    /// The records of the left input, without their key.
    type Left;
    /// The records of the right input, without their key.
    type Right;
    /// The output records.
    type Out;
    /// The namespace of the operator's timers; `()` where they have none.
    type Namespace: StateKey;

    /// Processes one record of the left input.
    ///
    /// # Errors
    /// Those of [`Operator::process`].
    fn process_left<B: KeyedBackend<Key = Self::Key>>(
        &mut self,
        record: Self::Left,
        ctx: &mut Context<'_, B, Self::Out>,
    ) -> Result<()>;

    /// Processes one record of the right input.
    ///
    /// # Errors
    /// Those of [`Operator::process`].
    fn process_right<B: KeyedBackend<Key = Self::Key>>(
        &mut self,
        record: Self::Right,
        ctx: &mut Context<'_, B, Self::Out>,
    ) -> Result<()>;

    /// As [`Operator::on_start`].
    ///
    /// # Errors
    /// Those of [`Operator::process`].
    fn on_start<B: KeyedBackend<Key = Self::Key>>(&mut self, _backend: &mut B) -> Result<()> {
        Ok(())
    }

    /// As [`Operator::on_timer`].
    ///
    /// # Errors
    /// Those of [`Operator::process`].
    fn on_timer<B: KeyedBackend<Key = Self::Key>>(
        &mut self,
        _timer: &Timer<Self::Key, Self::Namespace>,
        _ctx: &mut Context<'_, B, Self::Out>,
    ) -> Result<()> {
        Ok(())
    }

    /// As [`Operator::on_watermark`]; the watermark is that of the slower input.
    ///
    /// # Errors
    /// Those of [`Operator::process`].
    fn on_watermark(&mut self, _watermark: Timestamp, _output: &mut Batch<Self::Out>) -> Result<()> {
        Ok(())
    }

    /// As [`Operator::output_watermark`].
    fn output_watermark(&self, watermark: Timestamp) -> Timestamp {
        watermark
    }

    /// As [`Operator::on_end`], when both inputs have ended.
    ///
    /// # Errors
    /// Those of [`Operator::process`].
    fn on_end<B: KeyedBackend<Key = Self::Key>>(
        &mut self,
        _backend: &mut B,
        _output: &mut Batch<Self::Out>,
    ) -> Result<()> {
        Ok(())
    }

    /// As [`Operator::on_checkpoint_complete`].
    ///
    /// # Errors
    /// Those of [`Operator::process`].
    fn on_checkpoint_complete(&mut self, _checkpoint: CheckpointId) -> Result<()> {
        Ok(())
    }

    /// As [`Operator::on_checkpoint_aborted`].
    ///
    /// # Errors
    /// Those of [`Operator::process`].
    fn on_checkpoint_aborted(&mut self, _aborted: &AbortNotice) -> Result<()> {
        Ok(())
    }
}

/// A [`TwoInputOperator`] as an operator: it takes [`Either`].
#[derive(Clone, Debug)]
pub struct TwoInputs<O>(pub O);

impl<O: TwoInputOperator> Operator for TwoInputs<O> {
    type Key = O::Key;
    type In = Either<O::Left, O::Right>;
    type Out = O::Out;
    type Namespace = O::Namespace;

    fn on_start<B: KeyedBackend<Key = O::Key>>(&mut self, backend: &mut B) -> Result<()> {
        self.0.on_start(backend)
    }

    fn process<B: KeyedBackend<Key = O::Key>>(
        &mut self,
        record: Self::In,
        ctx: &mut Context<'_, B, O::Out>,
    ) -> Result<()> {
        match record {
            Either::Left(record) => self.0.process_left(record, ctx),
            Either::Right(record) => self.0.process_right(record, ctx),
        }
    }

    fn on_timer<B: KeyedBackend<Key = O::Key>>(
        &mut self,
        timer: &Timer<O::Key, O::Namespace>,
        ctx: &mut Context<'_, B, O::Out>,
    ) -> Result<()> {
        self.0.on_timer(timer, ctx)
    }

    fn on_watermark(&mut self, watermark: Timestamp, output: &mut Batch<O::Out>) -> Result<()> {
        self.0.on_watermark(watermark, output)
    }

    fn output_watermark(&self, watermark: Timestamp) -> Timestamp {
        self.0.output_watermark(watermark)
    }

    fn on_end<B: KeyedBackend<Key = O::Key>>(
        &mut self,
        backend: &mut B,
        output: &mut Batch<O::Out>,
    ) -> Result<()> {
        self.0.on_end(backend, output)
    }

    fn on_checkpoint_complete(&mut self, checkpoint: CheckpointId) -> Result<()> {
        self.0.on_checkpoint_complete(checkpoint)
    }

    fn on_checkpoint_aborted(&mut self, aborted: &AbortNotice) -> Result<()> {
        self.0.on_checkpoint_aborted(aborted)
    }
}
