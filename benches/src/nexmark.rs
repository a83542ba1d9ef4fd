//! Nexmark: queries over the events of an auction house, as everybody measures them.
//!
//! The events are those of the crate `nexmark`: of 50, one is a person, three are auctions and 46 are bids, at
//! 10,000 events in each second of event time. The queries are those of the suite for Flink
//! (`nexmark-flink`), in the order of its numbers; what each computes stands at [`Query`]. Every query is a
//! [pipeline](queries) of public operators, and has a [plain computation](expected) beside it that shares nothing
//! with it but the events.
//!
//! Results that change are changelogs. Their digest adds what comes and subtracts what goes, so at the end it is
//! that of the table that remains, in any order.

mod channels;
pub mod expected;
pub mod queries;
mod rows;
mod source;

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use clap::ValueEnum;
use strandline::prelude::*;
use strandline::runtime::RestartStrategy;
use strandline::state::backend::BackendFactory;

pub use rows::digest;
pub use source::Events;

use crate::clock::of_this_process;
use crate::scratch;

/// A query of the suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub enum Query {
    /// All bids, as they are: what reading and writing costs.
    Q0,
    /// Bids with their price in another currency.
    Q1,
    /// Who sells in one category, in three states: a join of all people and auctions.
    Q3,
    /// The average of the winning prices, for each category: a join of auctions and their bids, a maximum for each
    /// auction, and an average of what changes.
    Q4,
    /// The auctions with the most bids in the last 10 s, every 2 s.
    Q5,
    /// The highest bids of each 10 s.
    Q7,
    /// People who open their first auctions within the 10 s in which they came.
    Q8,
    /// The winning bid of each auction, with the auction.
    Q9,
    /// How many bids each person makes in a session: until none has come for 10 s.
    Q11,
    /// How many bids each person makes in each 10 s of processing time.
    Q12,
    /// Statistics of each channel and day, with distinct bidders and auctions.
    Q16,
    /// Statistics of each auction and day.
    Q17,
    /// The last bid of each person for each auction.
    Q18,
    /// The ten highest bids of each auction.
    Q19,
    /// Bids for the auctions of one category, with the auction: a join of all bids and auctions.
    Q20,
}

impl Query {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::Q0,
        Self::Q1,
        Self::Q3,
        Self::Q4,
        Self::Q5,
        Self::Q7,
        Self::Q8,
        Self::Q9,
        Self::Q11,
        Self::Q12,
        Self::Q16,
        Self::Q17,
        Self::Q18,
        Self::Q19,
        Self::Q20,
    ];
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", format!("{self:?}").to_lowercase())
    }
}

/// How a query runs.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How many events there are.
    pub events: u64,
    /// Into how many subtasks the source and each operator are split; at most [`Events::SPLITS`].
    pub parallelism: NonZeroU32,
    /// The interval of checkpoints; `None` for none.
    pub interval: Option<Duration>,
    /// Whether the sink computes the digest of the results, which costs time.
    pub checked: bool,
}

/// One run of a query.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// Events of a second.
    pub rate: f64,
    /// Events of a second of one core: by the processor time of the whole process, checkpoints included, where the
    /// system reports it.
    pub rate_of_core: Option<f64>,
    /// Rows that reached the sink, those that take back others included.
    pub rows: u64,
    /// The digest of the results, where it was computed.
    pub digest: Option<u64>,
    /// How many checkpoints completed.
    pub checkpoints: usize,
}

/// Runs `query` with its state in backends of `factory`.
///
/// # Errors
/// What the job fails with.
pub fn measure<F: BackendFactory>(query: Query, factory: F, settings: Settings) -> Result<Measured> {
    let dir = scratch::directory()?;
    let pipeline = queries::pipeline(query, factory, settings)?;
    // A run with a restart would have no figures worth anything, so it ends with what made it restart.
    let config = JobConfig::default().parallelism(settings.parallelism.get());
    let mut config = config.restart(RestartStrategy::None);
    if let Some(interval) = settings.interval {
        config = config.checkpointing(CheckpointConfig::new(Storage::in_dir(dir.path())?, interval));
    }
    let before = of_this_process();
    let report = run(&pipeline, config, &JobControl::new())?;
    let processor = before.zip(of_this_process()).map(|(before, after)| after.saturating_sub(before));
    let events = settings.events as f64;
    let figures = report.sinks.get(queries::SINK).map_or(&[][..], Vec::as_slice);
    let figure = |name| figures.iter().find(|figure| figure.name == name).map(|figure| figure.value);
    Ok(Measured {
        rate: events / report.elapsed.as_secs_f64().max(1e-9),
        rate_of_core: processor.map(|time| events / time.as_secs_f64().max(1e-9)),
        rows: figure("records").unwrap_or_default(),
        digest: figure("checksum"),
        checkpoints: report.checkpoints.len(),
    })
}
