//! An engine of actors: tokio tasks and channels, several sources and counters, no runtime crate. Stopped as by a
//! crash, it goes on with another number of counters, and each word counts once (`cargo run --bin actors`).
//!
//! The coordinator triggers the sources. A source hands in its position and sends a barrier to all counters, in order
//! with its words. A counter has several inputs, so an `Aligner` finds the cut: what is behind one barrier waits for
//! the others. The counter goes on while its snapshot is stored; with the last one the checkpoint is complete.

use std::collections::{BTreeMap, VecDeque};

use strandline::prelude::*;
use strandline::protocol::{Aligner, Alignment, Millis};
use strandline::state::{CheckpointId, Keyed};
use strandline::storage::WorkerSnapshot;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinSet;

const SOURCES: usize = 2;
const LINES: usize = 20_000;
type Counts = BTreeMap<String, u64>;
type Snapshots = Sender<Result<WorkerSnapshot>>;

enum Message {
    Word(String),
    Barrier(CheckpointId),
}

/// Reads its lines, and does as it is triggered. Ends when nobody triggers any more.
async fn read(
    mut worker: Worker<MemoryBackend<()>>,
    number: usize,
    counters: Vec<Sender<(usize, Message)>>,
    mut triggers: Receiver<CheckpointId>,
    snapshots: Snapshots,
) -> Result<Counts> {
    let position = worker.register(&OperatorListDescriptor::<(usize, usize)>::union("position"))?;
    worker.restore().await?;
    let restored = worker.list(position)?.iter().find(|(of, _)| *of == number);
    let mut lines = restored.map_or(0, |(_, lines)| *lines);
    loop {
        let line = (lines < LINES).then(|| format!("word-{} word-{} the", lines % 7, lines % 113));
        let trigger = if line.is_some() { triggers.try_recv().ok() } else { triggers.recv().await };
        if let Some(checkpoint) = trigger {
            *worker.list_mut(position)? = vec![(number, lines)];
            let _ = snapshots.send(worker.snapshot(checkpoint).await).await;
            for counter in &counters {
                let _ = counter.send((number, Message::Barrier(checkpoint))).await;
            }
        } else if let Some(line) = line {
            for word in line.split_whitespace().map(str::to_owned) {
                let owner = Keyed::new(&word).group().subtask(counters.len() as u32) as usize;
                let _ = counters[owner].send((number, Message::Word(word))).await;
            }
            lines += 1;
        } else {
            return Ok(Counts::new());
        }
    }
}

/// The next message of a source whose channel is not blocked.
fn next(waiting: &mut [VecDeque<Message>], aligner: &Aligner) -> Option<(usize, Message)> {
    let mut free = waiting.iter_mut().enumerate().filter(|(source, _)| !aligner.is_blocked(*source));
    free.find_map(|(source, messages)| Some((source, messages.pop_front()?)))
}

/// Counts words until all sources have ended; returns the counts of its keys.
async fn count(
    mut worker: Worker<MemoryBackend<String>>,
    mut inbox: Receiver<(usize, Message)>,
    snapshots: Snapshots,
) -> Result<Counts> {
    let counts = worker.register(&ValueDescriptor::<u64>::new("counts"))?;
    worker.restore().await?;
    let (mut aligner, mut waiting) = (Aligner::new(SOURCES), [(); SOURCES].map(|()| VecDeque::new()));
    while let Some((source, message)) = inbox.recv().await {
        waiting[source].push_back(message);
        while let Some((source, message)) = next(&mut waiting, &aligner) {
            match message {
                Message::Word(word) => worker.at(&word).state(counts).update_or_default(|n| *n += 1)?,
                Message::Barrier(checkpoint) => {
                    if let Alignment::Aligned(cut) = aligner.barrier(Millis(0), source, checkpoint) {
                        let (snapshot, snapshots) = (worker.prepare(cut.checkpoint)?, snapshots.clone());
                        tokio::spawn(async move { snapshots.send(snapshot.store().await).await });
                    }
                }
            }
        }
    }
    let mut all = Counts::new();
    worker.backend()?.for_each_value(counts, |word, (), n| {
        all.insert(word.clone(), *n);
        Ok(())
    })?;
    Ok(all)
}

/// Goes on from the newest checkpoint with so many counters. Stops behind `checkpoints` of them, as by a crash; without
/// a number it runs to the end, and returns the counts.
async fn run(storage: &Storage, counters: u32, checkpoints: Option<u32>) -> Result<Counts> {
    let factory = MemoryBackend::factory();
    let operators = [("lines", SOURCES as u32), ("counts", counters)];
    let mut group = WorkerGroup::claim("words", storage, &operators).await?;
    let (snapshots, mut handed_in) = channel(64);
    let (mut actors, mut inboxes, mut sources) = (JoinSet::new(), Vec::new(), Vec::new());
    for subtask in 0..counters {
        let (inbox, messages) = channel(64);
        inboxes.push(inbox);
        actors.spawn(count(group.worker("counts", subtask, &factory)?, messages, snapshots.clone()));
    }
    for number in 0..SOURCES {
        let (trigger, triggers) = channel(1);
        sources.push(trigger);
        let (worker, inboxes) = (group.worker("lines", number as u32, &factory)?, inboxes.clone());
        actors.spawn(read(worker, number, inboxes, triggers, snapshots.clone()));
    }
    drop(inboxes);
    for _ in 0..checkpoints.unwrap_or(3) {
        let checkpoint = group.begin()?;
        for source in &sources {
            let _ = source.send(checkpoint).await;
        }
        while let Some(snapshot) = handed_in.recv().await {
            if group.add(snapshot?).await?.is_some() {
                break;
            }
        }
    }
    drop(sources);
    let mut all = Counts::new();
    while let Some(counts) = if checkpoints.is_none() { actors.join_next().await } else { None } {
        all.extend(counts.or_fail("an actor has died")??);
    }
    Ok(all)
}

#[tokio::main]
async fn main() -> Result<()> {
    let storage = Storage::open("memory://")?;
    for counters in [1, 3] {
        run(&storage, counters, Some(2)).await?;
    }
    let counts = run(&storage, 2, None).await?;
    if (counts["the"], counts.values().sum::<u64>())
        != ((SOURCES * LINES) as u64, 3 * (SOURCES * LINES) as u64)
    {
        return Err(Error::new(ErrorKind::Internal, "the counts differ from those of the text"));
    }
    println!("all {} counts are exact", counts.len());
    Ok(())
}
