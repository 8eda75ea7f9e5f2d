#!/bin/sh
# Readiness of a server: the cluster is whole, and a replica has everything. The next pod is not replaced before.
set -eu

CLI=${CLI:-valkey-cli}
own() { $CLI -h "$POD_IP" -p 6379 "$@" | tr -d '\r'; }

own CLUSTER INFO | grep -q '^cluster_state:ok'
own INFO replication | grep -q -e '^role:master' -e '^master_link_status:up'
