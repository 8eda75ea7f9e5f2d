"""RedisCluster of redis-py, or valkey-py, plain and with asyncio. Silent on success. Arguments: HOST PORT FOLDER MODULE PROTOCOL."""

import asyncio
import importlib

from checks import arguments, check, expect, run, run_async, wait_until

HOST, PORT, (MODULE, PROTOCOL) = arguments()
NAME = {"redis": "RedisCluster", "valkey": "ValkeyCluster"}[MODULE]
plain = importlib.import_module(f"{MODULE}.cluster")
with_asyncio = importlib.import_module(f"{MODULE}.asyncio.cluster")
exceptions = importlib.import_module(f"{MODULE}.exceptions")
COUNT = 200


def settings(**more):
    if PROTOCOL != "default":
        more["protocol"] = int(PROTOCOL)
    return {"host": HOST, "port": PORT, "decode_responses": True, **more}


def strings(client):
    for i in range(COUNT):
        expect(client.set(f"pc:s{i}", i), True, "SET")
    expect([client.get(f"pc:s{i}") for i in range(COUNT)], [str(i) for i in range(COUNT)], "GET")
    expect(client.mget_nonatomic([f"pc:s{i}" for i in range(COUNT)]), [str(i) for i in range(COUNT)], "MGET by slots")
    expect(client.delete(*[f"pc:s{i}" for i in range(COUNT)]), COUNT, "DEL")
    expect(client.dbsize(), 0, "DBSIZE")


def collections(client):
    expect(client.hset("pc:h", mapping={"a": 1, "b": 2}), 2, "HSET")
    expect(client.hgetall("pc:h"), {"a": "1", "b": "2"}, "HGETALL")
    expect(client.zadd("pc:z", {"a": 1.5}), 1, "ZADD")
    expect(client.zscore("pc:z", "a"), 1.5, "ZSCORE")
    entry = client.xadd("pc:x", {"f": "v"})
    expect(client.xrange("pc:x"), [(entry, {"f": "v"})], "XRANGE")


def scripts(client):
    script = client.register_script("return {KEYS[1], ARGV[1]}")
    expect(script(keys=["pc:s"], args=["v"]), ["pc:s", "v"], "EVALSHA with SCRIPT LOAD")


def pipelines(client):
    with client.pipeline() as pipe:
        for i in range(COUNT):
            pipe.set(f"pc:p{i}", i)
            pipe.get(f"pc:p{i}")
        expect(pipe.execute()[1::2], [str(i) for i in range(COUNT)], "pipelined GET")
    found = set(client.scan_iter("pc:p*", count=50))
    expect(found, {f"pc:p{i}" for i in range(COUNT)}, "SCAN")


def transactions(client):
    if MODULE == "valkey":
        # Its cluster class has no transactions.
        return
    with client.pipeline(transaction=True) as pipe:
        pipe.set("pc:{tx}a", 1)
        pipe.incr("pc:{tx}a")
        expect(pipe.execute()[1], 2, "MULTI EXEC")


def blocking(client):
    client.rpush("pc:{b}q", "1")
    expect(tuple(client.blpop("pc:{b}q", timeout=5)), ("pc:{b}q", "1"), "BLPOP")
    expect(client.blpop("pc:{b}q", timeout=0.1), None, "BLPOP of nothing")


def pubsub(client):
    subscriber = client.pubsub()
    subscriber.subscribe("pc:channel")
    expect(subscriber.get_message(timeout=15)["type"], "subscribe", "confirmation")
    # A cluster counts the subscribers at one of its nodes only: the number says nothing.
    client.publish("pc:channel", "one")
    expect(subscriber.get_message(timeout=15)["data"], "one", "message")
    subscriber.close()


def reconnect(client):
    victim = getattr(plain, NAME)(**settings(client_name="pc-victim"))
    expect(victim.set("pc:r", "1"), True, "SET before")
    target = client.get_node_from_key("pc:r")
    listed = client.execute_command("CLIENT KILL", "TYPE", "normal", "SKIPME", "yes", target_nodes=target)
    check(int(listed) > 0, "CLIENT KILL")
    wait_until(lambda: "pc-victim" not in str(client.execute_command("CLIENT LIST", target_nodes=target)), "the victim is gone")
    expect(victim.get("pc:r"), "1", "GET on a killed connection")
    victim.close()


async def async_strings(client):
    await asyncio.gather(*[client.set(f"pca:s{i}", i) for i in range(80)])
    await client.mset_nonatomic({f"pca:s{i}": i for i in range(80, COUNT)})
    expect(await client.mget_nonatomic([f"pca:s{i}" for i in range(COUNT)]), [str(i) for i in range(COUNT)], "MGET by slots")
    pipe = client.pipeline()
    for i in range(COUNT):
        pipe.get(f"pca:s{i}")
    expect(await pipe.execute(), [str(i) for i in range(COUNT)], "pipelined GET")
    expect(len({key async for key in client.scan_iter("pca:s*")}), COUNT, "SCAN")


async def check_async():
    async with getattr(with_asyncio, NAME)(**settings()) as client:
        await run_async((async_strings,), client)


def main():
    client = getattr(plain, NAME)(**settings())
    run((strings, collections, scripts, pipelines, transactions, blocking, pubsub, reconnect), client)
    client.close()
    asyncio.run(check_async())


main()
