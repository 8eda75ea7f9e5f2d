//! See `checks::key_extraction`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| slotway_core_fuzz_checks::key_extraction::check(data));
