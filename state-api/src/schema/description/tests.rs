use std::collections::BTreeMap;

use serde::Deserialize;

use super::*;
use crate::{StateKey, TimeWindow};

#[derive(Deserialize)]
#[allow(dead_code)]
enum Event {
    Nothing,
    Paid(u32, String),
    Moved { from: Account, fast: bool },
    Named(Option<Vec<u8>>),
}

#[derive(Deserialize)]
#[allow(dead_code)]
struct Account {
    bank: u32,
    limits: BTreeMap<String, f32>,
    tags: Vec<char>,
    id: [u16; 2],
    unit: (),
}

#[derive(Deserialize)]
#[allow(dead_code)]
enum Renamed {
    #[serde(alias = "Old")]
    New,
    Other,
}

#[derive(Deserialize)]
#[allow(dead_code)]
struct Tree(Vec<Tree>);

fn of<T: DeserializeOwned>() -> Option<String> {
    Description::postcard::<T>().map(|of| of.data_type.to_string())
}

#[test]
fn the_wire_format_of_a_type_is_described_with_its_names() {
    let account = "{bank:u32,limits:[str:f32],tags:[char],id:(u16,u16,),unit:()}";
    assert_eq!(of::<Account>().unwrap(), account);
    let event = format!("<Nothing:(),Paid:(u32,str,),Moved:{{from:{account},fast:bool}},Named:?bytes>");
    assert_eq!(of::<Event>().unwrap(), event);
    assert_eq!(of::<(i128, Option<String>)>().unwrap(), "(i128,?str,)");
    // A type within itself is described up to there, and that cannot be decoded.
    assert!(of::<Tree>().is_none_or(|tree| tree.contains('_')));
    // The names of variants are more than the variants, so a number is none of a name.
    assert_eq!(of::<Renamed>(), None);
}

#[test]
fn codecs_of_keys_reveal_their_types() {
    let of = |codec: String| Description::of_key_codec(&codec).map(|of| of.data_type.to_string());
    assert_eq!(of(<(u8, i128)>::codec()).unwrap(), "(u8,i128,)");
    assert_eq!(
        of(<(String, (bool, Vec<u8>), TimeWindow)>::codec()).unwrap(),
        "(str,(bool,bytes,),{start:i64,end:i64},)"
    );
    assert_eq!(of(<((), u8)>::codec()).unwrap(), "((),u8,)");
    assert_eq!(of(<()>::codec()).unwrap(), "()");
    for unknown in ["row", "u7", "i", "(u8", "u8)", "(u8,)x", "(account,u8)", ")", &"(".repeat(1 << 20)] {
        assert_eq!(of(unknown.into()), None, "{unknown:.20}");
    }
}

#[test]
fn a_description_that_is_not_known_is_none() {
    let read = |json: &str| serde_json::from_str::<StateTypes>(json).map(|types| types.value);
    let known = read(r#"{"state":"s","value":{"encoding":"postcard","type":"{a:u8}"}}"#).unwrap().unwrap();
    assert_eq!((known.encoding, known.data_type.to_string()), (Encoding::Postcard, "{a:u8}".into()));
    for unknown in [
        r#"{"state":"s","value":{"encoding":"newer","type":"{a:u8}"}}"#,
        r#"{"state":"s","value":{"encoding":"postcard","type":"decimal(3)"}}"#,
        r#"{"state":"s","more":1,"value":{"encoding":"postcard","type":"~","more":[]}}"#,
        r#"{"state":"s"}"#,
    ] {
        assert_eq!(read(unknown).unwrap(), None, "{unknown}");
    }
}

#[test]
fn encodings_have_names() {
    for (encoding, name) in Encoding::ALL {
        assert_eq!(Encoding::from_name(name), Some(encoding));
    }
    let types = StateTypes {
        state: "s".into(),
        key: Description::of_key_codec("u8"),
        value: Some(Description::new(Encoding::Postcard, DataType::Text)),
        ..StateTypes::default()
    };
    let text = serde_json::to_string(&types).unwrap();
    assert_eq!(serde_json::from_str::<StateTypes>(&text).unwrap(), types);
    assert!(text.contains(r#""key":{"encoding":"ordered","type":"u8"}"#), "{text}");
}

/// It takes whatever bytes are left.
#[derive(Debug)]
struct Rest;

impl<'de> serde::Deserialize<'de> for Rest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Every;

        impl<'de> serde::de::Visitor<'de> for Every {
            type Value = Rest;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                mut all: A,
            ) -> std::result::Result<Rest, A::Error> {
                while all.next_element::<u8>()?.is_some() {}
                Ok(Rest)
            }
        }
        deserializer.deserialize_tuple(usize::MAX, Every)
    }
}

#[test]
fn a_type_without_an_end_has_no_description() {
    assert_eq!(Description::postcard::<Rest>(), None);
}
