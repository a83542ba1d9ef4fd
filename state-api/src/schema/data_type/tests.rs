use proptest::prelude::*;

use super::*;

fn leaf() -> impl Strategy<Value = DataType> {
    let bits = proptest::sample::select(vec![8u8, 16, 32, 64, 128]);
    prop_oneof![
        proptest::sample::select(vec![
            DataType::Any,
            DataType::Bool,
            DataType::Char,
            DataType::Text,
            DataType::Bytes,
            DataType::Unit,
            DataType::Timestamp,
            DataType::F64,
            DataType::Float { bits: 32 },
        ]),
        (any::<bool>(), bits).prop_map(|(signed, bits)| DataType::Int { signed, bits }),
    ]
}

fn data_type() -> impl Strategy<Value = DataType> {
    leaf().prop_recursive(4, 24, 4, |inner| {
        let named = proptest::collection::vec(("[ -~é]{1,6}", inner.clone()), 1..4)
            .prop_map(|named| named.into_iter().map(|(name, of)| NamedType::new(name, of)).collect());
        let named = named.boxed();
        prop_oneof![
            inner.clone().prop_map(|of| DataType::Option(Box::new(of))),
            inner.clone().prop_map(|of| DataType::List(Box::new(of))),
            (inner.clone(), inner.clone()).prop_map(|(k, v)| DataType::Map(Box::new(k), Box::new(v))),
            proptest::collection::vec(inner, 1..4).prop_map(DataType::Tuple),
            named.clone().prop_map(DataType::Struct),
            named.prop_map(DataType::Enum),
        ]
    })
}

proptest! {
    #[test]
    fn a_type_comes_back_from_its_text(data_type in data_type()) {
        prop_assert_eq!(data_type.to_string().parse::<DataType>().unwrap(), data_type);
    }

    #[test]
    fn any_text_is_a_type_or_an_error(text in "[_?\\[\\](){}<>:,|!*\"a-z0-9]{0,40}") {
        let _ = text.parse::<DataType>();
    }
}

#[test]
fn a_hostile_text_exhausts_neither_the_stack_nor_the_memory() {
    for text in ["?".repeat(16 << 10), "[".repeat(1 << 24), "{a:".repeat(5000), "(".repeat(16 << 10)] {
        assert!(text.parse::<DataType>().is_err());
    }
}
