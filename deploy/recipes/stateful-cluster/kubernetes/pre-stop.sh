#!/bin/sh
# preStop of a server: a primary hands its slots over to a replica that has everything, before it gets SIGTERM. Nothing is lost, and
# no client sees an error.
set -u

CLI=${CLI:-valkey-cli}
# Seconds; less than terminationGracePeriodSeconds.
PATIENCE=45

own() { $CLI -h "$POD_IP" -p 6379 "$@"; }
replication() { own INFO replication | tr -d '\r'; }

tries=$((PATIENCE * 5))
again=0
while replication | grep -q '^role:master'; do
    tries=$((tries - 1))
    if [ $tries -le 0 ]; then
        echo "no replica has taken over within $PATIENCE s: writes may be lost" >&2
        exit 1
    fi
    again=$((again - 1))
    replica=$(replication | sed -n 's/^slave[0-9]*:ip=\([^,]*\),port=\([0-9]*\),state=online,.*/\1 -p \2/p' | head -n 1)
    # Asked again after 6 s: a server gives a manual failover up after 5 s.
    if [ $again -le 0 ] && [ -n "$replica" ]; then
        # shellcheck disable=SC2086
        $CLI -h $replica CLUSTER FAILOVER
        again=30
    fi
    sleep 0.2
done
# For the requests that were held up meanwhile, which are now being redirected.
sleep 1
