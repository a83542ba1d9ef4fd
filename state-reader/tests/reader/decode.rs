//! Decoders against what the codecs of jobs write, and against bytes that nobody wrote.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use strandline_state_api::{Codec, ErrorKind, SelfDescribingCodec, SerdeCodec, StateKey, TimeWindow};

use strandline_state_api::schema::{DataType, Description, Encoding};
use strandline_state_reader::{Decoder, Typed, Value};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Account {
    bank: u32,
    name: String,
    limits: BTreeMap<String, i64>,
    parts: Vec<(u8, f64)>,
    state: Stage,
    blob: Vec<u8>,
    more: Option<Box<(char, bool)>>,
    big: i128,
    unsigned: u128,
    small: (i8, i16, u16, f32),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Stage {
    Open,
    Frozen(String),
    Closed { at: u64, by: Option<String> },
    Pair(u8, u8),
}

fn stage() -> impl Strategy<Value = Stage> {
    prop_oneof![
        Just(Stage::Open),
        ".{0,5}".prop_map(Stage::Frozen),
        (any::<u64>(), proptest::option::of(".{0,5}")).prop_map(|(at, by)| Stage::Closed { at, by }),
        any::<(u8, u8)>().prop_map(|(a, b)| Stage::Pair(a, b)),
    ]
}

fn account() -> impl Strategy<Value = Account> {
    let first = (any::<u32>(), ".{0,8}", proptest::collection::btree_map("[a-z]{1,4}", any::<i64>(), 0..4));
    let second = (proptest::collection::vec((any::<u8>(), -1e9f64..1e9), 0..4), stage(), any::<Vec<u8>>());
    let third = (proptest::option::of(any::<(char, bool)>()), any::<i128>(), any::<u128>());
    let small = (any::<i8>(), any::<i16>(), any::<u16>(), -1e9f32..1e9);
    (first, second, third, small).prop_map(
        |((bank, name, limits), (parts, state, blob), (more, big, unsigned), small)| Account {
            bank,
            name,
            limits,
            parts,
            state,
            blob,
            more: more.map(Box::new),
            big,
            unsigned,
            small,
        },
    )
}

/// What the account is, written by hand.
fn expected(account: &Account, bytes: Value) -> Value {
    let text = |text: &str| Value::Text(text.to_owned());
    let (variant, held) = match &account.state {
        Stage::Open => (0, Value::Unit),
        Stage::Frozen(why) => (1, text(why)),
        Stage::Closed { at, by } => {
            (2, Value::Record(vec![Value::UInt(*at), by.as_deref().map_or(Value::Null, text)]))
        }
        Stage::Pair(a, b) => (3, Value::Record(vec![Value::UInt((*a).into()), Value::UInt((*b).into())])),
    };
    Value::Record(vec![
        Value::UInt(account.bank.into()),
        text(&account.name),
        Value::Map(account.limits.iter().map(|(key, limit)| (text(key), Value::Int(*limit))).collect()),
        Value::List(
            account
                .parts
                .iter()
                .map(|(a, b)| Value::Record(vec![Value::UInt((*a).into()), Value::Float(*b)]))
                .collect(),
        ),
        Value::Variant(variant, Box::new(held)),
        bytes,
        account
            .more
            .as_ref()
            .map_or(Value::Null, |more| Value::Record(vec![Value::Char(more.0), Value::Bool(more.1)])),
        Value::BigInt(account.big),
        Value::BigUInt(account.unsigned),
        Value::Record(vec![
            Value::Int(account.small.0.into()),
            Value::Int(account.small.1.into()),
            Value::UInt(account.small.2.into()),
            Value::Float(account.small.3.into()),
        ]),
    ])
}

fn round_trip<K: StateKey>(key: &K, value: &Value) {
    let mut bytes = Vec::new();
    key.encode(&mut bytes);
    let decoder = Decoder::described(Description::of_key_codec(&K::codec()).unwrap());
    assert_eq!(decoder.decode(&bytes).unwrap(), *value);
    assert_eq!(decoder.encode(value).unwrap(), bytes);
}

proptest! {
    #[test]
    fn a_value_comes_back_from_postcard_and_from_message_pack(account in account()) {
        let mut bytes = Vec::new();
        SerdeCodec.encode(&account, &mut bytes).unwrap();
        let decoder = Decoder::described(Description::postcard::<Account>().unwrap());
        prop_assert_eq!(decoder.decode(&bytes).unwrap(), expected(&account, Value::Bytes(account.blob.clone())));
        bytes.push(0);
        prop_assert_eq!(decoder.decode(&bytes).unwrap_err().kind(), ErrorKind::Corrupt);

        let mut bytes = Vec::new();
        SelfDescribingCodec.encode(&account, &mut bytes).unwrap();
        let codec = Codec::<Account>::id(&SelfDescribingCodec);
        let decoder = Decoder::described(Description::of_value_codec(&codec).unwrap());
        let blob = Value::List(account.blob.iter().map(|byte| Value::UInt((*byte).into())).collect());
        prop_assert_eq!(decoder.decode(&bytes).unwrap(), expected(&account, blob));
    }

    #[test]
    fn keys_come_back_and_are_encoded_as_the_job_does(
        a: u8, b: i64, c: String, d: Vec<u8>, e: bool, f: i128, g: u128,
    ) {
        round_trip(&a, &Value::UInt(a.into()));
        round_trip(&b, &Value::Int(b));
        round_trip(&c, &Value::Text(c.clone()));
        round_trip(&d, &Value::Bytes(d.clone()));
        round_trip(&(e, f), &Value::Record(vec![Value::Bool(e), Value::BigInt(f)]));
        round_trip(&g, &Value::BigUInt(g));
        let inner = Value::Record(vec![Value::Text(c.clone()), Value::Bytes(d.clone())]);
        let window = TimeWindow { start: b, end: i64::from(a) };
        let of_window = Value::Record(vec![Value::Int(b), Value::Int(a.into())]);
        round_trip(&(d.clone(), (c.clone(), d.clone()), window, c.clone()), &Value::Record(vec![
            Value::Bytes(d), inner, of_window, Value::Text(c),
        ]));
    }

    #[test]
    fn foreign_bytes_are_a_value_or_an_error(bytes: Vec<u8>, encoding in 0usize..5) {
        let types = ["{a:u8,b:[?str],c:<A:(),B:{d:i128,e:char}>,f:[str:bytes]}", "(str,(bytes,u16,),i8,)"];
        let encodings = [
            (Encoding::Postcard, types[0]), (Encoding::MessagePack, types[0]), (Encoding::MessagePack, "_"),
            (Encoding::Ordered, types[1]), (Encoding::RowKey, "{a:?i64,b:str,c:time}"),
        ];
        let (encoding, data_type) = encodings[encoding];
        let decoder = Decoder::described(Description::new(encoding, data_type.parse().unwrap()));
        prop_assert!(!decoder.is_unknown());
        if let Ok(value) = decoder.decode(&bytes) {
            let _ = Typed::new(&value, decoder.data_type()).to_string();
        }
    }
}

fn decoder(encoding: Encoding, data_type: &str) -> Decoder {
    Decoder::described(Description::new(encoding, data_type.parse().unwrap()))
}

#[test]
fn hostile_bytes_exhaust_neither_the_memory_nor_the_stack() {
    // 2^63 elements of nothing take no bytes.
    let endless = [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F];
    let error = decoder(Encoding::Postcard, "[()]").decode(&endless).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    let nested = format!("[{}{}]", "(".repeat(60), "u8,)".repeat(60));
    if let Ok(data_type) = nested.parse::<DataType>() {
        let decoder = Decoder::described(Description::new(Encoding::Postcard, data_type));
        assert!(decoder.decode(&endless).is_err());
    }
    // Lists in lists, without end.
    assert!(decoder(Encoding::MessagePack, "_").decode(&[0x91; 1 << 20]).is_err());
    // A text and a list that are longer than their bytes.
    for data_type in ["str", "bytes", "[str]", "[str:str]"] {
        assert_eq!(
            decoder(Encoding::Postcard, data_type).decode(&endless).unwrap_err().kind(),
            ErrorKind::Corrupt
        );
        let longest = [0xDD, 0xFF, 0xFF, 0xFF, 0xFF];
        assert!(decoder(Encoding::MessagePack, data_type).decode(&longest).is_err());
    }
}

#[test]
fn what_an_encoding_cannot_hold_stays_bytes() {
    for (encoding, data_type) in [
        (Encoding::Postcard, "{a:_}"),
        (Encoding::Ordered, "?u8"),
        (Encoding::Ordered, "f64"),
        (Encoding::RowKey, "{a:?{b:u64}}"),
        (Encoding::LittleEndian, "str"),
    ] {
        let decoder = decoder(encoding, data_type);
        assert!(decoder.is_unknown());
        assert_eq!(decoder.decode(&[7]).unwrap(), Value::Bytes(vec![7]));
    }
}

#[test]
fn accumulators_become_the_columns_of_a_job() {
    let data_type = "{rows:u64,total:?i128,mean:{sum:?f64,count:u64},last:?time}";
    let decoder = decoder(Encoding::Accumulators, data_type);
    // rows 3; a wide sum of 2^64; a mean of 1.5 over 2; the second 1 after 1970 and half a second.
    let mut bytes = vec![5, 3, 3, 6, 2, 0, 4];
    bytes.extend_from_slice(&1.5f64.to_le_bytes());
    bytes.extend_from_slice(&[3, 2, 7, 2]);
    bytes.extend_from_slice(&postcard::to_stdvec(&500_000_000i32).unwrap());
    let value = decoder.decode(&bytes).unwrap();
    assert_eq!(
        Typed::new(&value, decoder.data_type()).to_string(),
        "{rows: 3, total: 18446744073709551616, mean: {sum: 1.5, count: 2}, last: 1970-01-01T00:00:01.5Z}"
    );
    assert_eq!(decoder.decode(&[0]).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn the_bits_of_a_signed_key_come_back() {
    let decoder = decoder(Encoding::BigEndian, "{user:i64}");
    let value = Value::Record(vec![Value::Int(-7)]);
    assert_eq!(decoder.encode(&Value::Int(-7)).unwrap(), (-7i64 as u64).to_be_bytes());
    assert_eq!(decoder.decode(&(-7i64).to_be_bytes()).unwrap(), value);
}
