#!/bin/sh
# Makes an instance that was killed and has come back as a replica the primary again: give-back.sh IP PORT
# Waits until it has all data and the others are there; nothing gets lost, and clients see no error.
set -eu
[ $# = 2 ] || { echo "usage: $0 IP PORT" >&2; exit 2; }

PATIENCE=60
at() {
    ip=$1 port=$2
    shift 2
    redis-cli -h "$ip" -p "$port" "$@"
}
# An instance that has just started takes itself for what it was, but not the cluster for whole, until it has heard the others.
is_primary() { at "$@" INFO replication | grep -q role:master && at "$@" CLUSTER INFO | grep -q cluster_state:ok; }
has_all_data() { at "$@" INFO replication | grep -q master_link_status:up; }
# Else nobody hears what it asks for.
is_connected() { ! at "$@" CLUSTER NODES | grep -q disconnected; }

tries=$((PATIENCE * 5))
again=0
until is_primary "$1" "$2"; do
    tries=$((tries - 1))
    [ $tries -gt 0 ] || { echo "$1:$2 is no primary after $PATIENCE s" >&2; exit 1; }
    # Asked again after 6 s: a server gives a manual failover up after 5 s.
    again=$((again - 1))
    if [ $again -le 0 ] && has_all_data "$1" "$2" && is_connected "$1" "$2"; then
        at "$1" "$2" CLUSTER FAILOVER
        again=30
    fi
    sleep 0.2
done
