//! Tables that are made in memory when a query reads them: metadata and operator state.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::error::Result as Planned;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use futures::future::BoxFuture;
use strandline_state_api::Result;
use strandline_state_api::schema::DataType;
use strandline_state_reader::Value;

use crate::arrow::{array, field};
use crate::error::external;
use crate::scan::batch;

/// The rows of a table, each with a value for each column.
pub(crate) type Rows = Vec<Vec<Value>>;
type MakeRows = Box<dyn Fn() -> BoxFuture<'static, Result<Rows>> + Send + Sync>;

/// A table whose rows a function makes, anew for each query.
pub(crate) struct ListedTable {
    columns: Vec<(String, DataType)>,
    schema: SchemaRef,
    make: MakeRows,
}

impl ListedTable {
    pub(crate) fn new(
        columns: impl IntoIterator<Item = (String, DataType)>,
        make: impl Fn() -> BoxFuture<'static, Result<Rows>> + Send + Sync + 'static,
    ) -> Self {
        let columns: Vec<(String, DataType)> = columns.into_iter().collect();
        let fields: Vec<_> = columns.iter().map(|(name, of)| field(name, of)).collect();
        Self { columns, schema: Arc::new(Schema::new(fields)), make: Box::new(make) }
    }

    async fn rows(&self) -> Result<RecordBatch> {
        let rows = (self.make)().await?;
        let mut arrays = Vec::with_capacity(self.columns.len());
        for (index, (name, of)) in self.columns.iter().enumerate() {
            let values: Vec<_> = rows.iter().map(|row| row.get(index)).collect();
            arrays.push(array(of, &values).map_err(|error| error.with("column", name))?);
        }
        batch(&self.schema, arrays, rows.len())
    }
}

impl fmt::Debug for ListedTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ListedTable").field(&self.columns).finish()
    }
}

#[async_trait]
impl TableProvider for ListedTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> Planned<Arc<dyn ExecutionPlan>> {
        let rows = self.rows().await.map_err(external)?;
        let plan = MemorySourceConfig::try_new_exec(&[vec![rows]], self.schema(), projection.cloned())?;
        Ok(plan)
    }
}
