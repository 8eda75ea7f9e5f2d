//! The allocator of the process, and the one setting of it that is not as it comes.

use libmimalloc_sys::{_mi_option_last, mi_option_set, mi_option_t};

/// Returns memory after peaks and is fast across threads, where the system's allocator is neither.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Requests and replies from this size on have memory of their own from the system, in KiB.
const BIG: std::ffi::c_long = 4 << 10;

/// `mi_option_arena_max_object_size` of mimalloc 3, which the binding has no name for.
const ARENA_MAX_OBJECT_SIZE: mi_option_t = 45;

const _: () = assert!(
    _mi_option_last == 47,
    "the options of this mimalloc are not those of 3.x that were counted: look at enum mi_option_e"
);

/// Has the memory of big buffers given back the moment they are dropped. As it comes, it stays for a second, and next to it there is
/// what the next ones need: twenty clients that sent 64 MiB each within a budget of 128 MiB took up to 620 MiB that way, and take 200
/// so (`many_uploads_at_once_end_within_the_memory_for_them`).
#[allow(unsafe_code, reason = "mimalloc's options can be set in no other way")]
pub(crate) fn configure() {
    // SAFETY: it stores a number in a table of the library; nothing else runs yet.
    unsafe { mi_option_set(ARENA_MAX_OBJECT_SIZE, BIG) };
}
