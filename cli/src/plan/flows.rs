//! The rows of sources and steps, until all that take them have them.

use std::collections::BTreeMap;

use strandline_runtime::Pipeline;
use strandline_state_api::Result;
use strandline_state_api::backend::BackendFactory;

use super::rows::RowStep;
use super::{Counters, Flow, source};
use crate::jobfile::{Job, Origin};

/// The rows that are not taken yet.
pub(super) struct Flows<'a, F> {
    job: &'a Job,
    flows: BTreeMap<Origin, Flow<F>>,
    /// How many steps and sinks take the rows of each.
    takers: BTreeMap<Origin, usize>,
}

impl<'a, F: BackendFactory> Flows<'a, F> {
    pub(super) fn new(job: &'a Job) -> Self {
        let mut takers = BTreeMap::new();
        let of_steps = job.steps.iter().flat_map(|placed| &placed.inputs);
        for origin in of_steps.chain(job.sinks.iter().map(|output| &output.input)) {
            *takers.entry(*origin).or_default() += 1;
        }
        Self { job, flows: BTreeMap::new(), takers }
    }

    pub(super) fn has(&self, origin: Origin) -> bool {
        self.flows.contains_key(&origin)
            || matches!(origin, Origin::Step(_)) && self.takers.get(&origin) == Some(&0)
    }

    pub(super) fn put(&mut self, origin: Origin, flow: Flow<F>) {
        self.flows.insert(origin, flow);
    }

    /// The rows for one of those that take them.
    pub(super) fn take(&mut self, origin: Origin) -> Option<Flow<F>> {
        let left = self.takers.get_mut(&origin)?;
        *left = left.saturating_sub(1);
        let flow = self.flows.remove(&origin)?;
        if *left == 0 {
            return Some(flow);
        }
        let (taken, kept) = flow.rows().fork();
        self.flows.insert(origin, Flow::Rows(kept));
        Some(Flow::Rows(taken))
    }

    /// Adds a source, with the steps that run within it.
    pub(super) fn add_source(
        &mut self,
        pipeline: &Pipeline<F>,
        number: usize,
        counters: &mut Counters,
    ) -> Result<()> {
        let job = self.job;
        let Some(spec) = job.sources.get(number) else { return Ok(()) };
        let within =
            if spec.files().is_some() { self.steps_within(Origin::Source(number)) } else { Vec::new() };
        // The steps between have no rows of their own.
        let mut last = Origin::Source(number);
        for (step, _) in &within {
            self.takers.insert(last, 0);
            last = Origin::Step(*step);
        }
        let steps: Vec<_> = within.into_iter().map(|(_, step)| step).collect();
        let flow = source::source(pipeline, job, spec, steps.as_slice().into(), counters)?;
        self.put(last, flow);
        Ok(())
    }

    /// The first steps on the rows of a source, up to the last one before they part, meet others or are grouped
    /// whose expressions may fail. A source of files runs them on each record: so what fails in them is a bad
    /// record, with its place.
    fn steps_within(&self, source: Origin) -> Vec<(usize, RowStep)> {
        let (mut steps, mut at) = (Vec::new(), source);
        while self.takers.get(&at) == Some(&1)
            && let Some(number) = self.job.steps.iter().position(|placed| placed.inputs == [at])
            && let Some(step) = self.job.steps.get(number).and_then(|placed| RowStep::new(&placed.step))
        {
            steps.push((number, step));
            at = Origin::Step(number);
        }
        let last = steps.iter().rposition(|(_, step)| step.may_fail());
        steps.truncate(last.map_or(0, |last| last + 1));
        steps
    }
}
