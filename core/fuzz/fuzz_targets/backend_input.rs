//! See `checks::backend_input`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| slotway_core_fuzz_checks::backend_input::check(data));
