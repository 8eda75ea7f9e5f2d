//! The reference configuration file, written from the table of keys.

use std::fmt::Write;

use super::keys::{KEYS, Key, REPEATABLE, SECTIONS, UPSTREAM_CLUSTER};

/// Width at which comments are wrapped.
const COMMENT_WIDTH: usize = 110;

const HEADER: &str = "\
# slotway: every configuration key, with its meaning, range and default.
#
# Values shown are the defaults; keys without a default are commented out and show an example.
# A command-line flag wins over an environment variable, that over this file, that over the default.
# Durations are text with a unit: ms, s, m, h or d (\"500ms\"). Sizes too: B, KiB, MiB, GiB or TiB (\"64MiB\").
# Unknown keys are refused.
# Check a file with: slotway check --config FILE
# Changes take effect at the next start; those of keys marked \"Live\" also on SIGHUP.
#
# This file is written by: slotway check --print-reference
";

/// The text of `config/slotway.toml`: every key with its purpose, range, variable and default.
#[must_use]
pub fn reference() -> String {
    let mut out = String::from(HEADER);
    for key in KEYS.iter().filter(|key| key.section().is_empty()) {
        write_key(&mut out, key);
    }
    for (section, purpose) in SECTIONS {
        out.push('\n');
        write_comment(&mut out, purpose);
        let _ = if REPEATABLE.contains(&section) && section == "listener" {
            writeln!(out, "[[{section}]]")
        } else {
            writeln!(out, "[{section}]")
        };
        for key in KEYS.iter().filter(|key| key.section() == section) {
            write_key(&mut out, key);
        }
    }
    out
}

fn write_key(out: &mut String, key: &Key) {
    out.push('\n');
    write_comment(out, key.purpose);
    let live = if key.is_live() { " Live." } else { "" };
    write_comment(
        out,
        &format!("Allowed: {}. Variable: {}.{live}", key.range(), key.env),
    );
    let name = key.name();
    // Infallible: the target is a String.
    let _ = match key.default_text() {
        Some(default) => writeln!(out, "{name} = {default}"),
        // Without an upstream nothing works: one is shown active, so that the file as a whole is valid.
        None if key.path == UPSTREAM_CLUSTER.path => writeln!(out, "{name} = {}", key.example),
        None => writeln!(out, "# {name} = {}", key.example),
    };
}

fn write_comment(out: &mut String, text: &str) {
    let mut width = 0;
    for word in text.split(' ') {
        if width == 0 || width + 1 + word.len() > COMMENT_WIDTH {
            if width != 0 {
                out.push('\n');
            }
            out.push('#');
            width = 1;
        }
        out.push(' ');
        out.push_str(word);
        width += 1 + word.len();
    }
    out.push('\n');
}
