//! The options of a `CREATE TABLE`.

use std::collections::BTreeMap;

use datafusion::sql::sqlparser::ast::{CreateTable, CreateTableOptions, Expr, SqlOption, Value};
use strandline_state_api::{Error, Result};

/// The options behind `WITH`, by name.
#[derive(Debug)]
pub(super) struct Options(BTreeMap<String, String>);

impl Options {
    pub(super) fn of(statement: &CreateTable) -> Result<Self> {
        let CreateTableOptions::With(options) = &statement.table_options else {
            return Err(Error::invalid("a table of state needs WITH ('connector' = …)"));
        };
        let mut read = BTreeMap::new();
        for option in options {
            let SqlOption::KeyValue { key, value: Expr::Value(value) } = option else {
                return Err(Error::invalid(format!("expected 'option' = 'value', found {option}")));
            };
            let text = match &value.value {
                Value::SingleQuotedString(text) | Value::DoubleQuotedString(text) => text.clone(),
                Value::Number(number, _) => number.clone(),
                other => {
                    return Err(Error::invalid(format!("the option {key} must be text, and is {other}")));
                }
            };
            if read.insert(key.value.clone(), text).is_some() {
                return Err(Error::invalid(format!("the option {key} is there twice")));
            }
        }
        Ok(Self(read))
    }

    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }

    pub(super) fn required(&mut self, name: &str) -> Result<String> {
        self.take(name).ok_or_else(|| Error::invalid(format!("the option '{name}' is missing")))
    }

    /// Refuses options that nobody took.
    pub(super) fn finish(self) -> Result<()> {
        match self.0.keys().next() {
            Some(unknown) => Err(Error::invalid(format!("the connector has no option '{unknown}'"))),
            None => Ok(()),
        }
    }
}
