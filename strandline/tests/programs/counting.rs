//! A loop of a user's own, in a spawned task: it counts numbers by their remainder.

use std::collections::BTreeMap;

use strandline::prelude::*;

use crate::support::tell;

/// How many numbers there are.
pub(crate) const NUMBERS: u64 = 3_000;
/// How many are counted between two checkpoints.
pub(crate) const STEP: u64 = 60;
const KEYS: u64 = 97;

pub(crate) type Job = SoloJob<MemoryBackend<u64>>;

/// The job, restored, with its states.
pub(crate) struct Counting {
    pub(crate) job: Job,
    counts: ValueState<u64>,
    done: OperatorListState<u64>,
}

impl Counting {
    pub(crate) async fn open(storage: &Storage) -> Result<Self> {
        let mut job = Job::open("counting", MemoryBackend::factory(), storage)?;
        let counts = job.register(&ValueDescriptor::new("counts"))?;
        let done = job.register(&OperatorListDescriptor::split("done"))?;
        job.restore().await?;
        Ok(Self { job, counts, done })
    }

    pub(crate) fn position(&self) -> Result<u64> {
        Ok(self.job.list(self.done)?.first().copied().unwrap_or(0))
    }

    /// Counts the numbers up to `until`.
    pub(crate) fn count(&mut self, until: u64) -> Result<()> {
        for number in self.position()?..until {
            self.job.at(&(number % KEYS)).state(self.counts).update_or_default(|n| *n += 1)?;
        }
        *self.job.list_mut(self.done)? = vec![until];
        Ok(())
    }

    /// All counts are those of the numbers up to the position.
    pub(crate) fn assert_exact(&mut self) {
        let mut expected = BTreeMap::new();
        (0..self.position().unwrap()).for_each(|number| *expected.entry(number % KEYS).or_insert(0) += 1);
        let mut counts = BTreeMap::new();
        let collect = |key: &u64, (): &(), n: &u64| {
            counts.insert(*key, *n);
            Ok(())
        };
        self.job.backend().unwrap().for_each_value(self.counts, collect).unwrap();
        assert_eq!(counts, expected);
    }
}

/// The program.
#[tokio::main]
pub(crate) async fn program(storage: &str) -> Result<()> {
    let storage = Storage::open(storage)?;
    let working = tokio::spawn(async move {
        let mut counting = Counting::open(&storage).await?;
        tell(format_args!("starts at {}", counting.position()?));
        while counting.position()? < NUMBERS {
            let next = counting.position()? + STEP;
            counting.count(next)?;
            let committed = counting.job.checkpoint().await?;
            tell(format_args!("checkpoint {}", committed.completed.checkpoint));
        }
        Ok(())
    });
    working.await.map_err(|panic| Error::new(ErrorKind::User, "the loop panicked").caused_by(panic))?
}
