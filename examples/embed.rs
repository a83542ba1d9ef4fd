//! You have a loop of your own. Here is its state: typed, checkpointed with its input position, restored after a crash.
//!
//! Counts the words of a text, line by line, without the runtime crate:
//!
//! ```text
//! cargo run -p strandline-examples --bin embed -- TEXT STATE_DIR [STOP_AFTER_LINES]
//! ```
//!
//! Stop it at any line and run it again: it goes on where its newest checkpoint stands, and each word counts once.

use strandline_backend_memory::{MemoryBackend, MemoryOptions};
use strandline_checkpoint_storage::{SoloJob, Storage};
use strandline_state_api::{
    BackendScope, Error, KeyScope, Keyed, KeyedBackend, OperatorListDescriptor, Result, ValueDescriptor,
};

const LINES_PER_CHECKPOINT: usize = 1_000;

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
    let scope = BackendScope::whole("word-count")?;
    let mut backend = MemoryBackend::<String>::new(scope.clone(), MemoryOptions::default());
    let counts = backend.register_value(&ValueDescriptor::<u64>::new("counts"))?;
    let (mut job, mut state) = SoloJob::start(&Storage::open(directory)?, scope, &mut backend).await?;
    let position = state.register_list(&OperatorListDescriptor::<u64>::split("lines done"))?;
    let done = state.get(position)?.first().copied().unwrap_or(0) as usize;
    println!("starting behind line {done}, {} words known", backend.entries());

    for (number, line) in text.lines().enumerate().skip(done).take(stop) {
        for word in line.split_whitespace().map(String::from) {
            KeyScope::new(&mut backend, Keyed::new(&word)).value(counts).modify(|| 0, |n| *n += 1)?;
        }
        if (number + 1) % LINES_PER_CHECKPOINT == 0 {
            *state.get_mut(position)? = vec![number as u64 + 1];
            job.checkpoint(&mut backend, &state).await?;
        }
    }

    let mut total = 0;
    backend.value_for_each(counts, |_, (), count| {
        total += count;
        Ok(())
    })?;
    println!("{total} words, {} of them different", backend.entries());
    Ok(())
}
