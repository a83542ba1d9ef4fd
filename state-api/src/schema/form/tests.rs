use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Field, Form, text, trace};
use crate::{Codec, SelfDescribingCodec};

fn text_of<T: serde::de::DeserializeOwned>() -> Option<String> {
    trace::form_of::<T>().map(|form| form.to_string())
}

#[derive(Debug, Serialize, Deserialize, PartialEq)]
struct Account {
    cents: u32,
    #[serde(default)]
    currency: String,
    #[serde(alias = "holder", alias = "zz")]
    owner: Option<Owner>,
    #[serde(rename = "the kind")]
    kind: Kind,
    since: Duration,
    limits: BTreeMap<String, Vec<(NonZeroU32, f64)>>,
}

#[derive(Debug, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Owner {
    name: String,
    parents: Vec<Owner>,
}

#[derive(Debug, Serialize, Deserialize, PartialEq)]
enum Kind {
    Plain,
    Saving { rate: f32 },
    Joint(Box<Kind>),
    Other(u8, char),
}

#[derive(Debug, Serialize, Deserialize)]
enum Open {
    Known,
    #[serde(other)]
    Unknown,
}

#[test]
fn the_form_of_a_type_is_what_it_asks_for() {
    let account = "{cents:u32,currency?:str,owner|holder|zz?:?{name:str,parents:[_]}!,\
                   \"the kind\":<Plain:(),Saving:{rate:f32},Joint:_,Other:(u8,char,)>,\
                   since:{secs:u64,nanos:u32}!,limits:[str:[(u32,f64,)]]}";
    assert_eq!(text_of::<Account>().as_deref(), Some(account));
    assert_eq!(text_of::<(Vec<Open>, Option<()>)>().as_deref(), Some("([<Known:(),Unknown:()>*],?(),)"));
    assert_eq!(text_of::<u64>().as_deref(), Some("u64"));
    let id = Codec::<Account>::id(&SelfDescribingCodec);
    // This id is part of the format: it must not change.
    assert_eq!(id, format!("msgpack#{account}"));
}

#[test]
fn a_type_that_does_not_reveal_its_form_has_none() {
    #[derive(Debug, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Untagged {
        Number(u8),
        Text(String),
    }
    #[derive(Debug, Serialize, Deserialize)]
    struct Flat {
        #[serde(flatten)]
        rest: BTreeMap<String, u8>,
    }
    #[derive(Debug, Serialize, Deserialize)]
    struct Endless(Box<Endless>);
    assert_eq!(text_of::<Flat>(), None);
    assert_eq!(text_of::<Endless>(), None);
    assert_eq!(Codec::<Flat>::id(&SelfDescribingCodec), "msgpack");
    // It takes whatever is there.
    assert_eq!(text_of::<Untagged>().as_deref(), Some("_"));
}

#[test]
fn types_that_refuse_most_values_have_a_form() {
    #[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
    #[serde(try_from = "String")]
    struct Day(String);
    impl TryFrom<String> for Day {
        type Error = &'static str;
        fn try_from(text: String) -> Result<Self, &'static str> {
            if text.len() == 10 { Ok(Self(text)) } else { Err("no day") }
        }
    }
    assert_eq!(text_of::<BTreeMap<Day, (bool, Day)>>().as_deref(), Some("[str:(bool,str,)]"));
}

fn reads(wanted: &str, stored: &str, drops: bool) -> Result<(), String> {
    let parse = |form| text::parse(form).unwrap_or_else(|| panic!("{form}"));
    parse(wanted).reads(&parse(stored), drops)
}

#[test]
fn what_serde_reads_is_readable() {
    for (stored, wanted) in [
        ("u32", "u64"),
        ("u32", "i64"),
        ("i8", "i64"),
        ("u32", "f64"),
        ("f32", "f64"),
        ("u8", "?u8"),
        ("()", "?u8"),
        ("char", "str"),
        ("(u8,u16,)", "[u16]"),
        ("_", "[u16]"),
        ("[u16]", "_"),
        ("{a:u8}", "{a:u8}"),
        ("{a:u8}", "{b?:str,a:u16}"),
        ("{a:u8}", "{b|a:u8}"),
        ("{a:u8,b:u16}", "[str:u32]"),
        ("<A:()>", "<B:u8,A:()>"),
        ("<A:(),B:u8>", "<A:()>*"),
        ("[str:{a:?u8}]", "[str:{a:?u32}]"),
    ] {
        assert_eq!(reads(wanted, stored, false), Ok(()), "{stored} as {wanted}");
    }
    assert_eq!(reads("{a:u8}", "{a:u8,b:str}", true), Ok(()), "a newer version may drop a field");
}

#[test]
fn what_it_does_not_read_is_named() {
    for (stored, wanted, message) in [
        ("str", "u32", "the value is stored as str, and the type reads u32"),
        ("u64", "u32", "stored as u64"),
        ("i32", "u64", "stored as i32"),
        ("u64", "u128", "stored as u64"),
        ("u64", "f64", "stored as u64"),
        ("?u8", "u8", "stored as ?u8"),
        (
            "{a:{b:u8,c:?[str]}}",
            "{a:{b:u8,c:?[u8]}}",
            "the field \"a.c.[]\" is stored as str, and the type reads u8",
        ),
        ("[str:u8]", "[str:str]", "\"[]\""),
        ("(u8,)", "(u8,u8,)", "(u8,u8,)"),
        ("{a:u8}", "{a:u8,b:str}", "the field \"b\" (str) is not stored, and the type has no default"),
        ("{a:u8,b:str}", "{a:u8}", "the field \"b\" is stored, and the type lacks it"),
        ("{a:u8,b:str}", "{a:u8}!", "refuses"),
        ("<A:(),B:u8>", "<A:()>", "the variant \"B\""),
        ("<A:u8>", "<A:str>", "the field \"A\" is stored as u8"),
    ] {
        let error = reads(wanted, stored, false).expect_err(stored);
        assert!(error.contains(message), "{stored} as {wanted}: {error}");
    }
    assert!(reads("{a:u8}!", "{a:u8,b:str}", true).is_err(), "the type denies unknown fields");
}

fn forms() -> impl Strategy<Value = Form> {
    let leaf = prop_oneof![
        Just(Form::Any),
        Just(Form::Bool),
        Just(Form::Unit),
        Just(Form::Str),
        (any::<bool>(), 3..8_u32).prop_map(|(signed, log)| Form::Int { signed, bits: 1 << log }),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let boxed = || inner.clone().prop_map(Box::new);
        let names = proptest::collection::vec(".{0,6}", 1..3);
        let field = (names, any::<bool>(), inner.clone());
        let field = field.prop_map(|(names, optional, form)| Field { names, optional, form });
        prop_oneof![
            boxed().prop_map(Form::Option),
            boxed().prop_map(Form::Seq),
            (boxed(), boxed()).prop_map(|(key, value)| Form::Map(key, value)),
            proptest::collection::vec(inner.clone(), 1..4).prop_map(Form::Tuple),
            (proptest::collection::vec(field, 0..4), any::<bool>())
                .prop_map(|(fields, closed)| Form::Struct { fields, closed }),
            (proptest::collection::vec((".{0,6}", inner.clone()), 0..4), any::<bool>())
                .prop_map(|(variants, open)| Form::Enum { variants, open }),
        ]
    })
}

proptest! {
    #[test]
    fn the_text_of_a_form_is_read_back(form in forms()) {
        prop_assert_eq!(text::parse(&form.to_string()), Some(form));
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[\\[\\](){}<>?:,|!*_a-z0-9\"\\\\]{0,40}") {
        if let Some(form) = text::parse(&text) {
            prop_assert_eq!(text::parse(&form.to_string()), Some(form));
        }
    }
}

#[test]
fn a_deep_text_is_refused() {
    for open in ["[", "?", "(", "{a:", "<A:"] {
        assert_eq!(text::parse(&open.repeat(100_000)), None);
    }
}
