//! See `checks::reply_scanner`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| slotway_core_fuzz_checks::reply_scanner::check(data));
