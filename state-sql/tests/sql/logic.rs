//! The files of `tests/slt`, each over checkpoints in memory and in files.

use std::path::{Path, PathBuf};

use futures::TryStreamExt;
use sqllogictest::{AsyncDB, DBOutput, DefaultColumnType, Runner};
use strandline_checkpoint_storage::Storage;
use strandline_state_sql::{QueryError, StateSession};

use crate::support::{block_on, cells, session};
use crate::zoo;

struct Database(StateSession);

#[async_trait::async_trait]
impl AsyncDB for Database {
    type Error = QueryError;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, QueryError> {
        let mut output = DBOutput::StatementComplete(0);
        for statement in self.0.parse(sql)? {
            let stream = self.0.run(&statement).await?;
            let types = vec![DefaultColumnType::Any; stream.schema().fields().len()];
            let batches: Vec<_> = stream.try_collect().await?;
            if !types.is_empty() {
                let rows = batches.iter().flat_map(cells).map(|row| row.into_iter().map(shown).collect());
                output = DBOutput::Rows { types, rows: rows.collect() };
            }
        }
        Ok(output)
    }

    async fn shutdown(&mut self) {}

    fn engine_name(&self) -> &str {
        "strandline"
    }
}

/// An empty cell as a file can show it.
fn shown(cell: String) -> String {
    if cell.is_empty() { "(empty)".to_owned() } else { cell }
}

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/slt");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

async fn run_all(storage: &Storage) {
    zoo::store(storage).await;
    let mut ran = 0;
    for file in files() {
        // Each file has a session of its own.
        let mut runner = Runner::new(|| async { Ok(Database(session(storage).await)) });
        if let Err(error) = runner.run_file_async(&file).await {
            panic!("{}", error.display(false));
        }
        ran += 1;
    }
    assert!(ran >= 4, "{ran} files");
}

#[test]
fn the_files_hold_in_memory() {
    block_on(async { run_all(&Storage::in_memory().unwrap()).await });
}

#[test]
fn the_files_hold_on_files() {
    let folder = tempfile::tempdir().unwrap();
    block_on(async { run_all(&Storage::in_dir(folder.path()).unwrap()).await });
}
