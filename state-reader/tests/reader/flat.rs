//! The decoder of values without parts against the one of all values, over bytes that were written and over others.

use proptest::prelude::*;
use strandline_state_api::schema::{DataType, Description, Encoding};
use strandline_state_reader::{Decoder, Scalar, Value};

fn scalar() -> impl Strategy<Value = DataType> {
    let int = (any::<bool>(), prop_oneof![Just(8), Just(16), Just(32), Just(64), Just(128)]);
    let plain = prop_oneof![
        4 => int.prop_map(|(signed, bits)| DataType::Int { signed, bits }),
        1 => Just(DataType::Bool),
        1 => prop_oneof![Just(32), Just(64)].prop_map(|bits| DataType::Float { bits }),
        2 => Just(DataType::Text),
        1 => Just(DataType::Bytes),
        1 => Just(DataType::Unit),
    ];
    let option = plain.clone().prop_map(|of| DataType::Option(Box::new(of)));
    prop_oneof![4 => plain, 1 => option]
}

fn data_type() -> impl Strategy<Value = DataType> {
    let fields = proptest::collection::vec(scalar(), 0..4);
    let of_fields = |fields: Vec<DataType>| {
        DataType::of_fields(fields.into_iter().enumerate().map(|(at, of)| (format!("f{at}"), of)))
    };
    prop_oneof![scalar(), fields.prop_map(of_fields)]
}

fn encoding() -> impl Strategy<Value = Encoding> {
    prop_oneof![
        Just(Encoding::Ordered),
        Just(Encoding::BigEndian),
        Just(Encoding::LittleEndian),
        Just(Encoding::Postcard),
        Just(Encoding::MessagePack),
        Just(Encoding::RowKey),
    ]
}

/// What the decoder of flat values reads; `None` where it reads nothing.
fn flat(decoder: &Decoder, bytes: &[u8]) -> Option<Vec<(usize, String)>> {
    let mut found = Vec::new();
    decoder.decode_flat(bytes, |at, scalar| found.push((at, format!("{scalar:?}")))).then_some(found)
}

/// What the decoder of all values reads, in that form.
fn whole(decoder: &Decoder, bytes: &[u8]) -> Option<Vec<(usize, String)>> {
    let values = match decoder.decode(bytes).ok()? {
        Value::Record(values) => values,
        value => vec![value],
    };
    let shown = |value: &Value| format!("{:?}", Scalar::of(value).expect("no scalar"));
    Some(values.iter().map(shown).enumerate().collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn both_decoders_read_the_same(
        data_type in data_type(),
        encoding in encoding(),
        bytes in proptest::collection::vec(prop_oneof![0u8..4, any::<u8>()], 0..24),
    ) {
        let decoder = Decoder::described(Description::new(encoding, data_type));
        if decoder.is_flat() {
            prop_assert_eq!(flat(&decoder, &bytes), whole(&decoder, &bytes));
        }
    }

    #[test]
    fn numbers_and_text_come_back(a: u64, b: i32, c: Option<bool>, d in ".{0,8}", e: f64) {
        use strandline_state_api::{Codec, SerdeCodec};
        type Row = (u64, i32, Option<bool>, String, f64);
        let mut bytes = Vec::new();
        Codec::<Row>::encode(&SerdeCodec, &(a, b, c, d, e), &mut bytes).unwrap();
        let types = "{a:u64,b:i32,c:?bool,d:str,e:f64}".parse().unwrap();
        let decoder = Decoder::described(Description::new(Encoding::Postcard, types));
        prop_assert!(decoder.is_flat());
        prop_assert!(flat(&decoder, &bytes).is_some());
        prop_assert_eq!(flat(&decoder, &bytes), whole(&decoder, &bytes));
    }
}
