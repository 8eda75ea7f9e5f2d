#!/bin/sh
# Makes an instance that was killed and has come back as a replica the primary again: give-back.sh IP PORT
# Waits until it has all data; nothing gets lost, and clients see no error.
set -eu
[ $# = 2 ] || { echo "usage: $0 IP PORT" >&2; exit 2; }

PATIENCE=60
at() { redis-cli -h "$1" -p "$2" INFO replication; }

tries=$((PATIENCE * 5))
again=0
until at "$1" "$2" | grep -q role:master; do
    tries=$((tries - 1))
    [ $tries -gt 0 ] || { echo "$1:$2 is no primary after $PATIENCE s" >&2; exit 1; }
    # Asked again after 6 s: a server gives a manual failover up after 5 s.
    again=$((again - 1))
    if [ $again -le 0 ] && at "$1" "$2" | grep -q master_link_status:up; then
        redis-cli -h "$1" -p "$2" CLUSTER FAILOVER
        again=30
    fi
    sleep 0.2
done
