//! The rows of the commit latency.

use strandline_benches::commit::{CommitOp, Commits, PlainFiles};
use strandline_benches::table::Row;
use strandline_benches::{Clock, compare};
use strandline_state_api::Result;

use crate::{Plan, progress};

pub(crate) fn measure(plan: &Plan, rows: &mut Vec<Row>) -> Result<()> {
    let (mut commits, mut files) = (Commits::new()?, PlainFiles::new()?);
    // Nearly all of it is waiting for the disk.
    for op in CommitOp::ALL {
        progress(format_args!("{}", op.name()));
        let compared = compare(op, &mut commits, &mut files, plan.effort.by(Clock::Wall))?;
        rows.push(Row::compared("commit", op.name(), &compared, "the same files, written plainly"));
    }
    Ok(())
}
