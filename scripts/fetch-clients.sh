#!/usr/bin/env bash
# Installs the client libraries that the tests drive through the proxy below .tools/clients (git-ignored): redis-py, ioredis
# and node-redis from their registries; php-redis and hiredis by apt, which needs root or sudo. Quick when everything is there.
# A client that cannot be installed here is named in .tools/clients/missing with the reason; its test says so.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

SOURCES="$ROOT/tests/clients"
CLIENTS="$TOOLS/clients"
mkdir -p "$CLIENTS"
exec 9>"$TOOLS/.lock"
flock 9
: >"$CLIENTS/missing"

missing() {
    say "note: $1 is not tested: $2"
    printf '%s: %s\n' "$1" "$2" >>"$CLIENTS/missing"
}

# True if the marker of an installation was made from exactly these files.
is_current() {
    local marker="$1"
    shift
    [ -f "$marker" ] && [ "$(cat "$marker")" = "$(cat "$@" | sha256sum)" ]
}
mark() {
    local marker="$1"
    shift
    cat "$@" | sha256sum >"$marker"
}

fetch_python() {
    local list="$SOURCES/python/requirements.txt" target="$CLIENTS/python"
    is_current "$target.done" "$list" && return 0
    command -v python3 >/dev/null || { missing redis-py "python3 is not installed"; return 0; }
    say "installing redis-py"
    rm -rf "$target"
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --only-binary=:all: --require-hashes \
        --target "$target" --requirement "$list" </dev/null || { missing redis-py "pip cannot install it"; return 0; }
    mark "$target.done" "$list"
}

fetch_node() {
    local lock="$SOURCES/node/package-lock.json" target="$CLIENTS/node" client
    is_current "$target.done" "$lock" && return 0
    say "installing ioredis and node-redis"
    rm -rf "$target"
    mkdir -p "$target"
    cp "$SOURCES/node/package.json" "$lock" "$target/"
    if ! command -v npm >/dev/null || ! npm ci --prefix "$target" --silent --no-audit --no-fund </dev/null; then
        for client in ioredis node-redis; do missing "$client" "npm is not installed or cannot install it"; done
        return 0
    fi
    mark "$target.done" "$lock"
}

fetch_php() {
    php -r 'exit(class_exists("Redis") ? 0 : 1);' 2>/dev/null && return 0
    say "installing php-redis by apt"
    apt_install php-cli php-redis || missing php-redis "apt cannot install php-cli and php-redis (needs root or sudo)"
}

fetch_hiredis() {
    local source="$SOURCES/hiredis/check.c" target="$CLIENTS/hiredis"
    if [ ! -e /usr/include/hiredis/hiredis.h ] || ! command -v gcc >/dev/null; then
        say "installing hiredis by apt"
        apt_install gcc libc6-dev libhiredis-dev || { missing hiredis "apt cannot install gcc and libhiredis-dev (needs root or sudo)"; return 0; }
    fi
    is_current "$target.done" "$source" && return 0
    gcc -Wall -Werror -O1 -o "$target" "$source" -lhiredis || { missing hiredis "its check does not compile"; return 0; }
    mark "$target.done" "$source"
}

fetch_python
fetch_node
fetch_php
fetch_hiredis
