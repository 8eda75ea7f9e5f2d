"""redis-py with its default settings through the proxy: silent on success, an exception otherwise."""

import sys

import redis


def expect(actual, wanted, what):
    if actual != wanted:
        raise SystemExit(f"redis-py: {what}: got {actual!r}, expected {wanted!r}")


def strings(client):
    expect(client.set("py:s", "héllo"), True, "SET")
    expect(client.get("py:s"), "héllo".encode(), "GET")
    expect(client.incrby("py:n", 5), 5, "INCRBY")
    expect(client.set("py:s", "x", nx=True), None, "SET NX")
    expect(client.expire("py:s", 100), True, "EXPIRE")
    expect(client.ttl("py:s") > 90, True, "TTL")
    expect(client.mset({f"py:m{i}": i for i in range(50)}), True, "MSET over all slots")
    expect(client.mget([f"py:m{i}" for i in range(51)]), [str(i).encode() for i in range(50)] + [None], "MGET")
    expect(client.exists("py:m1", "py:m2", "py:none"), 2, "EXISTS")
    expect(client.delete(*[f"py:m{i}" for i in range(50)]), 50, "DEL")
    expect(client.set("py:e", b"\x00\r\n\xff", ex=100), True, "SET EX")
    expect(client.get("py:e"), b"\x00\r\n\xff", "binary GET")


def collections(client):
    expect(client.hset("py:h", mapping={"a": 1, "b": 2}), 2, "HSET")
    expect(client.hgetall("py:h"), {b"a": b"1", b"b": b"2"}, "HGETALL")
    expect(client.hmget("py:h", "a", "none"), [b"1", None], "HMGET")
    expect(dict(client.hscan_iter("py:h")), {b"a": b"1", b"b": b"2"}, "HSCAN")
    expect(client.rpush("py:l", "1", "2", "3"), 3, "RPUSH")
    expect(client.lrange("py:l", 0, -1), [b"1", b"2", b"3"], "LRANGE")
    expect(client.lpop("py:l", 2), [b"1", b"2"], "LPOP")
    expect(client.sadd("py:{t}1", "a", "b"), 2, "SADD")
    expect(client.sadd("py:{t}2", "b", "c"), 2, "SADD")
    expect(client.sinter("py:{t}1", "py:{t}2"), {b"b"}, "SINTER in one slot")
    expect(client.zadd("py:z", {"a": 1.5, "b": 2}), 2, "ZADD")
    expect(client.zscore("py:z", "a"), 1.5, "ZSCORE")
    expect(
        [(member, score) for member, score in client.zrange("py:z", 0, -1, withscores=True)],
        [(b"a", 1.5), (b"b", 2.0)],
        "ZRANGE WITHSCORES",
    )


def streams(client):
    first = client.xadd("py:x", {"f": "1"})
    client.xadd("py:x", {"f": "2"})
    expect(client.xlen("py:x"), 2, "XLEN")
    expect(client.xrange("py:x")[0], (first, {b"f": b"1"}), "XRANGE")
    expect(client.xgroup_create("py:x", "g", id="0"), True, "XGROUP CREATE")
    got = client.xreadgroup("g", "c", {"py:x": ">"}, count=1)
    entries = got[b"py:x"][0] if isinstance(got, dict) else got[0][1]
    expect(entries[0], (first, {b"f": b"1"}), "XREADGROUP")
    expect(client.xack("py:x", "g", first), 1, "XACK")


def scripts(client):
    script = client.register_script("return {KEYS[1], ARGV[1]}")
    expect(script(keys=["py:s"], args=["v"]), [b"py:s", b"v"], "EVALSHA with SCRIPT LOAD")
    expect(client.eval("return redis.call('incr', KEYS[1])", 1, "py:script"), 1, "EVAL")
    try:
        client.eval("return 1", 2, "a", "b")
    except redis.exceptions.ResponseError as error:
        if "CROSSSLOT" not in str(error) and "same slot" not in str(error):
            raise
    else:
        raise SystemExit("redis-py: EVAL over two slots was not refused")


def pipelines(client):
    pipe = client.pipeline(transaction=False)
    for i in range(500):
        pipe.set(f"py:p{i}", i)
        pipe.get(f"py:p{i}")
    pipe.mget([f"py:p{i}" for i in range(500)])
    replies = pipe.execute()
    expect(replies[1:1000:2], [str(i).encode() for i in range(500)], "pipelined GET")
    expect(replies[1000], [str(i).encode() for i in range(500)], "pipelined MGET")
    found = set(client.scan_iter("py:p*", count=100))
    expect(found, {f"py:p{i}".encode() for i in range(500)}, "SCAN")


def main():
    host, port = sys.argv[1], int(sys.argv[2])
    client = redis.Redis(host=host, port=port)
    expect(client.ping(), True, "PING")
    expect(client.info()["redis_mode"], "standalone", "INFO")
    for part in (strings, collections, streams, scripts, pipelines):
        part(client)
    client.close()
    old = redis.Redis(host=host, port=port, protocol=2, client_name="old", db=0)
    expect(old.client_getname(), "old", "CLIENT SETNAME")
    expect(old.hgetall("py:h"), {b"a": b"1", b"b": b"2"}, "HGETALL in RESP2")
    old.close()


main()
