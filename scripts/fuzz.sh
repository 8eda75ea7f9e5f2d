#!/usr/bin/env bash
# Runs fuzz targets of the core, one after the other: make fuzz [TARGET=name] [MINUTES=n] [JOBS=n]
#
#   scripts/fuzz.sh run  [target]     fuzzes; what it finds goes to core/fuzz/corpus-found/<target> (git-ignored)
#   scripts/fuzz.sh keep [target]     adds to core/fuzz/corpus/<target> the few found inputs that reach code it does not reach
#
# MINUTES (5) is for each target, JOBS (1) the number of processes. Ends with an error at the first finding: the input is in
# core/fuzz/artifacts/<target>; `cargo fuzz tmin <target> <file>` in core/ makes it smaller.
#
# Needs cargo-fuzz. With a nightly toolchain the targets run under AddressSanitizer; without one they are built by the pinned
# toolchain with RUSTC_BOOTSTRAP=1 and no sanitizer, which loses little: the core has no unsafe code.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

MINUTES="${MINUTES:-5}"
JOBS="${JOBS:-1}"
FUZZ="$ROOT/core/fuzz"

action="${1:-run}"
only="${2:-}"

cargo fuzz --version >/dev/null 2>&1 || die "cargo-fuzz is not installed: cargo install cargo-fuzz --locked"
toolchain=() sanitizer=()
if command -v rustup >/dev/null && rustup toolchain list | grep -q '^nightly'; then
    toolchain=(+nightly)
    # Learned commands stay for the life of a process, and their number is bounded: to the sanitizer each input's would be a leak.
    export ASAN_OPTIONS="detect_leaks=0${ASAN_OPTIONS:+:$ASAN_OPTIONS}"
else
    say "no nightly toolchain (rustup toolchain install nightly): fuzzing with the pinned one, without a sanitizer"
    export RUSTC_BOOTSTRAP=1
    sanitizer=(--sanitizer none)
fi

targets() {
    local file
    for file in "$FUZZ"/fuzz_targets/*.rs; do basename "$file" .rs; done
}
[ -z "$only" ] || [ -f "$FUZZ/fuzz_targets/$only.rs" ] || die "no target $only; there are: $(targets | tr '\n' ' ')"

# Runs one target over the given corpora with options for libFuzzer behind `--`.
fuzz() {
    (cd "$ROOT/core" && cargo "${toolchain[@]}" fuzz run "${sanitizer[@]}" "$@")
}

for target in ${only:-$(targets)}; do
    found="$FUZZ/corpus-found/$target" kept="$FUZZ/corpus/$target"
    mkdir -p "$found"
    case "$action" in
        run)
            say "fuzzing $target for $MINUTES minutes"
            fuzz --jobs "$JOBS" "$target" "$found" "$kept" -- \
                -max_total_time=$((60 * MINUTES)) -dict="$FUZZ/resp.dict" -rss_limit_mb=2048 -timeout=10
            ;;
        keep) fuzz "$target" "$kept" "$found" -- -set_cover_merge=1 -max_len=2048 ;;
        *) die "run or keep, not $action" ;;
    esac
done
