"""coredis (RESP3 only): the plain client and the one for clusters. Silent on success. Arguments: HOST PORT FOLDER KIND."""

import asyncio

import coredis
from checks import arguments, blocked, expect, id_of, run_async, wait_until_async

HOST, PORT, (KIND,) = arguments()
IS_CLUSTER = KIND == "cluster"
COUNT = 200


def connect(**settings):
    if IS_CLUSTER:
        return coredis.RedisCluster(HOST, PORT, decode_responses=True, **settings)
    return coredis.Redis(HOST, PORT, decode_responses=True, **settings)


async def client_list(client):
    """As text: coredis makes a list of dictionaries of it."""
    reply = await client.client_list()
    return "\n".join(" ".join(f"{name}={value}" for name, value in row.items()) + " " for row in reply)


async def strings(client):
    keys = [f"co:s{i}" for i in range(COUNT)]
    values = [str(i) for i in range(COUNT)]

    async def set_and_get(key, value):
        await client.set(key, value)
        return await client.get(key)

    expect(await asyncio.gather(*map(set_and_get, keys, values)), values, "SET and GET")
    expect(list(await client.mget(keys)), values, "MGET over all slots")
    expect(await client.delete(keys), COUNT, "DEL")
    expect(await client.mset(dict(zip(keys, values))), True, "MSET")
    expect(await client.incrby("co:n", 5), 5, "INCRBY")


async def collections(client):
    expect(await client.hset("co:h", {"a": "1", "b": "2"}), 2, "HSET")
    expect(await client.hgetall("co:h"), {"a": "1", "b": "2"}, "HGETALL")
    expect(await client.rpush("co:l", ["1", "2"]), 2, "RPUSH")
    expect(await client.lrange("co:l", 0, -1), ["1", "2"], "LRANGE")
    expect(await client.sadd("co:t", ["a", "b"]), 2, "SADD")
    expect({member async for member in client.sscan_iter("co:t")}, {"a", "b"}, "SSCAN")
    expect(await client.zadd("co:z", {"a": 1.5}), 1, "ZADD")
    expect(await client.zscore("co:z", "a"), 1.5, "ZSCORE")


async def streams(client):
    entry = await client.xadd("co:x", {"f": "1"})
    expect(await client.xgroup_create("co:x", "g", "0"), True, "XGROUP CREATE")
    read = await client.xreadgroup("g", "c", {"co:x": ">"})
    expect(read["co:x"][0].identifier, entry, "XREADGROUP")
    expect(await client.xack("co:x", "g", [entry]), 1, "XACK")


async def scripts(client):
    script = client.register_script("return {KEYS[1], ARGV[1]}")
    expect(list(await script(keys=["co:s"], args=["v"])), ["co:s", "v"], "EVALSHA")


async def pipelines(client):
    async with client.pipeline(transaction=False) as pipe:
        for i in range(COUNT):
            pipe.set(f"co:p{i}", str(i))
        values = [pipe.get(f"co:p{i}") for i in range(COUNT)]
    expect([await value for value in values], [str(i) for i in range(COUNT)], "pipelined GET")
    expect(len({key async for key in client.scan_iter(match="co:p*", count=50)}), COUNT, "SCAN")


async def transactions(client):
    async with client.pipeline(transaction=True) as pipe:
        pipe.set("co:{tx}a", "1")
        value = pipe.incr("co:{tx}a")
    expect(await value, 2, "MULTI EXEC")


async def watch(client):
    if IS_CLUSTER:
        # Its cluster class has no such function.
        return
    await client.set("co:{w}", "1")
    rounds = []

    async def double(pipe):
        rounds.append(1)
        before = int(await client.get("co:{w}"))
        if len(rounds) == 1:
            await client.set("co:{w}", "10")
        pipe.set("co:{w}", str(2 * before))

    await client.transaction(double, "co:{w}")
    expect((await client.get("co:{w}"), len(rounds)), ("20", 2), "WATCH: a change was noticed")


async def blocking(client):
    async def take():
        if IS_CLUSTER:
            return await client.blpop(["co:{b}q"], 10)
        async with connect(client_name="co-blocked") as other:
            return await other.blpop(["co:{b}q"], 10)

    expect(await client.blpop(["co:{b}q"], 0.1), None, "BLPOP of nothing")
    waiting = asyncio.create_task(take())
    if not IS_CLUSTER:
        await wait_until_async(lambda: is_blocked(client), "BLPOP waits")
    await client.rpush("co:{b}q", ["1"])
    expect(list(await waiting), ["co:{b}q", "1"], "BLPOP")


async def is_blocked(client):
    return blocked(await client_list(client), "co-blocked")


async def pubsub(client):
    async with client.pubsub(channels=["co:channel"], ignore_subscribe_messages=True) as subscriber:
        await client.publish("co:channel", "one")
        async for message in subscriber:
            expect((message["channel"], message["data"]), ("co:channel", "one"), "message")
            break


async def reconnect(client):
    if IS_CLUSTER:
        # CLIENT KILL would have to find the node; the plain client shows it.
        return
    async with connect(client_name="co-victim") as victim:
        expect(await victim.set("co:r", "1"), True, "SET before")
        killed = await client.client_kill(identifier=int(id_of(await client_list(client), "co-victim")))
        expect(killed, 1, "CLIENT KILL")
        expect(await victim.get("co:r"), "1", "GET on a killed connection")


async def main():
    async with connect() as client:
        parts = (strings, collections, streams, scripts, pipelines, transactions, watch, blocking, pubsub, reconnect)
        await run_async(parts, client)


asyncio.run(main())
