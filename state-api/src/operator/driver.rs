//! What drives an operator: all that an engine needs to call, and no more.

use super::{BroadcastContext, BroadcastOperator, Context, DueTimer, Open, Operator, Output, Service};
use crate::{
    KeyHash, KeyScope, Keyed, KeyedBackend, OperatorStateEntry, OperatorStateStore, Result, StateTime,
    TimeDomain,
};

/// Whether bounded work is finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steps {
    /// Everything is done.
    Done,
    /// The bound was reached; call again.
    More,
}

/// An operator with its backend, operator state, timers and time: one subtask without threads, channels or a clock.
///
/// The order of calls: [`open`](Self::open), a restore of the [backend](Self::backend_mut) if there is
/// something to restore, then records and time as they come.
#[derive(Debug)]
pub struct KeyedProcess<O, B, N> {
    operator: O,
    backend: B,
    operator_state: OperatorStateStore,
    services: Vec<Service<N>>,
    watermark: i64,
    /// The watermark before, while timers fire; then this one.
    fired_up_to: i64,
    /// Whether the operator was told of `watermark`.
    announced: bool,
    processing_time: i64,
    /// Records since state that expires was last cleaned up.
    uncleaned: usize,
}

/// Records between two steps of the clean-up of state that expires.
const CLEANING_PAUSE: usize = 256;

impl<O, B> KeyedProcess<O, B, O::Namespace>
where
    B: KeyedBackend,
    O: Operator<B>,
{
    /// Makes the operator with `open`, which registers its states. `restored` is the operator state of this subtask in the
    /// checkpoint, empty for a new job.
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
        let (watermark, processing_time) = (i64::MIN, i64::MIN);
        *backend.clock() = StateTime::UNKNOWN;
        let (announced, uncleaned) = (true, 0);
        Ok(Self {
            operator,
            backend,
            operator_state,
            services,
            watermark,
            fired_up_to: watermark,
            announced,
            processing_time,
            uncleaned,
        })
    }

    /// Works on one record.
    ///
    /// # Errors
    /// Those of [`Operator::process`].
    #[inline]
    pub fn process(
        &mut self,
        key: Keyed<'_, B::Key>,
        record: O::In,
        timestamp: i64,
        output: &mut Output<O::Out>,
    ) -> Result<()> {
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
            timestamp,
            watermark: self.watermark,
            processing_time: self.processing_time,
        };
        self.operator.process(record, &mut ctx)
    }

    /// Works on one record of the broadcast side.
    ///
    /// Every subtask has to get every record of that side.
    ///
    /// # Errors
    /// Those of [`BroadcastOperator::process_broadcast`].
    pub fn process_broadcast(
        &mut self,
        record: O::Broadcast,
        timestamp: i64,
        output: &mut Output<O::Out>,
    ) -> Result<()>
    where
        O: BroadcastOperator<B>,
    {
        self.backend.clock().timestamp = timestamp;
        let (lists, broadcasts) = self.operator_state.broadcast_side();
        let mut ctx = BroadcastContext {
            backend: &mut self.backend,
            lists,
            broadcasts,
            output,
            timestamp,
            watermark: self.watermark,
            processing_time: self.processing_time,
        };
        self.operator.process_broadcast(record, &mut ctx)
    }

    /// Tells the operator which keys come next.
    ///
    /// # Errors
    /// Those of [`Operator::prefetch`].
    #[inline]
    pub fn prefetch<'k>(&mut self, mut keys: impl Iterator<Item = (KeyHash, &'k B::Key)>) -> Result<()>
    where
        B::Key: 'k,
    {
        self.operator.prefetch(&mut self.backend, &mut keys)
    }

    /// Raises the watermark: fires at most `max_timers` event timers in the order of their times, then tells the operator.
    ///
    /// [`Steps::More`] means that timers are left: call again with the same watermark. In between a snapshot may be
    /// prepared. A watermark that does not rise does nothing.
    ///
    /// # Errors
    /// Those of [`Operator::on_timer`] and [`Operator::on_watermark`].
    pub fn advance_watermark(
        &mut self,
        watermark: i64,
        max_timers: usize,
        output: &mut Output<O::Out>,
    ) -> Result<Steps> {
        if watermark > self.watermark {
            self.watermark = watermark;
            self.announced = false;
        }
        if self.announced {
            return Ok(Steps::Done);
        }
        let steps = self.fire(TimeDomain::Event, self.watermark, max_timers, output)?;
        if steps == Steps::Done {
            self.announced = true;
            self.operator.on_watermark(self.watermark, output)?;
        }
        Ok(steps)
    }

    /// Tells the processing time: fires at most `max_timers` processing timers that are due.
    ///
    /// # Errors
    /// Those of [`Operator::on_timer`].
    pub fn advance_processing_time(
        &mut self,
        now: i64,
        max_timers: usize,
        output: &mut Output<O::Out>,
    ) -> Result<Steps> {
        self.processing_time = self.processing_time.max(now);
        self.backend.clock().processing_time = self.processing_time;
        self.fire(TimeDomain::Processing, self.processing_time, max_timers, output)
    }

    /// Fires timers of all services of a domain in the order of their times.
    fn fire(
        &mut self,
        domain: TimeDomain,
        up_to: i64,
        max_timers: usize,
        output: &mut Output<O::Out>,
    ) -> Result<Steps> {
        let mut left = max_timers;
        let mut of_domain = (0..self.services.len()).filter(|i| self.services[*i].domain == domain);
        let (first, single) = (of_domain.next(), of_domain.next().is_none());
        let steps = loop {
            // Where there is one service only, it need not be asked what comes next.
            let service = if single && left > 0 { first } else { self.earliest(domain, up_to)? };
            let Some(service) = service else { break Steps::Done };
            if left == 0 {
                break Steps::More;
            }
            let Service { name, handle, .. } = &self.services[service];
            let Some(timer) = self.backend.timer_pop(*handle, up_to)? else { break Steps::Done };
            left -= 1;
            let due = DueTimer { domain, service: name.clone(), timer };
            let clock = self.backend.clock();
            clock.timestamp = due.timer.time;
            if domain == TimeDomain::Event {
                // What lives until after this timer is alive for it, however far the watermark jumps.
                clock.watermark = due.timer.time.max(self.fired_up_to);
            }
            let (lists, broadcasts) = self.operator_state.keyed_side();
            let mut ctx = Context {
                scope: KeyScope::new(&mut self.backend, Keyed::with_hash(&due.timer.key, due.timer.hash)),
                lists,
                broadcasts,
                output,
                timestamp: due.timer.time,
                watermark: self.watermark,
                processing_time: self.processing_time,
            };
            self.operator.on_timer(&due, &mut ctx)?;
        };
        if domain == TimeDomain::Event && steps == Steps::Done {
            self.fired_up_to = up_to;
            self.backend.clock().watermark = up_to;
        }
        Ok(steps)
    }

    /// The service of a domain with the earliest timer, if that is due.
    fn earliest(&mut self, domain: TimeDomain, up_to: i64) -> Result<Option<usize>> {
        let mut earliest: Option<(i64, usize)> = None;
        for (index, service) in self.services.iter().enumerate().filter(|(_, s)| s.domain == domain) {
            if let Some(next) = self.backend.timer_next(service.handle)?
                && next <= up_to
                && earliest.is_none_or(|(time, _)| next < time)
            {
                earliest = Some((next, index));
            }
        }
        Ok(earliest.map(|(_, index)| index))
    }

    /// Tells the operator that its input has ended; call after the last watermark.
    ///
    /// # Errors
    /// Those of [`Operator::on_end`].
    pub fn end(&mut self, output: &mut Output<O::Out>) -> Result<()> {
        self.operator.on_end(&mut self.backend, output)
    }

    /// When the earliest processing timer is due, if there is one.
    ///
    /// # Errors
    /// Those of [`KeyedBackend::timer_next`].
    pub fn next_processing_timer(&mut self) -> Result<Option<i64>> {
        let mut earliest = None;
        for service in self.services.iter().filter(|s| s.domain == TimeDomain::Processing) {
            let next = self.backend.timer_next(service.handle)?;
            earliest = match (earliest, next) {
                (Some(a), Some(b)) => Some(std::cmp::min::<i64>(a, b)),
                (a, b) => a.or(b),
            };
        }
        Ok(earliest)
    }

    /// All pending timers of a domain, in the order of their times: to look at them in tests and reports.
    ///
    /// They are taken out and registered again, so it costs as much as that, and an incremental snapshot counts them as
    /// changed.
    ///
    /// # Errors
    /// Those of [`KeyedBackend::timer_pop`] and [`KeyedBackend::timer_register`]; timers that could not be registered again
    /// are lost.
    pub fn timers(&mut self, domain: TimeDomain) -> Result<Vec<DueTimer<B::Key, O::Namespace>>> {
        let mut timers = Vec::new();
        for Service { name, domain: of_service, handle } in &self.services {
            if *of_service != domain {
                continue;
            }
            let start = timers.len();
            let popped = loop {
                match self.backend.timer_pop(*handle, i64::MAX) {
                    Ok(Some(timer)) => timers.push(DueTimer { domain, service: name.clone(), timer }),
                    Ok(None) => break Ok(()),
                    Err(error) => break Err(error),
                }
            };
            for DueTimer { timer, .. } in &timers[start..] {
                let key = Keyed::with_hash(&timer.key, timer.hash);
                self.backend.timer_register(*handle, key, &timer.namespace, timer.time)?;
            }
            popped?;
        }
        timers.sort_by_key(|due| due.timer.time);
        Ok(timers)
    }

    /// Lends the operator and the state of `key`: to look at it between records. The operator is there for its handles.
    pub fn state<R>(
        &mut self,
        key: Keyed<'_, B::Key>,
        look: impl FnOnce(&O, &mut KeyScope<'_, B>) -> R,
    ) -> R {
        look(&self.operator, &mut KeyScope::new(&mut self.backend, key))
    }

    /// The operator: to look at it.
    pub fn operator(&self) -> &O {
        &self.operator
    }

    /// The current watermark; part of every checkpoint.
    pub fn watermark(&self) -> i64 {
        self.watermark
    }

    /// Sets the watermark of the checkpoint that is being restored. Timers that it passed already (after a rescale) fire with
    /// the next call of [`advance_watermark`](Self::advance_watermark), even with this same watermark.
    pub fn restore_watermark(&mut self, watermark: i64) {
        self.watermark = watermark;
        self.fired_up_to = watermark;
        self.backend.clock().watermark = watermark;
        self.announced = false;
    }

    /// The backend: to restore and to snapshot it.
    pub fn backend_mut(&mut self) -> &mut B {
        &mut self.backend
    }

    /// The operator state: to snapshot it.
    pub fn operator_state(&self) -> &OperatorStateStore {
        &self.operator_state
    }
}
