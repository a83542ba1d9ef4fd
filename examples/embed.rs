//! The state of a loop of your own: typed, checkpointed with its input position, restored after a crash.
//!
//! Counts the words of a text, line by line, without the runtime crate:
//!
//! ```text
//! cargo run -p strandline-examples --bin embed -- TEXT STATE_DIR [STOP_AFTER_LINES]
//! ```
//!
//! Stop it at any line and run it again: it resumes from its newest checkpoint, and each word counts once.

use strandline::prelude::*;

const LINES_PER_CHECKPOINT: u64 = 1_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let [_, text, directory, rest @ ..] = &args[..] else {
        return Err(Error::invalid("usage: embed TEXT STATE_DIR [STOP_AFTER_LINES]"));
    };
    let text = std::fs::read_to_string(text)
        .map_err(|e| Error::invalid("no text").with("file", text).caused_by(e))?;
    let stop = rest.first().and_then(|lines| lines.parse().ok()).unwrap_or(usize::MAX);

    // State: a count for each word, and how many lines are done. Registered first, then restored.
    let mut job = SoloJob::open("word-count", MemoryBackend::factory(), &Storage::open(directory)?)?;
    let counts = job.register(&ValueDescriptor::<u64>::new("counts"))?;
    let lines = job.register(&OperatorListDescriptor::<u64>::split("lines done"))?;
    job.restore().await?;
    let done = job.list(lines)?.first().copied().unwrap_or(0);
    println!("starting behind line {done}, {} words known", job.backend()?.entries());

    for (line, number) in text.lines().zip(1..).skip(done as usize).take(stop) {
        for word in line.split_whitespace() {
            job.at(&word.to_owned()).state(counts).update_or_default(|n| *n += 1)?;
        }
        if number % LINES_PER_CHECKPOINT == 0 {
            *job.list_mut(lines)? = vec![number];
            job.checkpoint().await?;
        }
    }

    let mut total = 0;
    job.backend()?.for_each_value(counts, |_, (), count| {
        total += count;
        Ok(())
    })?;
    println!("{total} words, {} of them different", job.backend()?.entries());
    Ok(())
}
