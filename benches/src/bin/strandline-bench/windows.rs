//! The rows of windows.

use strandline_benches::compare;
use strandline_benches::table::{Budget, Row};
use strandline_benches::windows::{Load, by_hand, sliding, tumbling};
use strandline_state_api::Result;
use strandline_state_api::backend::BackendFactory;

use crate::{Plan, progress};

pub(crate) fn measure<F: BackendFactory>(plan: &Plan, factory: &F, rows: &mut Vec<Row>) -> Result<()> {
    let loads = if plan.quick { &Load::ALL[..1] } else { &Load::ALL };
    for load in loads.iter().copied() {
        progress(format_args!("windows, {}", load.name));
        let compared =
            compare(load, &mut tumbling(factory, load)?, &mut by_hand(factory, load)?, plan.effort)?;
        let name = format!("tumbling 60 s, {}", load.name);
        let row = Row::compared("windows", name, &compared, "the hand-written operator");
        rows.push(row.budget(plan.in_memory(Budget::AtMost(1.1))));
        let compared =
            compare(load, &mut sliding(factory, load)?, &mut tumbling(factory, load)?, plan.effort)?;
        let name = format!("sliding 60 s by 1 s, {}", load.name);
        let row = Row::compared("windows", name, &compared, "tumbling windows");
        let budget = load.is_dense().then_some(Budget::AtMost(3.0));
        rows.push(row.budget(budget.filter(|budget| plan.in_memory(*budget).is_some())));
    }
    Ok(())
}
