//! A keyed state, or a timer service, as a table.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::Result as Planned;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use strandline_state_api::Result;
use strandline_state_api::schema::StateKind;
use strandline_state_reader::{CheckpointReader, StoredState, Value};

use crate::error::external;
use crate::filters::{is_useful, narrow};
use crate::layout::{Column, of_state, schema};
use crate::scan::{Counted, StateScan};

/// A keyed state, or a timer service, of a checkpoint.
#[derive(Debug)]
pub(crate) struct KeyedTable {
    checkpoint: CheckpointReader,
    state: StoredState,
    columns: Vec<Column>,
    namespace: Option<Value>,
    schema: SchemaRef,
}

impl KeyedTable {
    /// The table with all columns of a state.
    pub(crate) fn new(checkpoint: &CheckpointReader, state: &StoredState) -> Self {
        Self::with_columns(checkpoint, state, of_state(state), None)
    }

    /// The table with some columns, of all rows or of those of one namespace.
    pub(crate) fn with_columns(
        checkpoint: &CheckpointReader,
        state: &StoredState,
        columns: Vec<Column>,
        namespace: Option<Value>,
    ) -> Self {
        let (checkpoint, state, schema) = (checkpoint.clone(), state.clone(), schema(&columns));
        Self { checkpoint, state, columns, namespace, schema }
    }

    /// What the indices show of the rows: an entry of a list is a whole list, so there they show nothing.
    async fn counted(&self) -> Result<Counted> {
        if self.state.kind() == StateKind::List || self.namespace.is_some() {
            return Ok(Counted::default());
        }
        let rows = self.checkpoint.exact_entries(&self.state).await?;
        let groups = match rows {
            Some(_) => Some(self.checkpoint.key_groups(self.state.operator()).await?),
            None => None,
        };
        Ok(Counted { rows, groups })
    }
}

#[async_trait]
impl TableProvider for KeyedTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Planned<Vec<TableProviderFilterPushDown>> {
        let each = filters.iter().map(|filter| match is_useful(&self.columns, filter) {
            true => TableProviderFilterPushDown::Inexact,
            false => TableProviderFilterPushDown::Unsupported,
        });
        Ok(each.collect())
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Planned<Arc<dyn ExecutionPlan>> {
        let scan = narrow(self.checkpoint.scan(&self.state), &self.columns, filters);
        let all = filters.is_empty() && limit.is_none();
        let counted = if all { self.counted().await.map_err(external)? } else { Counted::default() };
        // A limit counts rows of all namespaces.
        let scan = match limit {
            Some(limit) if self.namespace.is_none() => scan.limit(limit as u64),
            _ => scan,
        };
        let partitions = scan.partitions(session.config().target_partitions()).await.map_err(external)?;
        let columns = match projection {
            Some(projection) => {
                projection.iter().filter_map(|index| self.columns.get(*index)).cloned().collect()
            }
            None => self.columns.clone(),
        };
        Ok(Arc::new(StateScan::new(partitions, columns, self.namespace.clone(), counted)))
    }
}
