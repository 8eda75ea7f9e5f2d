//! See `checks::command_reply`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| slotway_core_fuzz_checks::command_reply::check(data));
