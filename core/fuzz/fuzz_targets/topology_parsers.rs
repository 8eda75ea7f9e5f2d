//! See `checks::topology_parsers`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| slotway_core_fuzz_checks::topology_parsers::check(data));
