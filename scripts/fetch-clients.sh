#!/usr/bin/env bash
# Installs the client libraries that the tests drive through the proxy below .tools/clients (git-ignored): those for Python and
# Node from their registries, every version pinned; php-redis, ruby-redis and hiredis by apt, which needs root or sudo. Quick when
# everything is there. A client that cannot be installed here is named in .tools/clients/missing with the reason; its test says so.
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

# Each client has its list of packages and its folder, so that one that cannot be installed takes no other with it. A list is made by
# `echo NAME==VERSION | uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --only-binary :all: -`.
fetch_python() {
    local client="$1" list="$SOURCES/python/requirements/$1.txt" target="$CLIENTS/python/$1"
    is_current "$target.done" "$list" && return 0
    command -v python3 >/dev/null || { missing "$client" "python3 is not installed"; return 0; }
    say "installing $client"
    rm -rf "$target"
    mkdir -p "$target"
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --only-binary=:all: --require-hashes \
        --target "$target" --requirement "$list" </dev/null || { missing "$client" "pip cannot install it"; return 0; }
    mark "$target.done" "$list"
}

NODE_CLIENTS=(bullmq ioredis-5 ioredis-6 iovalkey node-redis-4 node-redis-6)

fetch_node() {
    local lock="$SOURCES/node/package-lock.json" target="$CLIENTS/node" client
    is_current "$target.done" "$lock" && return 0
    say "installing ${NODE_CLIENTS[*]}"
    rm -rf "$target"
    mkdir -p "$target"
    cp "$SOURCES/node/package.json" "$lock" "$target/"
    # Not `npm ci`: it wants every optional package to be in the registry, also those for other systems. Versions and sums are the lock's.
    if ! command -v npm >/dev/null ||
        ! npm install --prefix "$target" --no-save --omit=optional --ignore-scripts --silent --no-audit --no-fund </dev/null; then
        for client in "${NODE_CLIENTS[@]}"; do missing "$client" "npm is not installed or cannot install it"; done
        return 0
    fi
    mark "$target.done" "$lock"
}

fetch_ruby() {
    ruby -e 'require "redis"' 2>/dev/null && return 0
    say "installing ruby-redis by apt"
    apt_install ruby ruby-redis || missing ruby-redis "apt cannot install ruby and ruby-redis (needs root or sudo)"
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

# The last is no client: it checks the manifests of deploy/recipes.
for client in redis-py valkey-py valkey-glide coredis celery rq kubernetes-validate; do
    fetch_python "$client"
done
fetch_node
fetch_php
fetch_ruby
fetch_hiredis
