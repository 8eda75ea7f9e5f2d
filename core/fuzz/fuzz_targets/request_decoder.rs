//! See `checks::request_decoder`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| slotway_core_fuzz_checks::request_decoder::check(data));
