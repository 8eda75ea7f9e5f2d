//! What the fuzz targets check: one function a target, from any bytes to nothing, or a panic that says what does not hold.
//!
//! A normal library, so that the same checks run in two ways: under libFuzzer by `fuzz_targets/`, and on a stable toolchain over
//! the committed corpora by `tests/corpus.rs`. To add a target: a module here, a line in [`TARGETS`], a file in `fuzz_targets/`, a
//! `[[bin]]` in the manifest there, and a seed or two in `corpus/`.
#![forbid(unsafe_code)]
#![expect(
    clippy::panic,
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a panic is how a check reports"
)]

pub mod command_reply;
pub mod config;
pub mod engine;
pub mod error_replies;
pub mod key_extraction;
pub mod merge_replies;
pub mod reply_scanner;
pub mod request_decoder;
pub mod scan_cursor;
pub mod topology_parsers;

mod words;

pub use engine::{backend_input, session_input};

/// A check of any bytes.
pub type Check = fn(&[u8]);

/// Every target by its name.
pub const TARGETS: [(&str, Check); 11] = [
    ("request_decoder", request_decoder::check),
    ("reply_scanner", reply_scanner::check),
    ("key_extraction", key_extraction::check),
    ("topology_parsers", topology_parsers::check),
    ("config", config::check),
    ("error_replies", error_replies::check),
    ("merge_replies", merge_replies::check),
    ("scan_cursor", scan_cursor::check),
    ("session_input", session_input::check),
    ("backend_input", backend_input::check),
    ("command_reply", command_reply::check),
];
