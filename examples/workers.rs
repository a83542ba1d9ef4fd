//! Several workers over one storage: one worker counts words, then three do, then two, each time from the
//! newest checkpoint.
//!
//! ```text
//! cargo run -p strandline-examples --bin workers
//! ```
//!
//! A source reads lines and sends each word to the worker that owns its key group. For a checkpoint it sends
//! a barrier to all of them, in order with the words, so their snapshots and its own position are one cut.
//! Every run stops behind its last checkpoint, as a crash would: the words after it are counted again, by
//! other workers, and still each counts once.

use std::collections::BTreeMap;

use strandline::prelude::*;
use strandline::state::{CheckpointId, Keyed};
use strandline::storage::WorkerSnapshot;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

type Counts = BTreeMap<String, u64>;

enum Message {
    Word(String),
    Barrier(CheckpointId, oneshot::Sender<Result<WorkerSnapshot>>),
}

/// Counts words until the source is gone; returns the counts of its keys.
async fn count(
    mut worker: Worker<MemoryBackend<String>>,
    mut inbox: mpsc::Receiver<Message>,
) -> Result<Counts> {
    let counts = worker.register(&ValueDescriptor::<u64>::new("counts"))?;
    worker.restore().await?;
    while let Some(message) = inbox.recv().await {
        match message {
            Message::Word(word) => worker.at(&word).state(counts).update_or_default(|n| *n += 1)?,
            // A source that is gone does not wait for the snapshot.
            Message::Barrier(checkpoint, reply) => drop(reply.send(worker.snapshot(checkpoint).await)),
        }
    }
    let mut all = Counts::new();
    worker.backend()?.for_each_value(counts, |word, (), n| {
        all.insert(word.clone(), *n);
        Ok(())
    })?;
    Ok(all)
}

/// Reads from the newest checkpoint up to line `stop` with so many workers; returns the counts.
async fn run(storage: &Storage, parallelism: u32, text: &[String], stop: usize) -> Result<Counts> {
    let factory = MemoryBackend::factory();
    let operators = [("lines", 1), ("counts", parallelism)];
    let mut group = WorkerGroup::claim("words", storage, &operators).await?;

    let mut source: Worker<MemoryBackend<()>> = group.worker("lines", 0, &factory)?;
    let position = source.register(&OperatorListDescriptor::<usize>::split("position"))?;
    source.restore().await?;
    let done = source.list(position)?.first().copied().unwrap_or(0);

    let (mut inboxes, mut workers) = (Vec::new(), Vec::<JoinHandle<Result<Counts>>>::new());
    for subtask in 0..parallelism {
        let (inbox, messages) = mpsc::channel(64);
        inboxes.push(inbox);
        workers.push(tokio::spawn(count(group.worker("counts", subtask, &factory)?, messages)));
    }
    for (line, number) in text.iter().zip(1..).take(stop).skip(done) {
        for word in line.split_whitespace().map(str::to_owned) {
            let owner = Keyed::new(&word).group().subtask(parallelism) as usize;
            inboxes[owner].send(Message::Word(word)).await.map_err(stopped)?;
        }
        if number % 100 == 0 {
            *source.list_mut(position)? = vec![number];
            let checkpoint = group.begin()?;
            let mut replies = Vec::new();
            for inbox in &inboxes {
                let (reply, snapshot) = oneshot::channel();
                inbox.send(Message::Barrier(checkpoint, reply)).await.map_err(stopped)?;
                replies.push(snapshot);
            }
            group.add(source.snapshot(checkpoint).await?).await?;
            for snapshot in replies {
                // With the last of them the checkpoint is complete.
                group.add(snapshot.await.map_err(stopped)??).await?;
            }
        }
    }
    drop(inboxes);
    let mut all = Counts::new();
    for worker in workers {
        all.extend(worker.await.map_err(stopped)??);
    }
    println!("{parallelism} workers: lines {done} to {stop}, {} words known", all.len());
    Ok(all)
}

fn stopped<E: std::error::Error + Send + Sync + 'static>(error: E) -> Error {
    Error::new(ErrorKind::Internal, "a worker has stopped").caused_by(error)
}

#[tokio::main]
async fn main() -> Result<()> {
    let text: Vec<String> = (0..1_000).map(|n| format!("word-{} word-{} the", n % 7, n % 113)).collect();
    let storage = Storage::open("memory://")?;
    run(&storage, 1, &text, 350).await?;
    run(&storage, 3, &text, 750).await?;
    let counts = run(&storage, 2, &text, text.len()).await?;

    let mut expected = Counts::new();
    for word in text.iter().flat_map(|line| line.split_whitespace()) {
        *expected.entry(word.to_owned()).or_default() += 1;
    }
    if counts != expected {
        return Err(Error::new(ErrorKind::Internal, "the counts differ from those of the text"));
    }
    println!("all {} counts are exact", counts.len());
    Ok(())
}
