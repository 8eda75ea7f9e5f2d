//! The `slotway` binary.
#![forbid(unsafe_code)]

use std::process::ExitCode;

/// Returns memory after peaks and is fast across threads, where the system's allocator is neither.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Huge pages are cleared 2 MiB at a time, and everybody waits for that: the servers do without them for the same reason.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    slotway::cli::main()
}
