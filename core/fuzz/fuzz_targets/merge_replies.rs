//! See `checks::merge_replies`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| slotway_core_fuzz_checks::merge_replies::check(data));
