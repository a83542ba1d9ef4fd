//! Writes the golden files of the segment format that are missing; those that exist are never written again.
//!
//! ```text
//! cargo run -p strandline-snapshot-format --example write_golden_segments
//! ```

#[allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    reason = "shared with the tests, which use more of it"
)]
#[path = "../tests/format/common.rs"]
mod common;
#[allow(dead_code, reason = "shared with the tests, which use more of it")]
#[path = "../tests/format/samples.rs"]
mod samples;

use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    for sample in samples::SAMPLES {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(samples::DIRECTORY).join(sample.name);
        if file.exists() {
            println!("kept     {}", sample.name);
            continue;
        }
        let bytes = sample.write()?;
        std::fs::write(&file, &bytes)?;
        println!("written  {} ({} bytes)", sample.name, bytes.len());
    }
    Ok(())
}
