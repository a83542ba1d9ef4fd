//! Writes the golden storages that are missing; those that exist are never written again.
//!
//! ```text
//! cargo run -p strandline-checkpoint-storage --example write_golden_checkpoints
//! ```

#[allow(dead_code, clippy::unwrap_used, reason = "shared with the tests, which use more of it")]
#[path = "../tests/storage/common.rs"]
mod common;
#[path = "../tests/storage/samples.rs"]
mod samples;

use strandline_checkpoint_storage::Storage;
use strandline_state_api::Result;

#[tokio::main]
async fn main() -> Result<()> {
    for sample in samples::SAMPLES {
        let directory = samples::directory(sample);
        if directory.exists() {
            println!("kept     {sample}");
            continue;
        }
        samples::write(sample, &Storage::in_dir(&directory)?).await?;
        println!("written  {sample}");
    }
    Ok(())
}
