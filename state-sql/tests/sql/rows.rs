//! The rows of all tables against what a reading without SQL returns.

use serde_json::{Map, Value as Json, json};
use strandline_checkpoint_storage::Storage;
use strandline_state_api::schema::{DataType, NamedType, StateKind};
use strandline_state_reader::{At, CheckpointReader, StatePart, Value};

use crate::support::{block_on, objects, session};
use crate::zoo;

/// A value as the table has it, in JSON.
fn in_json(value: &Value, of: &DataType) -> Json {
    let fields = |names: Vec<String>, types: Vec<&DataType>, values: &[Value]| {
        let each = names.into_iter().zip(types.into_iter().zip(values));
        Json::Object(each.map(|(name, (of, value))| (name, in_json(value, of))).collect())
    };
    match (value, of) {
        (Value::Null | Value::Unit, _) => Json::Null,
        (value, DataType::Option(of)) => in_json(value, of),
        (Value::Bool(v), _) => json!(v),
        (Value::Int(v), DataType::Int { bits: 128, .. }) => json!(v.to_string()),
        (Value::Int(v), _) => json!(v),
        (Value::UInt(v), _) => json!(v),
        (Value::BigInt(v), _) => json!(v.to_string()),
        (Value::BigUInt(v), _) => json!(v.to_string()),
        (Value::Float(v), _) => json!(v),
        (Value::Char(v), _) => json!(v.to_string()),
        (Value::Text(v), _) => json!(v),
        (Value::List(values), DataType::List(of)) => values.iter().map(|value| in_json(value, of)).collect(),
        (Value::Record(values), DataType::Tuple(parts)) => {
            let names = (0..parts.len()).map(|n| format!("c{n}")).collect();
            fields(names, parts.iter().collect(), values)
        }
        (Value::Record(values), DataType::Struct(of)) => {
            let names = of.iter().map(|field| field.name.clone()).collect();
            fields(names, of.iter().map(|field| &field.data_type).collect(), values)
        }
        (Value::Map(entries), DataType::Map(key, value)) if **key == DataType::Text => {
            let entry =
                |(k, v): &(Value, Value)| (in_json(k, key).as_str().unwrap().to_owned(), in_json(v, value));
            Json::Object(entries.iter().map(entry).collect())
        }
        (Value::Map(entries), DataType::Map(key, value)) => entries
            .iter()
            .map(|(k, v)| json!({ "key": in_json(k, key), "value": in_json(v, value) }))
            .collect(),
        (Value::Variant(index, content), DataType::Enum(variants)) => {
            let chosen = &variants[*index as usize];
            if variants.iter().all(|variant| variant.data_type == DataType::Unit) {
                return json!(chosen.name);
            }
            let mut object = Map::from_iter([("variant".to_owned(), json!(chosen.name))]);
            let with_content = variants.iter().filter(|variant| variant.data_type != DataType::Unit);
            for NamedType { name, data_type } in with_content {
                let value = if *name == chosen.name { in_json(content, data_type) } else { Json::Null };
                object.insert(name.clone(), value);
            }
            Json::Object(object)
        }
        other => panic!("{other:?}"),
    }
}

/// The columns of a part of a row, as the documentation describes them.
fn put(object: &mut Map<String, Json>, part: &str, of: Option<&StatePart>, value: Option<&Value>) {
    let Some(of) = of else { return };
    let shown = in_json(value.unwrap(), of.data_type());
    match (of.data_type(), shown) {
        (DataType::Struct(_), Json::Object(fields)) => {
            let is_window = *of.data_type() == DataType::window();
            object.extend(fields.into_iter().map(|(name, value)| match is_window {
                true => (format!("window_{name}"), value),
                false => (name, value),
            }));
        }
        (_, whole) => drop(object.insert(part.to_owned(), whole)),
    }
}

fn lines(mut objects: Vec<Map<String, Json>>) -> Vec<String> {
    let mut lines: Vec<String> = objects.drain(..).map(|object| Json::Object(object).to_string()).collect();
    lines.sort_unstable();
    lines
}

#[test]
fn every_table_has_the_rows_of_a_reading_without_sql() {
    block_on(async {
        let storage = Storage::in_memory().unwrap();
        zoo::store(&storage).await;
        let checkpoint = CheckpointReader::open(&storage, At::Latest).await.unwrap();
        let session = session(&storage).await;
        let mut compared = 0;
        for state in checkpoint.states() {
            let mut expected = Vec::new();
            for row in checkpoint.scan(state).read_all().await.unwrap() {
                let mut object = Map::new();
                if let Some(time) = row.time {
                    object.insert("time".into(), json!(time.as_millis()));
                }
                put(&mut object, "key", Some(state.key()), row.key.as_ref());
                put(&mut object, "namespace", state.namespace(), row.namespace.as_ref());
                put(&mut object, "map_key", state.map_key(), row.map_key.as_ref());
                if state.kind() == StateKind::List {
                    object.insert("index".into(), json!(row.index.unwrap()));
                }
                put(&mut object, "value", state.value(), row.value.as_ref());
                if let Some(stamp) = row.stamp {
                    object.insert("stamp".into(), json!(stamp.as_millis()));
                    object.insert("expiry".into(), json!(stamp.as_millis() + 3_600_000));
                }
                object.insert("key_group".into(), json!(row.key_group.index()));
                expected.push(object);
            }
            let found = objects(&session, &format!("SELECT * FROM \"{}\"", state.path())).await;
            assert_eq!(lines(found), lines(expected), "{}", state.path());
            compared += 1;
        }
        assert_eq!(compared, 13);
        for state in checkpoint.operator_states() {
            let mut expected = Vec::new();
            for element in checkpoint.operator_elements(&state).unwrap() {
                let mut object = Map::new();
                object.insert("subtask".into(), json!(element.subtask));
                object.insert("index".into(), json!(element.index));
                put(&mut object, "map_key", state.map_key.as_ref(), element.map_key.as_ref());
                put(&mut object, "value", Some(&state.value), Some(&element.value));
                expected.push(object);
            }
            let found = objects(&session, &format!("SELECT * FROM {}", state.name)).await;
            assert_eq!(lines(found), lines(expected), "{}", state.name);
        }
    });
}
