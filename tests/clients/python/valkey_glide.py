"""valkey-glide: the plain client and the one for clusters. Silent on success. Arguments: HOST PORT FOLDER KIND PROTOCOL."""

import asyncio

import glide
from checks import arguments, blocked, expect, id_of, run_async, text, wait_until_async

HOST, PORT, (KIND, PROTOCOL) = arguments()
IS_CLUSTER = KIND == "cluster"
COUNT = 200
glide.Logger.set_logger_config(glide.LogLevel.OFF)


async def connect(**settings):
    settings["protocol"] = {"2": glide.ProtocolVersion.RESP2, "3": glide.ProtocolVersion.RESP3}[PROTOCOL]
    settings["request_timeout"] = 5000
    addresses = [glide.NodeAddress(HOST, PORT)]
    if IS_CLUSTER:
        return await glide.GlideClusterClient.create(glide.GlideClusterClientConfiguration(addresses, **settings))
    return await glide.GlideClient.create(glide.GlideClientConfiguration(addresses, **settings))


async def client_list(client):
    return text(await client.custom_command(["CLIENT", "LIST"]))


async def strings(client):
    replies = await asyncio.gather(*[client.set(f"vg:s{i}", str(i)) for i in range(COUNT)])
    expect(set(replies), {"OK"}, "SET")
    keys = [f"vg:s{i}" for i in range(COUNT)]
    values = [str(i).encode() for i in range(COUNT)]
    expect(await asyncio.gather(*[client.get(key) for key in keys]), values, "GET")
    expect(await client.mget(keys), values, "MGET over all slots")
    expect(await client.delete(keys), COUNT, "DEL")
    expect(await client.mset({key: "x" for key in keys}), "OK", "MSET")
    expect(await client.incrby("vg:n", 5), 5, "INCRBY")


async def collections(client):
    expect(await client.hset("vg:h", {"a": "1", "b": "2"}), 2, "HSET")
    expect(await client.hgetall("vg:h"), {b"a": b"1", b"b": b"2"}, "HGETALL")
    expect(await client.rpush("vg:l", ["1", "2"]), 2, "RPUSH")
    expect(await client.lrange("vg:l", 0, -1), [b"1", b"2"], "LRANGE")
    expect(await client.sadd("vg:{t}1", ["a", "b"]), 2, "SADD")
    expect(await client.sadd("vg:{t}2", ["b"]), 1, "SADD")
    expect(await client.sinter(["vg:{t}1", "vg:{t}2"]), {b"b"}, "SINTER")
    expect(await client.zadd("vg:z", {"a": 1.5}), 1, "ZADD")
    expect(await client.zrange_withscores("vg:z", glide.RangeByIndex(0, -1)), {b"a": 1.5}, "ZRANGE WITHSCORES")


async def streams(client):
    entry = await client.xadd("vg:x", [("f", "1")])
    expect(await client.xgroup_create("vg:x", "g", "0"), "OK", "XGROUP CREATE")
    expect(await client.xreadgroup({"vg:x": ">"}, "g", "c"), {b"vg:x": {entry: [[b"f", b"1"]]}}, "XREADGROUP")
    expect(await client.xack("vg:x", "g", [entry]), 1, "XACK")


async def scripts(client):
    script = glide.Script("return {KEYS[1], ARGV[1]}")
    expect(await client.invoke_script(script, keys=["vg:s"], args=["v"]), [b"vg:s", b"v"], "EVALSHA")


async def pipelines(client):
    batch = glide.ClusterBatch(is_atomic=False) if IS_CLUSTER else glide.Batch(is_atomic=False)
    for i in range(COUNT):
        batch.set(f"vg:p{i}", str(i))
        batch.get(f"vg:p{i}")
    replies = await client.exec(batch, raise_on_error=True)
    expect(replies[1::2], [str(i).encode() for i in range(COUNT)], "pipelined GET")
    found = set()
    if IS_CLUSTER:
        cursor = glide.ClusterScanCursor()
        while not cursor.is_finished():
            cursor, keys = await client.scan(cursor, match="vg:p*", count=50)
            found.update(keys)
    else:
        cursor = b"0"
        while not found or cursor != b"0":
            cursor, keys = await client.scan(cursor, match="vg:p*", count=1000)
            found.update(keys)
    expect(len(found), COUNT, "SCAN")


async def transactions(client):
    batch = glide.ClusterBatch(is_atomic=True) if IS_CLUSTER else glide.Batch(is_atomic=True)
    batch.set("vg:{tx}a", "1")
    batch.incr("vg:{tx}a")
    expect(await client.exec(batch, raise_on_error=True), ["OK", 2], "MULTI EXEC")


async def watch(client):
    other = await connect()
    expect(await client.watch(["vg:{w}"]), "OK", "WATCH")
    await other.set("vg:{w}", "other")
    batch = glide.ClusterBatch(is_atomic=True) if IS_CLUSTER else glide.Batch(is_atomic=True)
    batch.set("vg:{w}", "mine")
    expect(await client.exec(batch, raise_on_error=True), None, "EXEC after a change")
    await other.close()


async def blocking(client):
    other = await connect(client_name="vg-blocked")
    expect(await other.blpop(["vg:{b}q"], 0.1), None, "BLPOP of nothing")
    waiting = asyncio.create_task(other.blpop(["vg:{b}q"], 10))
    if not IS_CLUSTER:
        await wait_until_async(lambda: is_blocked(client), "BLPOP waits")
    await client.rpush("vg:{b}q", ["1"])
    expect(await waiting, [b"vg:{b}q", b"1"], "BLPOP")
    await other.close()


async def is_blocked(client):
    return blocked(await client_list(client), "vg-blocked")


async def pubsub(client):
    if PROTOCOL == "2":
        # In RESP2 it does not see a real server confirm SUBSCRIBE either.
        return
    subscriber = await connect()
    await subscriber.subscribe({"vg:channel"}, timeout_ms=5000)
    await client.publish("one", "vg:channel")
    message = await subscriber.get_pubsub_message()
    expect((message.channel, message.message), (b"vg:channel", b"one"), "message")
    await subscriber.close()


async def reconnect(client):
    if IS_CLUSTER:
        # CLIENT KILL would have to find the node; the plain client shows it.
        return
    victim = await connect(client_name="vg-victim")
    expect(await victim.set("vg:r", "1"), "OK", "SET before")
    killed = await client.custom_command(["CLIENT", "KILL", "ID", id_of(await client_list(client), "vg-victim")])
    expect(killed, 1, "CLIENT KILL")
    await wait_until_async(lambda: works(victim), "the client connects again")
    await victim.close()


async def works(client):
    try:
        return await client.get("vg:r") == b"1"
    except glide.GlideError:
        return False


async def main():
    client = await connect()
    parts = (strings, collections, streams, scripts, pipelines, transactions, watch, blocking, pubsub, reconnect)
    await run_async(parts, client)
    await client.close()


asyncio.run(main())
