//! The `slotway` binary.
#![deny(unsafe_code)]

mod allocator;

use std::process::ExitCode;

fn main() -> ExitCode {
    allocator::configure();
    // Huge pages are cleared 2 MiB at a time, and everybody waits for that: the servers do without them for the same reason.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    slotway::cli::main()
}
