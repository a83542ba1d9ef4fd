//! How parts of a manifest look in JSON.

use serde::{Deserialize, Deserializer};
use strandline_state_api::Timestamp;

/// Milliseconds; the least number stands for none.
pub(super) fn watermark<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    Ok(Option::<i64>::deserialize(deserializer)?.and_then(Timestamp::from_stored))
}

/// Encoded elements, in base64.
pub(super) mod elements {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn encode(elements: &[Vec<u8>]) -> Vec<String> {
        elements.iter().map(|element| STANDARD.encode(element)).collect()
    }

    pub(super) fn decode<E: Error>(elements: &[String]) -> Result<Vec<Vec<u8>>, E> {
        elements.iter().map(|element| STANDARD.decode(element)).collect::<Result<_, _>>().map_err(E::custom)
    }

    pub(crate) fn serialize<S: Serializer>(elements: &[Vec<u8>], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(encode(elements))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Vec<u8>>, D::Error> {
        decode(&Vec::deserialize(deserializer)?)
    }
}

/// Operator state.
pub(super) mod entries {
    use std::borrow::Cow;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use strandline_state_api::host::{OperatorStateEntry, Redistribution};

    use super::elements;

    #[derive(Serialize, Deserialize)]
    struct JsonEntry<'a> {
        name: Cow<'a, str>,
        redistribution: Redistribution,
        codec: Cow<'a, str>,
        #[serde(default = "first_version", skip_serializing_if = "is_first_version")]
        schema_version: u32,
        elements: Vec<String>,
    }

    /// The version of an entry that stores none.
    fn first_version() -> u32 {
        1
    }

    fn is_first_version(version: &u32) -> bool {
        *version == first_version()
    }

    pub(crate) fn serialize<S: Serializer>(
        entries: &[OperatorStateEntry],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(entries.iter().map(|entry| JsonEntry {
            name: Cow::Borrowed(&entry.name),
            redistribution: entry.redistribution,
            codec: Cow::Borrowed(&entry.codec),
            schema_version: entry.schema_version,
            elements: elements::encode(&entry.elements),
        }))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<OperatorStateEntry>, D::Error> {
        let entries = Vec::<JsonEntry<'_>>::deserialize(deserializer)?;
        let decode = |entry: JsonEntry<'_>| {
            Ok(OperatorStateEntry {
                name: entry.name.into_owned(),
                redistribution: entry.redistribution,
                codec: entry.codec.into_owned(),
                schema_version: entry.schema_version,
                elements: elements::decode(&entry.elements)?,
            })
        };
        entries.into_iter().map(decode).collect()
    }
}

/// Statistics: a list; in version 1, a map in which the prefix `shared_` stands for the scope of the process.
pub(super) mod statistics {
    use std::borrow::Cow;
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use strandline_state_api::backend::Scope;

    use crate::manifest::StoredStatistic;

    #[derive(Serialize, Deserialize)]
    struct JsonStatistic<'a> {
        name: Cow<'a, str>,
        value: u64,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        of_process: bool,
    }

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Versions<'a> {
        One(BTreeMap<String, u64>),
        Two(Vec<JsonStatistic<'a>>),
    }

    pub(crate) fn serialize<S: Serializer>(
        statistics: &[StoredStatistic],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(statistics.iter().map(|statistic| JsonStatistic {
            name: Cow::Borrowed(&statistic.name),
            value: statistic.value,
            of_process: statistic.scope == Scope::Process,
        }))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<StoredStatistic>, D::Error> {
        let of = |of_process| if of_process { Scope::Process } else { Scope::Backend };
        Ok(match Versions::deserialize(deserializer)? {
            Versions::Two(list) => list
                .into_iter()
                .map(|JsonStatistic { name, value, of_process }| StoredStatistic {
                    name: name.into_owned(),
                    value,
                    scope: of(of_process),
                })
                .collect(),
            Versions::One(map) => map
                .into_iter()
                .map(|(name, value)| {
                    let shared = name.strip_prefix("shared_").map(str::to_owned);
                    let scope = of(shared.is_some());
                    StoredStatistic { name: shared.unwrap_or(name), value, scope }
                })
                .collect(),
        })
    }
}
