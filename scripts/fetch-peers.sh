#!/usr/bin/env bash
# Installs what `make bench` compares slotway with, by apt: twemproxy (nutcracker) and HAProxy. Quick when they are there; one that
# cannot be installed is left out of the comparison.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

# Not on every user's PATH, but servers are there.
PATH="$PATH:/usr/sbin"

for program in nutcracker haproxy; do
    command -v "$program" >/dev/null && continue
    say "installing $program by apt"
    apt_install "$program" || say "note: $program is not measured: apt cannot install it (needs root or sudo)"
done
