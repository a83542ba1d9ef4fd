//! State as a table beside others: which customers spent most, by the state in a checkpoint and a file with their
//! names.
//!
//! ```text
//! cargo run -p strandline-examples --features sql --bin customers
//! ```
//!
//! The program takes a checkpoint of its own to have one; any other does as well, without the program that took it.

use strandline::prelude::*;
use strandline::reader::At;
use strandline::sql::StateCatalog;
use strandline::sql::datafusion::prelude::{CsvReadOptions, SessionContext};

const CUSTOMERS: &str = "id,name,country\n1,Ada,GB\n2,Emmy,DE\n3,Grace,US\n";
const QUERY: &str = "SELECT country, count(*) AS customers, sum(value) AS spent \
                     FROM state.spending.totals JOIN customers ON key = id GROUP BY country ORDER BY spent DESC";

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let storage = Storage::open("memory://")?;
    let mut job = SoloJob::open("spending", MemoryBackend::factory(), &storage)?;
    let totals = job.register(&ValueDescriptor::<u64>::new("totals"))?;
    job.restore().await?;
    for (customer, cents) in [(1_u64, 500), (2, 70), (3, 1200), (2, 900), (4, 1)] {
        job.at(&customer).state(totals).update_or_default(|total| *total += cents)?;
    }
    job.checkpoint().await?;

    let file = std::env::temp_dir().join(format!("customers-{}.csv", std::process::id()));
    std::fs::write(&file, CUSTOMERS)?;

    // Any context of DataFusion: the checkpoint is a catalogue in it.
    let context = SessionContext::new();
    StateCatalog::open(&storage, At::Latest).await?.register(&context, "state");
    context.register_csv("customers", file.to_string_lossy(), CsvReadOptions::new()).await?;
    let shown = context.sql(QUERY).await?.show().await;
    std::fs::remove_file(&file)?;
    Ok(shown?)
}
