"""redis-py, or valkey-py, with asyncio. Silent on success. Arguments: HOST PORT FOLDER MODULE PROTOCOL."""

import asyncio
import importlib

from checks import arguments, blocked, check, expect, id_of, run_async, text, wait_until_async

HOST, PORT, (MODULE, PROTOCOL) = arguments()
library = importlib.import_module(f"{MODULE}.asyncio")
exceptions = importlib.import_module(f"{MODULE}.exceptions")
Client = getattr(library, {"redis": "Redis", "valkey": "Valkey"}[MODULE])


def connect(**settings):
    if PROTOCOL != "default":
        settings["protocol"] = int(PROTOCOL)
    return Client(host=HOST, port=PORT, decode_responses=True, **settings)


async def client_list(client):
    client.set_response_callback("CLIENT LIST", lambda reply, **_: reply)
    return text(await client.execute_command("CLIENT LIST"))


async def strings(client):
    expect(await client.set("pa:s", "héllo"), True, "SET")
    expect(await client.get("pa:s"), "héllo", "GET")
    await asyncio.gather(*[client.incr("pa:n") for _ in range(80)])
    expect(await client.get("pa:n"), "80", "INCR of 80 tasks, each on a connection")
    expect(await client.mset({f"pa:m{i}": i for i in range(50)}), True, "MSET")
    expect(await client.mget([f"pa:m{i}" for i in range(50)]), [str(i) for i in range(50)], "MGET")
    expect(await client.delete(*[f"pa:m{i}" for i in range(50)]), 50, "DEL")


async def collections(client):
    expect(await client.hset("pa:h", mapping={"a": 1, "b": 2}), 2, "HSET")
    expect(await client.hgetall("pa:h"), {"a": "1", "b": "2"}, "HGETALL")
    expect(await client.rpush("pa:l", "1", "2", "3"), 3, "RPUSH")
    expect(await client.lrange("pa:l", 0, -1), ["1", "2", "3"], "LRANGE")
    expect(await client.sadd("pa:t", "a", "b"), 2, "SADD")
    expect(set(await client.smembers("pa:t")), {"a", "b"}, "SMEMBERS")
    expect(await client.zadd("pa:z", {"a": 1.5, "b": 2}), 2, "ZADD")
    expect([tuple(pair) for pair in await client.zrange("pa:z", 0, -1, withscores=True)], [("a", 1.5), ("b", 2.0)], "ZRANGE")


async def streams(client):
    first = await client.xadd("pa:x", {"f": "1"})
    expect(await client.xgroup_create("pa:x", "g", id="0"), True, "XGROUP CREATE")
    got = await client.xreadgroup("g", "c", {"pa:x": ">"}, count=1)
    entries = got["pa:x"][0] if isinstance(got, dict) else got[0][1]
    expect(entries[0], (first, {"f": "1"}), "XREADGROUP")
    expect(await client.xack("pa:x", "g", first), 1, "XACK")


async def scripts(client):
    script = client.register_script("return {KEYS[1], ARGV[1]}")
    expect(await script(keys=["pa:s"], args=["v"]), ["pa:s", "v"], "EVALSHA with SCRIPT LOAD")
    async with client.lock("pa:lock", timeout=10, blocking_timeout=5):
        check(await client.exists("pa:lock"), "the lock is held")


async def pipelines(client):
    pipe = client.pipeline(transaction=False)
    for i in range(500):
        pipe.set(f"pa:p{i}", i)
        pipe.get(f"pa:p{i}")
    expect((await pipe.execute())[1::2], [str(i) for i in range(500)], "pipelined GET")
    found = {key async for key in client.scan_iter("pa:p*", count=100)}
    expect(found, {f"pa:p{i}" for i in range(500)}, "SCAN")


async def transactions(client):
    async with client.pipeline() as pipe:
        pipe.set("pa:{tx}a", 1).incr("pa:{tx}a").rpush("pa:{tx}l", "x")
        expect(await pipe.execute(), [True, 2, 1], "MULTI EXEC")


async def watch(client):
    async with client.pipeline() as pipe:
        await pipe.watch("pa:{w}")
        await client.set("pa:{w}", "other")
        pipe.multi()
        pipe.set("pa:{w}", "mine")
        try:
            await pipe.execute()
        except exceptions.WatchError:
            pass
        else:
            raise SystemExit("WATCH: a change was not noticed")
        await pipe.watch("pa:{w}")
        pipe.multi()
        pipe.set("pa:{w}", "mine")
        expect(await pipe.execute(), [True], "WATCH, nobody interferes")


async def blocking(client):
    other = connect(client_name="pa-blocked")
    waiting = asyncio.create_task(other.blpop("pa:{b}q", timeout=30))
    await wait_until_async(lambda: is_blocked(client), "BLPOP waits")
    await client.rpush("pa:{b}q", "1")
    expect(tuple(await waiting), ("pa:{b}q", "1"), "BLPOP")
    expect(await other.brpop("pa:{b}q", timeout=0.1), None, "BRPOP of nothing")
    # A caller that gives up: its connection is closed, and takes nothing.
    waiting = asyncio.create_task(other.blpop("pa:{b}q", timeout=30))
    await wait_until_async(lambda: is_blocked(client), "BLPOP waits")
    waiting.cancel()
    await asyncio.wait([waiting])
    await wait_until_async(lambda: is_gone(client), "the cancelled BLPOP is gone")
    await client.rpush("pa:{b}q", "2")
    expect(await client.lrange("pa:{b}q", 0, -1), ["2"], "what a cancelled BLPOP leaves")
    await other.aclose()


async def is_blocked(client):
    return blocked(await client_list(client), "pa-blocked")


async def is_gone(client):
    return not blocked(await client_list(client), "pa-blocked")


async def pubsub(client):
    async with client.pubsub() as subscriber:
        await subscriber.subscribe("pa:channel")
        await subscriber.psubscribe("pa:pattern*")
        for _ in range(2):
            check("subscribe" in (await subscriber.get_message(timeout=15))["type"], "confirmation")
        # A cluster counts the subscribers at one of its nodes only: the number says nothing.
        await client.publish("pa:channel", "one")
        expect((await subscriber.get_message(timeout=15))["data"], "one", "message")
        await client.publish("pa:pattern1", "two")
        expect((await subscriber.get_message(timeout=15))["data"], "two", "pmessage")


async def is_closed(client):
    return "name=pa-victim" not in await client_list(client)


async def reconnect(client):
    victim = connect(client_name="pa-victim")
    expect(await victim.set("pa:r", "1"), True, "SET before")
    victim_id = id_of(await client_list(client), "pa-victim")
    expect(await client.execute_command("CLIENT", "KILL", "ID", victim_id), 1, "CLIENT KILL")
    await wait_until_async(lambda: is_closed(client), "the killed connection is gone")
    expect(await victim.get("pa:r"), "1", "GET on a killed connection")
    await victim.aclose()


async def main():
    client = connect()
    parts = (strings, collections, streams, scripts, pipelines, transactions, watch, blocking, pubsub, reconnect)
    await run_async(parts, client)
    await client.aclose()


asyncio.run(main())
