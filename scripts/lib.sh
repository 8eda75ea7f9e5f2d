# shellcheck shell=bash disable=SC2034
# Helpers of the fetch scripts; to be sourced. Sets ROOT and TOOLS.

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
TOOLS="${SLOTWAY_TOOLS:-$ROOT/.tools}"

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

# Runs a command as root: directly, or by sudo that asks for no password. Fails if neither is possible.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        sudo -n "$@"
    else
        return 1
    fi
}

can_apt() { command -v apt-get >/dev/null && as_root true; }

# Installs Debian packages without letting any of their services start now or at the next boot.
# Only services that this call brought in are touched.
apt_install() {
    local policy=/usr/sbin/policy-rc.d made_policy="" service before after
    can_apt || return 1
    before="$(service_files)"
    if [ ! -e "$policy" ]; then
        made_policy=yes
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
        as_root chmod 755 "$policy"
    fi
    local status=0
    if ! apt_quiet install "$@"; then
        apt_quiet update && apt_quiet install "$@" || status=1
    fi
    [ -z "$made_policy" ] || as_root rm -f "$policy"
    if [ -d /run/systemd/system ]; then
        after="$(service_files)"
        comm -13 <(printf '%s\n' "$before") <(printf '%s\n' "$after") | while read -r service; do
            [ -z "$service" ] || as_root systemctl disable --now "$service" >/dev/null 2>&1 || true
        done
    fi
    return $status
}

apt_quiet() {
    local log status=0
    log="$(mktemp)"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -y -qq --no-install-recommends "$@" >"$log" 2>&1 </dev/null || status=$?
    [ "$status" = 0 ] || [ "$1" = install ] || { say "apt-get $* failed:"; tail -20 "$log" >&2; }
    rm -f "$log"
    return "$status"
}

service_files() {
    find /lib/systemd/system /usr/lib/systemd/system -maxdepth 1 -name '*.service' -printf '%f\n' 2>/dev/null | sort -u
}
