#!/bin/sh
# Makes one cluster of six running, empty instances, by hand: create.sh IP1 IP2 IP3
#
#   primary     slots            its replica, on the next host
#   IP1:7001        0 -  5460    IP2:7002
#   IP2:7001     5461 - 10922    IP3:7002
#   IP3:7001    10923 - 16383    IP1:7002
set -eu
[ $# = 3 ] || { echo "usage: $0 IP1 IP2 IP3" >&2; exit 2; }

PATIENCE=30
instances="$1:7001 $2:7001 $3:7001 $1:7002 $2:7002 $3:7002"

# Runs a command at HOST:PORT.
at() {
    instance=$1
    shift
    redis-cli -h "${instance%:*}" -p "${instance#*:}" "$@"
}

# The same, and the answer must be OK.
must() {
    answer=$(at "$@")
    [ "$answer" = OK ] || { echo "$*: $answer" >&2; exit 1; }
}

# Waits until the answer of every instance to a command matches a pattern.
wait_all() {
    pattern=$1
    shift
    for each in $instances; do
        tries=$((PATIENCE * 5))
        until at "$each" "$@" | grep -q "$pattern"; do
            tries=$((tries - 1))
            [ $tries -gt 0 ] || { echo "$each: '$*' does not show '$pattern' after $PATIENCE s" >&2; exit 1; }
            sleep 0.2
        done
    done
}

# Different epochs, so that no two instances ever quarrel about a slot.
epoch=0
for each in $instances; do
    epoch=$((epoch + 1))
    must "$each" CLUSTER SET-CONFIG-EPOCH $epoch
done
# Everybody meets everybody: quicker than waiting for hearsay.
for each in $instances; do
    for other in $instances; do
        [ "$each" = "$other" ] || must "$each" CLUSTER MEET "${other%:*}" "${other#*:}"
    done
done
must "$1:7001" CLUSTER ADDSLOTSRANGE 0 5460
must "$2:7001" CLUSTER ADDSLOTSRANGE 5461 10922
must "$3:7001" CLUSTER ADDSLOTSRANGE 10923 16383
wait_all cluster_known_nodes:6 CLUSTER INFO
wait_all cluster_state:ok CLUSTER INFO

must "$2:7002" CLUSTER REPLICATE "$(at "$1:7001" CLUSTER MYID)"
must "$3:7002" CLUSTER REPLICATE "$(at "$2:7001" CLUSTER MYID)"
must "$1:7002" CLUSTER REPLICATE "$(at "$3:7001" CLUSTER MYID)"
instances="$1:7002 $2:7002 $3:7002"
wait_all master_link_status:up INFO replication
