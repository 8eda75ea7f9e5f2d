//! Replays every committed input of every fuzz target, so that what was once found stays fixed: no fuzzer, no nightly toolchain.
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "what cannot be read fails the test"
)]

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use slotway_core_fuzz_checks::TARGETS;

/// A corpus is read by people and replayed by every test run.
const MAX_INPUTS: usize = 100;
const MAX_BYTES: usize = 200 << 10;

fn fuzz_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn entries(dir: &str) -> Vec<PathBuf> {
    let path = fuzz_dir().join(dir);
    let entries = fs::read_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut entries: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    entries
}

fn inputs(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let files = entries(&format!("corpus/{target}")).into_iter();
    files
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect()
}

#[test]
fn every_committed_input_passes_its_check() {
    let mut failed = Vec::new();
    for (target, check) in TARGETS {
        for (path, bytes) in inputs(target) {
            if catch_unwind(|| check(&bytes)).is_err() {
                failed.push(path);
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn corpora_are_there_and_small() {
    for (target, _) in TARGETS {
        let inputs = inputs(target);
        let bytes: usize = inputs.iter().map(|(_, bytes)| bytes.len()).sum();
        assert!(
            (1..=MAX_INPUTS).contains(&inputs.len()) && bytes <= MAX_BYTES,
            "{target}: {} inputs, {bytes} bytes",
            inputs.len()
        );
    }
}

#[test]
fn every_target_has_a_program_and_a_corpus_and_nothing_else_has() {
    let known: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    for dir in ["fuzz_targets", "corpus"] {
        let found = entries(dir).into_iter();
        let found: BTreeSet<String> = found
            .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        assert_eq!(found, known, "{dir}");
    }
}
