//! One subtask of an operator, without threads, channels or a clock.

use crate::access::KeyScope;
use crate::backend::{At, KeyedBackend, TimerEntry, Timers};
use crate::host::{OperatorStateEntry, OperatorStateStore};
use crate::operator::{Batch, BroadcastContext, BroadcastOperator, Context, Open, Operator, Service, Timer};
use crate::time::StateTime;
use crate::{AbortNotice, CheckpointId, KeyHash, Keyed, Result, TimeDomain, Timestamp};

/// Whether bounded work is finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steps {
    /// Everything is done.
    Done,
    /// The bound was reached; call again.
    More,
}

/// An operator with its backend, operator state, timers and time: one subtask without threads, channels or a
/// clock.
///
/// Call [`open`](Self::open) first, then restore the [backend](Self::backend_mut) if there is something to
/// restore, then pass records and time as they come.
#[derive(Debug)]
pub struct KeyedProcess<O: Operator, B> {
    operator: O,
    backend: B,
    operator_state: OperatorStateStore,
    services: Vec<Service<O::Namespace>>,
    /// The time of the operator. While event timers fire, the watermark of the backend's clock lags behind
    /// it.
    time: StateTime,
    /// The watermark up to which all timers have fired.
    fired_up_to: Option<Timestamp>,
    /// Whether the operator has seen the current watermark.
    announced: bool,
    /// Whether the operator has seen the restored state.
    started: bool,
    /// The number of records since the last clean-up of expiring state.
    uncleaned: usize,
    /// The number of records that the operator has counted as too late, and nobody has taken.
    too_late: u64,
}

/// The number of records between two clean-ups of expiring state.
const CLEANING_PAUSE: usize = 256;

impl<O, B> KeyedProcess<O, B>
where
    O: Operator,
    B: KeyedBackend<Key = O::Key>,
{
    /// Creates the operator with `open`, which registers its states. `restored` is the operator state of this
    /// subtask in the checkpoint, empty for a new job.
    ///
    /// # Errors
    /// Those of `open`.
    pub fn open(
        open: impl FnOnce(&mut Open<'_, B, O::Namespace>) -> Result<O>,
        mut backend: B,
        restored: Vec<OperatorStateEntry>,
    ) -> Result<Self> {
        let mut operator_state = OperatorStateStore::restored(restored);
        let mut services = Vec::new();
        let operator = open(&mut Open {
            backend: &mut backend,
            operator_state: &mut operator_state,
            services: &mut services,
        })?;
        *backend.clock() = StateTime::UNKNOWN;
        Ok(Self {
            operator,
            backend,
            operator_state,
            services,
            time: StateTime::UNKNOWN,
            fired_up_to: None,
            announced: true,
            started: false,
            uncleaned: 0,
            too_late: 0,
        })
    }

    /// Calls [`Operator::on_start`], once; everything that comes to the operator calls this first.
    #[cold]
    fn start(&mut self) -> Result<()> {
        self.started = true;
        self.operator.on_start(&mut self.backend)
    }

    /// Processes one record.
    ///
    /// # Errors
    /// Those of [`Operator::process`].
    #[inline]
    pub fn process(
        &mut self,
        key: Keyed<'_, B::Key>,
        record: O::In,
        timestamp: Option<Timestamp>,
        output: &mut Batch<O::Out>,
    ) -> Result<()> {
        if !self.started {
            self.start()?;
        }
        self.uncleaned += 1;
        if self.uncleaned == CLEANING_PAUSE {
            self.uncleaned = 0;
            self.backend.clean_up(CLEANING_PAUSE)?;
        }
        self.backend.clock().timestamp = timestamp;
        let (lists, broadcasts) = self.operator_state.keyed_side();
        let mut ctx = Context {
            scope: KeyScope::new(&mut self.backend, key),
            lists,
            broadcasts,
            output,
            time: StateTime { timestamp, ..self.time },
            too_late: &mut self.too_late,
        };
        self.operator.process(record, &mut ctx)
    }

    /// Returns how many records the operator has counted as [too late](Context::count_too_late) since the last
    /// call.
    pub fn take_too_late(&mut self) -> u64 {
        std::mem::take(&mut self.too_late)
    }

    /// Processes one record of the broadcast side. Every subtask must process every record of that side.
    ///
    /// # Errors
    /// Those of [`BroadcastOperator::process_broadcast`].
    pub fn process_broadcast(
        &mut self,
        record: O::Broadcast,
        timestamp: Option<Timestamp>,
        output: &mut Batch<O::Out>,
    ) -> Result<()>
    where
        O: BroadcastOperator,
    {
        if !self.started {
            self.start()?;
        }
        self.backend.clock().timestamp = timestamp;
        let (lists, broadcasts) = self.operator_state.broadcast_side();
        let mut ctx = BroadcastContext {
            backend: &mut self.backend,
            lists,
            broadcasts,
            output,
            time: StateTime { timestamp, ..self.time },
        };
        self.operator.process_broadcast(record, &mut ctx)
    }

    /// Announces the keys of the next records, with their hashes, to the backend.
    ///
    /// # Errors
    /// Those of [`KeyedBackend::prefetch`].
    #[inline]
    pub fn prefetch(&mut self, keys: &[B::Key], hashes: &[KeyHash]) -> Result<()> {
        self.backend.prefetch(keys, hashes)
    }

    /// Raises the watermark: fires at most `max_timers` event timers in the order of their times, then calls
    /// [`Operator::on_watermark`].
    ///
    /// [`Steps::More`] means that timers are left: call again with the same watermark. In between, the host
    /// may prepare a snapshot. A watermark that does not rise has no effect.
    ///
    /// # Errors
    /// Those of [`Operator::on_timer`] and [`Operator::on_watermark`].
    pub fn advance_watermark(
        &mut self,
        watermark: Timestamp,
        max_timers: usize,
        output: &mut Batch<O::Out>,
    ) -> Result<Steps> {
        if !self.started {
            self.start()?;
        }
        if self.time.watermark < Some(watermark) {
            self.time.watermark = Some(watermark);
            self.announced = false;
        }
        let Some(watermark) = self.time.watermark.filter(|_| !self.announced) else { return Ok(Steps::Done) };
        let steps = self.fire(TimeDomain::Event, watermark, max_timers, output)?;
        if steps == Steps::Done {
            self.announced = true;
            self.operator.on_watermark(watermark, output)?;
        }
        Ok(steps)
    }

    /// Sets the processing time, which never decreases, and fires at most `max_timers` processing timers that
    /// are due.
    ///
    /// # Errors
    /// Those of [`Operator::on_timer`].
    pub fn advance_processing_time(
        &mut self,
        now: Timestamp,
        max_timers: usize,
        output: &mut Batch<O::Out>,
    ) -> Result<Steps> {
        if !self.started {
            self.start()?;
        }
        let now = self.time.processing_time.map_or(now, |time| time.max(now));
        self.time.processing_time = Some(now);
        self.backend.clock().processing_time = Some(now);
        self.fire(TimeDomain::Processing, now, max_timers, output)
    }

    /// Fires timers of all services of a domain in the order of their times.
    fn fire(
        &mut self,
        domain: TimeDomain,
        up_to: Timestamp,
        max_timers: usize,
        output: &mut Batch<O::Out>,
    ) -> Result<Steps> {
        let mut left = max_timers;
        let mut of_domain = self.services.iter().filter(|service| service.domain() == domain);
        let (first, single) = (of_domain.next().copied(), of_domain.next().is_none());
        let steps = loop {
            // A single service needs no search for the earliest timer.
            let service = if single && left > 0 { first } else { self.earliest(domain, up_to)? };
            let Some(service) = service else { break Steps::Done };
            if left == 0 {
                break Steps::More;
            }
            let popped = self.backend.timers::<O::Namespace>(service.id)?.pop(up_to)?;
            let Some(TimerEntry { time, key, hash, namespace }) = popped else { break Steps::Done };
            left -= 1;
            let timer = Timer { time, key, namespace, service };
            let clock = self.backend.clock();
            clock.timestamp = Some(time);
            if domain == TimeDomain::Event {
                // State that expires after this timer's time is still visible to it, even if the watermark
                // has jumped further.
                clock.watermark = self.fired_up_to.max(Some(time));
            }
            let (lists, broadcasts) = self.operator_state.keyed_side();
            let mut ctx = Context {
                scope: KeyScope::new(&mut self.backend, Keyed::with_hash(&timer.key, hash)),
                lists,
                broadcasts,
                output,
                time: StateTime { timestamp: Some(time), ..self.time },
                too_late: &mut self.too_late,
            };
            self.operator.on_timer(&timer, &mut ctx)?;
        };
        if domain == TimeDomain::Event && steps == Steps::Done {
            self.fired_up_to = Some(up_to);
            self.backend.clock().watermark = Some(up_to);
        }
        Ok(steps)
    }

    /// Returns the service of a domain with the earliest timer, if that timer is due.
    fn earliest(&mut self, domain: TimeDomain, up_to: Timestamp) -> Result<Option<Service<O::Namespace>>> {
        let mut earliest: Option<(Timestamp, Service<O::Namespace>)> = None;
        for service in self.services.iter().filter(|service| service.domain() == domain) {
            if let Some(next) = self.backend.timers::<O::Namespace>(service.id)?.next()?
                && next <= up_to
                && earliest.is_none_or(|(time, _)| next < time)
            {
                earliest = Some((next, *service));
            }
        }
        Ok(earliest.map(|(_, service)| service))
    }

    /// Ends the input; call after the last watermark.
    ///
    /// # Errors
    /// Those of [`Operator::on_end`].
    pub fn end(&mut self, output: &mut Batch<O::Out>) -> Result<()> {
        if !self.started {
            self.start()?;
        }
        self.operator.on_end(&mut self.backend, output)
    }

    /// Passes on that a checkpoint is complete.
    ///
    /// # Errors
    /// Those of [`Operator::on_checkpoint_complete`].
    pub fn checkpoint_complete(&mut self, checkpoint: CheckpointId) -> Result<()> {
        self.operator.on_checkpoint_complete(checkpoint)
    }

    /// Passes on that a checkpoint will never be complete.
    ///
    /// # Errors
    /// Those of [`Operator::on_checkpoint_aborted`].
    pub fn checkpoint_aborted(&mut self, aborted: &AbortNotice) -> Result<()> {
        self.operator.on_checkpoint_aborted(aborted)
    }

    /// Returns the time of the earliest processing timer.
    ///
    /// # Errors
    /// Fails when the underlying store of the backend fails.
    pub fn next_processing_timer(&mut self) -> Result<Option<Timestamp>> {
        let mut earliest = None;
        for service in self.services.iter().filter(|service| service.domain() == TimeDomain::Processing) {
            let next = self.backend.timers::<O::Namespace>(service.id)?.next()?;
            earliest = match (earliest, next) {
                (Some(a), Some(b)) => Some(std::cmp::min::<Timestamp>(a, b)),
                (a, b) => a.or(b),
            };
        }
        Ok(earliest)
    }

    /// Returns all pending timers of a domain, in the order of their times, for tests and reports.
    ///
    /// The call removes all timers and registers them again: it costs as much as that, and an incremental
    /// snapshot counts them as changed.
    ///
    /// # Errors
    /// Fails when the underlying store of the backend fails; timers that could not be registered again are
    /// lost.
    pub fn timers(&mut self, domain: TimeDomain) -> Result<Vec<Timer<B::Key, O::Namespace>>> {
        let mut timers = Vec::new();
        for service in self.services.iter().filter(|service| service.domain() == domain) {
            let start = timers.len();
            let mut hashes = Vec::new();
            let popped = loop {
                match self.backend.timers::<O::Namespace>(service.id)?.pop(Timestamp::MAX) {
                    Ok(Some(TimerEntry { time, key, hash, namespace })) => {
                        hashes.push(hash);
                        timers.push(Timer { time, key, namespace, service: *service });
                    }
                    Ok(None) => break Ok(()),
                    Err(error) => break Err(error),
                }
            };
            for (timer, hash) in timers[start..].iter().zip(hashes) {
                let at = At { key: Keyed::with_hash(&timer.key, hash), namespace: &timer.namespace };
                self.backend.timers::<O::Namespace>(service.id)?.register(at, timer.time)?;
            }
            popped?;
        }
        timers.sort_by_key(|timer| timer.time);
        Ok(timers)
    }

    /// Calls `look` with the operator, for its handles, and the state of `key`, to read state between
    /// records.
    pub fn state<R>(
        &mut self,
        key: Keyed<'_, B::Key>,
        look: impl FnOnce(&O, &mut KeyScope<'_, B>) -> R,
    ) -> R {
        look(&self.operator, &mut KeyScope::new(&mut self.backend, key))
    }

    /// Returns the operator.
    pub fn operator(&self) -> &O {
        &self.operator
    }

    /// Returns the current watermark, which is part of every checkpoint.
    pub fn watermark(&self) -> Option<Timestamp> {
        self.time.watermark
    }

    /// Returns the time that the output has reached, of the watermark whose timers have all fired; see
    /// [`Operator::output_watermark`]. A host passes it on when it has risen.
    pub fn output_watermark(&self) -> Option<Timestamp> {
        self.fired_up_to.map(|watermark| self.operator.output_watermark(watermark))
    }

    /// Returns the processing time that was last set.
    pub fn processing_time(&self) -> Option<Timestamp> {
        self.time.processing_time
    }

    /// Sets the watermark of the checkpoint that is being restored. Timers that this watermark has already
    /// passed (after a rescale) fire with the next call of [`advance_watermark`](Self::advance_watermark),
    /// even with the same watermark.
    pub fn restore_watermark(&mut self, watermark: Option<Timestamp>) {
        self.time.watermark = watermark;
        self.fired_up_to = watermark;
        self.backend.clock().watermark = watermark;
        self.announced = watermark.is_none();
    }

    /// Returns the backend, to restore and to snapshot it.
    pub fn backend_mut(&mut self) -> &mut B {
        &mut self.backend
    }

    /// Returns the operator state, to snapshot it.
    pub fn operator_state(&self) -> &OperatorStateStore {
        &self.operator_state
    }
}
