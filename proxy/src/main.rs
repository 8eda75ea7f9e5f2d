//! The `slotway` binary.
#![forbid(unsafe_code)]

use std::process::ExitCode;

/// Returns memory after peaks and is fast across threads, where the system's allocator is neither.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    slotway::cli::main()
}
