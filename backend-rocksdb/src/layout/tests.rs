use proptest::prelude::*;
use strandline_snapshot_format::timer_key;
use strandline_state_api::Keyed;

use super::*;

/// Short texts over an alphabet that holds every byte that escaping treats in its own way.
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
    fn addresses_are_injective_and_ordered_and_split_again(
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
            let addressing = Addressing { id: state, layout };
            addressing.join(group, [&parts[0], &parts[1], &parts[2]], &mut address);
            let back = layout.split(&address).unwrap();
            assert_eq!([&*back.key, &*back.namespace, &*back.sub], [&parts[0][..], &parts[1], &parts[2]]);
            assert_eq!(prefix(&address).unwrap(), (group, state));
            ((group, state, parts), address)
        });
        prop_assert_eq!(written[0].0.cmp(&written[1].0), written[0].1.cmp(&written[1].1));
    }

    #[test]
    fn typed_and_untyped_addresses_are_the_same(
        key in ".{0,5}",
        namespace in any::<i32>(),
        sub in ".{0,5}",
        time in any::<i64>(),
    ) {
        let at = At { key: Keyed::new(&key), namespace: &namespace };
        let (group, time) = (at.key.group(), Timestamp::from_millis(time));
        let addressing = Addressing { id: 7, layout: Layout::of::<String, i32>(StateKind::Map, None) };
        let mut encoded = Vec::new();
        namespace.encode(&mut encoded);
        let (mut typed, mut untyped) = (Vec::new(), Vec::new());
        addressing.encode_address(at, &mut typed);
        addressing.push_map_key(&mut typed, |out| sub.encode(out));
        addressing.join(group, [key.as_bytes(), &encoded, sub.as_bytes()], &mut untyped);
        prop_assert_eq!(&typed, &untyped);
        let layout = Layout::of::<String, i32>(StateKind::EventTimers, Some(0));
        let addressing = Addressing { layout, ..addressing };
        addressing.encode_timer(at, time, &mut typed);
        let mut packed = Vec::new();
        timer_key::pack(time.as_millis(), key.as_bytes(), &mut packed);
        prop_assert_eq!(time_from_bytes(*packed.first_chunk().unwrap()), time);
        addressing.join(group, [&packed, &encoded, &[]], &mut untyped);
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
