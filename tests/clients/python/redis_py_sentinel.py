"""redis-py, or valkey-py: its Sentinel class, asked for a service of the proxy. Silent on success. Arguments: HOST PORT FOLDER MODULE."""

import asyncio
import importlib

from checks import arguments, check, expect, wait_until

HOST, PORT, (MODULE,) = arguments()
SERVICE = "mymaster"
library = importlib.import_module(f"{MODULE}.sentinel")
exceptions = importlib.import_module(f"{MODULE}.exceptions")
asynchronous = importlib.import_module(f"{MODULE}.asyncio.sentinel")


def asked():
    sentinel = library.Sentinel([(HOST, PORT)], socket_timeout=5, min_other_sentinels=0)
    host, port = sentinel.discover_master(SERVICE)
    check((host, port) != (HOST, PORT), "the primary is at another address than the Sentinel")
    expect(sentinel.discover_slaves(SERVICE), [], "replicas")
    try:
        sentinel.discover_master("nobody")
        raise SystemExit("a service that is not there was found")
    except library.MasterNotFoundError:
        pass
    client = sentinel.sentinels[0]
    state = client.sentinel_master(SERVICE)
    expect((state["ip"], state["port"], state["flags"]), (host, port, "master"), "SENTINEL MASTER")
    expect(client.sentinel_get_master_addr_by_name(SERVICE), (host.encode(), port), "SENTINEL GET-MASTER-ADDR-BY-NAME")
    expect(client.sentinel_sentinels(SERVICE), [], "SENTINEL SENTINELS")
    return sentinel


def primary_and_replica(sentinel):
    primary = sentinel.master_for(SERVICE)
    expect(primary.set("py:sentinel", "v"), True, "SET")
    expect(primary.mset({f"py:s{number}": number for number in range(50)}), True, "MSET over all slots")
    # There is none, so the library takes the primary.
    replica = sentinel.slave_for(SERVICE)
    expect(replica.get("py:sentinel"), b"v", "GET of what was written")
    # When its connection is lost, the primary is asked for again; a command that meets the end of it may fail.
    sentinel.master_for(SERVICE).client_kill_filter(_id=primary.client_id())

    def works():
        try:
            return primary.get("py:s7") == b"7"
        except exceptions.ConnectionError:
            return False

    wait_until(works, "GET after the connection was lost")


async def same_with_asyncio():
    sentinel = asynchronous.Sentinel([(HOST, PORT)], socket_timeout=5)
    primary, replica = sentinel.master_for(SERVICE), sentinel.slave_for(SERVICE)
    expect(await primary.set("py:sentinel", "w"), True, "SET")
    expect(await replica.get("py:sentinel"), b"w", "GET of what was written")
    for client in [primary, replica, *sentinel.sentinels]:
        await client.aclose()


primary_and_replica(asked())
asyncio.run(asyncio.wait_for(same_with_asyncio(), 20))
