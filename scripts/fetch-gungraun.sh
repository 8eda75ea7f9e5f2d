#!/usr/bin/env bash
# Makes what counts instructions available: valgrind by apt, and below .tools (git-ignored) gungraun-runner in the version of the
# crate in Cargo.lock. Quick when everything is there. Prints the path of the runner.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

VERSION="$(awk '/^name = "gungraun"$/ {getline; gsub(/"/, "", $3); print $3}' "$ROOT/Cargo.lock")"
RUNNER="$TOOLS/gungraun/bin/gungraun-runner"

if ! command -v valgrind >/dev/null; then
    say "installing valgrind by apt"
    apt_install valgrind || die "no valgrind on PATH and apt cannot install it (needs root or sudo)"
fi
valgrind --tool=callgrind --callgrind-out-file=/dev/null true >/dev/null 2>&1 || die "valgrind does not work on this machine"

mkdir -p "$TOOLS/gungraun"
exec 9>"$TOOLS/.lock"
flock 9
if [ "$("$RUNNER" --version 2>/dev/null)" != "gungraun-runner $VERSION" ]; then
    say "installing gungraun-runner $VERSION"
    # Neither optimised nor with debug information: it only starts valgrind and reads what that wrote.
    CARGO_PROFILE_DEV_DEBUG=0 "${CARGO:-cargo}" install --quiet --debug --locked --force --root "$TOOLS/gungraun" --version "=$VERSION" gungraun-runner >&2 </dev/null
fi
printf '%s\n' "$RUNNER"
