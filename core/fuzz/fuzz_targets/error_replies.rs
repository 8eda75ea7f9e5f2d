//! See `checks::error_replies`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| slotway_core_fuzz_checks::error_replies::check(data));
