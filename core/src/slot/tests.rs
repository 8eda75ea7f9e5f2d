//! Known slots, the rules for tags and patterns, and the CRC against another implementation of it.

use super::*;
use proptest::prelude::*;

fn key_slot(key: &str) -> u16 {
    Slot::of_key(key.as_bytes()).get()
}

/// What servers compute for a key without a tag, by the `crc16` crate.
fn oracle(bytes: &[u8]) -> Slot {
    Slot(crc16_crate(bytes) & 0x3fff)
}

fn crc16_crate(bytes: &[u8]) -> u16 {
    ::crc16::State::<::crc16::XMODEM>::calculate(bytes)
}

#[test]
fn h1_the_check_value_of_crc16_xmodem() {
    assert_eq!(crc16(b"123456789"), 0x31c3);
}

#[test]
fn h1_every_length_around_a_block_has_the_crc_of_the_crate() {
    let bytes: Vec<u8> = (0..=255_u8).rev().cycle().take(80).collect();
    for len in 0..bytes.len() {
        assert_eq!(
            crc16(&bytes[..len]),
            crc16_crate(&bytes[..len]),
            "{len} bytes"
        );
    }
}

#[test]
fn h2_the_tagged_part_is_hashed() {
    for (key, hashed) in [
        ("foo{bar}baz", "bar"),
        ("{}foo", "{}foo"),
        ("foo{}{bar}", "foo{}{bar}"),
        ("foo{{bar}}", "{bar"),
        ("foo{bar}{zap}", "bar"),
        ("foo}bar{", "foo}bar{"),
        ("foo{bar", "foo{bar"),
        ("foo}{bar}", "bar"),
        ("{a\0b}", "a\0b"),
        ("{\r\n}x", "\r\n"),
        ("plain", "plain"),
        ("{", "{"),
        ("{}", "{}"),
        ("", ""),
    ] {
        assert_eq!(
            Slot::of_key(key.as_bytes()),
            oracle(hashed.as_bytes()),
            "{key:?}"
        );
    }
}

#[test]
fn h3_known_slots() {
    for (key, slot) in [
        ("foo", 12_182),
        ("bar", 5061),
        ("hello", 866),
        ("", 0),
        ("123456789", 12_739),
        ("user1000", 3443),
        ("{user1000}.following", 3443),
        ("{user1000}.followers", 3443),
    ] {
        assert_eq!(key_slot(key), slot, "{key:?}");
    }
}

#[test]
fn h5_a_pattern_pins_a_slot_or_none() {
    let pinned = |text: &str| Some(oracle(text.as_bytes()));
    for (pattern, slot) in [
        ("*", None),
        ("", pinned("")),
        ("literal", pinned("literal")),
        ("{tag}*", pinned("tag")),
        ("prefix{tag}[a-z]?\\*", pinned("tag")),
        ("*{tag}", None),
        ("a?{tag}", None),
        ("[ab]{tag}", None),
        ("\\{tag}", None),
        ("{ta*g}", None),
        ("{ta?g}x", None),
        ("{tag*", None),
        ("{tag", pinned("{tag")),
        ("{}{tag}*", None),
        ("{}{tag}", pinned("{}{tag}")),
        ("{{tag}}*", pinned("{tag")),
        ("}{tag}*", pinned("tag")),
        ("a}b", pinned("a}b")),
        ("{a}{b}*", pinned("a")),
    ] {
        assert_eq!(Slot::of_pattern(pattern.as_bytes()), slot, "{pattern:?}");
    }
}

#[test]
fn only_numbers_below_the_count_are_slots() {
    assert_eq!(Slot::new(0).map(Slot::get), Some(0));
    assert_eq!(Slot::new(SLOT_COUNT - 1).map(Slot::index), Some(16_383));
    assert_eq!(Slot::new(SLOT_COUNT), None);
    assert_eq!(Slot::new(u16::MAX), None);
}

proptest! {
    #[test]
    fn h1_any_bytes_have_the_crc_of_the_crate(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert_eq!(crc16(&bytes), crc16_crate(&bytes));
    }

    /// By the wording of [H2], for keys with many braces.
    #[test]
    fn h2_any_key_is_hashed_by_its_first_tag(key in "[{}ab]{0,12}") {
        let tag = key.find('{').and_then(|open| {
            let after = &key[open + 1..];
            after.find('}').map(|close| &after[..close]).filter(|tag| !tag.is_empty())
        });
        prop_assert_eq!(Slot::of_key(key.as_bytes()), oracle(tag.unwrap_or(&key).as_bytes()));
    }

    /// The same for keys in which a brace is anywhere, and bytes that differ from one in a single bit beside it.
    #[test]
    fn h2_a_tag_is_found_in_a_key_of_any_length(
        before in prop::collection::vec(prop::sample::select(&b"az;~\xfb\x7a\x7c\x00\xff"[..]), 0..80),
        tag in prop::collection::vec(prop::sample::select(&b"az{;~\xfd\x7c\x00\xff"[..]), 1..80),
        after in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let key = [&before[..], b"{", &tag, b"}", &after].concat();
        prop_assert_eq!(Slot::of_key(&key), oracle(&tag));
    }

    #[test]
    fn h5_a_pattern_without_wildcards_is_its_only_key(key in "[{}ab]{0,12}") {
        prop_assert_eq!(Slot::of_pattern(key.as_bytes()), Some(Slot::of_key(key.as_bytes())));
    }
}
