//! The `slotway` binary.
#![forbid(unsafe_code)]
fn main() {}
