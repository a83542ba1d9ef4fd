use proptest::prelude::*;

use super::*;

fn encoded<K: StateKey>(key: &K) -> Vec<u8> {
    let mut out = Vec::new();
    key.encode(&mut out);
    assert!(K::WIDTH.is_none_or(|w| w == out.len()));
    assert_eq!(key.key_hash(), KeyHash::of_encoded(&out), "a short cut must hash the same bytes");
    assert_eq!(&K::decode(&out).unwrap(), key);
    out
}

/// Checks that encoding is injective and ordered: bytes compare exactly as the values do.
fn check<K: StateKey + Ord>(a: &K, b: &K) {
    assert_eq!(encoded(a).cmp(&encoded(b)), a.cmp(b), "{a:?} {b:?}");
}

/// Generates strings of few letters, including zero bytes, so that prefixes and escapes occur.
fn tricky() -> impl Strategy<Value = String> {
    proptest::collection::vec(prop_oneof![Just('\0'), Just('\u{1}'), Just('a'), Just('\u{ff}')], 0..5)
        .prop_map(|chars| chars.into_iter().collect())
}

proptest! {
    #[test]
    fn numbers_keep_order(a: i64, b: i64, c: u32, d: u32, e: i128, f: i128) {
        check(&a, &b);
        check(&c, &d);
        check(&e, &f);
        check(&(a, c), &(b, d));
    }

    #[test]
    fn tuples_of_strings_keep_order(a in tricky(), b in tricky(), c in tricky(), d in tricky(), n: i16, m: i16) {
        check(&a, &b);
        check(&(a.clone(), b.clone()), &(c.clone(), d.clone()));
        check(&(a.clone(), n, b.clone()), &(c.clone(), m, d.clone()));
        check(&((a.clone(), b.clone()), c.clone(), n, true), &((c, d.clone()), a.clone(), m, false));
        let bytes = [a.into_bytes(), vec![0]].concat();
        check(&(bytes.clone(), b), &(bytes, d));
    }

    #[test]
    fn any_bytes_decode_or_fail(bytes: Vec<u8>) {
        let _ = <(String, u64)>::decode(&bytes);
        let _ = <(Vec<u8>, (), String)>::decode(&bytes);
        let _ = crate::TimeWindow::decode(&bytes);
    }
}

/// The hash is part of the format: these values must never change.
#[test]
fn vectors_hold() {
    let group = |hash: KeyHash| KeyGroup::of(hash).index();
    let vectors =
        [().key_hash(), 0u64.key_hash(), 1u64.key_hash(), (-1i64).key_hash(), String::from("a").key_hash()];
    let found: Vec<_> = vectors.map(|h| format!("{:016x} {}", h.0, group(h))).into();
    assert_eq!(
        found,
        [
            "2d06800538d394c2 5763",
            "c77b3abb6f87acd9 25533",
            "f36b4a1a44f78bf3 31157",
            "f832fc1d899fe591 31769",
            "e6c632b61e964e1f 29539"
        ]
    );
}
