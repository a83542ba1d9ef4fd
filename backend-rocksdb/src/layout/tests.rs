use proptest::prelude::*;

use super::*;

/// Short texts over an alphabet that holds everything that escaping is about.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(prop_oneof![Just(0u8), Just(1), Just(0xFE), Just(0xFF), any::<u8>()], 0..6)
}

fn width() -> impl Strategy<Value = Option<usize>> {
    prop_oneof![Just(None), Just(Some(0)), Just(Some(3))]
}

/// A part of the given width, made of arbitrary bytes.
fn fitted(width: Option<usize>, mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(width) = width {
        bytes.resize(width, 7);
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn addresses_are_injective_ordered_and_come_apart_again(
        widths in [width(), width(), width()],
        a in ([bytes(), bytes(), bytes()], 0u16..3, 0u16..3),
        b in ([bytes(), bytes(), bytes()], 0u16..3, 0u16..3),
    ) {
        let layout = Layout::new(widths[0], widths[1], widths[2]);
        let written = [a, b].map(|(parts, state, group)| {
            let mut index = 0;
            let parts = parts.map(|part| { index += 1; fitted(widths[index - 1], part) });
            let group = KeyGroup::new(group).unwrap();
            let mut address = Vec::new();
            layout.join(state, group, [&parts[0], &parts[1], &parts[2]], &mut address);
            let back = layout.split(&address).unwrap();
            assert_eq!([&*back.key, &*back.namespace, &*back.sub], [&parts[0][..], &parts[1], &parts[2]]);
            assert_eq!(prefix(&address).unwrap(), (group, state));
            ((group, state, parts), address)
        });
        prop_assert_eq!(written[0].0.cmp(&written[1].0), written[0].1.cmp(&written[1].1));
    }

    #[test]
    fn typed_and_untyped_addresses_are_the_same(key in ".{0,5}", namespace in any::<i32>(), sub in ".{0,5}", time in any::<i64>()) {
        let group = KeyGroup::new(5).unwrap();
        let layout = Layout::of::<String, i32>(StateKind::Map, None);
        let encoded = |namespace: &i32| { let mut out = Vec::new(); namespace.encode(&mut out); out };
        let (mut typed, mut untyped) = (Vec::new(), Vec::new());
        layout.address(7, group, &key, &namespace, &mut typed);
        layout.push_sub(&mut typed, |out| sub.encode(out));
        layout.join(7, group, [key.as_bytes(), &encoded(&namespace), sub.as_bytes()], &mut untyped);
        prop_assert_eq!(&typed, &untyped);
        let layout = Layout::of::<String, i32>(StateKind::EventTimers, Some(0));
        layout.timer(7, group, time, &key, &namespace, &mut typed);
        let mut packed = Vec::new();
        strandline_state_api::format::timer_key::pack(time, key.as_bytes(), &mut packed);
        layout.join(7, group, [&packed, &encoded(&namespace), &[]], &mut untyped);
        prop_assert_eq!(typed, untyped);
    }

    #[test]
    fn successors_stand_behind_everything_with_the_prefix(prefix in bytes(), tail in bytes()) {
        let longer = [&prefix[..], &tail].concat();
        match successor(&prefix) {
            Some(end) => prop_assert!(longer < end && prefix < end),
            None => prop_assert!(prefix.iter().all(|byte| *byte == 0xFF)),
        }
    }
}

#[test]
fn the_whole_range_ends_behind_the_last_key_group() {
    let (from, to) = bounds(KeyGroupRange::ALL);
    let mut address = Vec::new();
    start(u16::MAX, KeyGroup::new(32_767).unwrap(), &mut address);
    address.extend([0xFF; 9]);
    assert!(from.as_slice() <= address.as_slice() && address.as_slice() < to.as_slice());
}
