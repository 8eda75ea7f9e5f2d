//! See `checks::scan_cursor`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| slotway_core_fuzz_checks::scan_cursor::check(data));
