"""redis-py, or valkey-py: the plain client. Silent on success. Arguments: HOST PORT FOLDER MODULE PROTOCOL."""

import importlib

from checks import Background, arguments, blocked, expect, check, id_of, run, text, wait_until

HOST, PORT, (MODULE, PROTOCOL) = arguments()
library = importlib.import_module(MODULE)
Client = getattr(library, {"redis": "Redis", "valkey": "Valkey"}[MODULE])


def connect(**settings):
    if PROTOCOL != "default":
        settings["protocol"] = int(PROTOCOL)
    return Client(host=HOST, port=PORT, **settings)


def client_list(client):
    """As the server wrote it: redis-py would make a list of it."""
    client.set_response_callback("CLIENT LIST", lambda reply, **_: reply)
    return client.execute_command("CLIENT LIST")


def strings(client):
    expect(client.ping(), True, "PING")
    expect(client.info()["redis_mode" if "redis_mode" in client.info() else "server_mode"], "standalone", "INFO")
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
    large = b"x" * 3_000_000
    expect(client.set("py:large", large), True, "SET of 3 MB")
    expect(client.get("py:large") == large, True, "GET of 3 MB")


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
    expect(set(client.sinter("py:{t}1", "py:{t}2")), {b"b"}, "SINTER in one slot")
    expect(set(client.sscan_iter("py:{t}1")), {b"a", b"b"}, "SSCAN")
    expect(client.zadd("py:z", {"a": 1.5, "b": 2}), 2, "ZADD")
    expect(client.zscore("py:z", "a"), 1.5, "ZSCORE")
    pairs = [(member, score) for member, score in client.zrange("py:z", 0, -1, withscores=True)]
    expect(pairs, [(b"a", 1.5), (b"b", 2.0)], "ZRANGE WITHSCORES")


def streams(client):
    first = client.xadd("py:x", {"f": "1"})
    client.xadd("py:x", {"f": "2"})
    expect(client.xlen("py:x"), 2, "XLEN")
    expect(client.xrange("py:x")[0], (first, {b"f": b"1"}), "XRANGE")
    expect(client.xgroup_create("py:x", "g", id="0"), True, "XGROUP CREATE")
    got = client.xreadgroup("g", "c", {"py:x": ">"}, count=1)
    entries = got[b"py:x"][0] if isinstance(got, dict) else got[0][1]
    expect(entries[0], (first, {b"f": b"1"}), "XREADGROUP")
    expect(client.xpending("py:x", "g")["pending"], 1, "XPENDING")
    expect(client.xack("py:x", "g", first), 1, "XACK")
    expect(client.xinfo_groups("py:x")[0]["name"], b"g", "XINFO GROUPS")


def scripts(client):
    script = client.register_script("return {KEYS[1], ARGV[1]}")
    expect(script(keys=["py:s"], args=["v"]), [b"py:s", b"v"], "EVALSHA with SCRIPT LOAD")
    expect(client.eval("return redis.call('incr', KEYS[1])", 1, "py:script"), 1, "EVAL")
    lock = client.lock("py:lock", timeout=10)
    expect(lock.acquire(blocking=False), True, "lock")
    expect(client.lock("py:lock", timeout=10).acquire(blocking=False), False, "lock that is held")
    lock.extend(5)
    lock.release()


def crossslot(client):
    try:
        client.eval("return 1", 2, "a", "b")
    except library.exceptions.ResponseError as error:
        check("CROSSSLOT" in str(error) or "same slot" in str(error), f"refusal of two slots: {error}")
    else:
        raise SystemExit("EVAL over two slots was not refused")


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


def transactions(client):
    with client.pipeline() as pipe:
        pipe.set("py:{tx}a", 1).incr("py:{tx}a").rpush("py:{tx}l", "x").lrange("py:{tx}l", 0, -1)
        expect(pipe.execute(), [True, 2, 1, [b"x"]], "MULTI EXEC")
        pipe.set("py:{tx}a", "word").incr("py:{tx}a").get("py:{tx}a")
        replies = pipe.execute(raise_on_error=False)
        check(isinstance(replies[1], library.exceptions.ResponseError), "an error inside of a transaction")
        expect(replies[2], b"word", "the rest of that transaction")


def watch(client):
    client.set("py:{w}", 1)

    def double(pipe):
        value = int(pipe.get("py:{w}"))
        pipe.multi()
        pipe.set("py:{w}", 2 * value)

    expect(client.transaction(double, "py:{w}"), [True], "WATCH, nobody interferes")
    with client.pipeline() as pipe:
        pipe.watch("py:{w}")
        client.set("py:{w}", "other")
        pipe.multi()
        pipe.set("py:{w}", "mine")
        try:
            pipe.execute()
        except library.exceptions.WatchError:
            pass
        else:
            raise SystemExit("WATCH: a change was not noticed")
    expect(client.get("py:{w}"), b"other", "the value that another set")


def blocking(client):
    other = connect(client_name="py-blocked")
    expect(client.rpush("py:{b}q", "1"), 1, "RPUSH")
    expect(tuple(other.blpop(["py:{b}none", "py:{b}q"], timeout=5)), (b"py:{b}q", b"1"), "BLPOP that need not wait")
    expect(other.blpop("py:{b}q", timeout=0.1), None, "BLPOP of nothing")
    waiting = Background(lambda: other.blpop("py:{b}q", timeout=30))
    wait_until(lambda: blocked(client_list(client), "py-blocked"), "BLPOP waits")
    client.rpush("py:{b}q", "2")
    expect(tuple(waiting.join("BLPOP")), (b"py:{b}q", b"2"), "BLPOP")
    waiting = Background(lambda: other.xread({"py:{b}x": "$"}, block=30_000))
    wait_until(lambda: blocked(client_list(client), "py-blocked"), "XREAD waits")
    entry = client.xadd("py:{b}x", {"f": "v"})
    got = waiting.join("XREAD BLOCK")
    entries = got[b"py:{b}x"][0] if isinstance(got, dict) else got[0][1]
    expect(entries, [(entry, {b"f": b"v"})], "XREAD BLOCK")
    expect(other.zadd("py:{b}z", {"a": 1}), 1, "ZADD")
    expect([part if isinstance(part, bytes) else float(part) for part in other.bzpopmin("py:{b}z", 5)], [b"py:{b}z", b"a", 1.0], "BZPOPMIN")
    expect(other.blmove("py:{b}none", "py:{b}q", 0.1), None, "BLMOVE of nothing")
    other.close()


def pubsub(client):
    subscriber = client.pubsub()
    subscriber.subscribe("py:channel")
    subscriber.psubscribe("py:pattern*")

    def next_message():
        return subscriber.get_message(timeout=15)

    expect({next_message()["type"], next_message()["type"]}, {"subscribe", "psubscribe"}, "confirmations")
    # A cluster counts the subscribers at one of its nodes only: the number says nothing.
    client.publish("py:channel", "one")
    message = next_message()
    expect((message["type"], message["channel"], message["data"]), ("message", b"py:channel", b"one"), "message")
    client.publish("py:pattern1", "two")
    message = next_message()
    expect((message["type"], message["pattern"], message["data"]), ("pmessage", b"py:pattern*", b"two"), "pmessage")
    subscriber.unsubscribe("py:channel")
    expect(next_message()["type"], "unsubscribe", "UNSUBSCRIBE")
    client.publish("py:channel", "three")
    client.publish("py:pattern1", "four")
    expect(next_message()["data"], b"four", "the next message after UNSUBSCRIBE")
    subscriber.close()


def reconnect(client):
    victim = connect(client_name="py-victim")
    expect(victim.set("py:r", "1"), True, "SET before")
    killed = client.execute_command("CLIENT", "KILL", "ID", id_of(client_list(client), "py-victim"))
    expect(killed, 1, "CLIENT KILL")
    wait_until(lambda: "name=py-victim" not in text(client_list(client)), "the killed connection is gone")
    expect(victim.get("py:r"), b"1", "GET on a killed connection")
    expect(victim.client_getname() in ("py-victim", b"py-victim"), True, "name after the reconnect")
    victim.close()


def main():
    client = connect()
    parts = (strings, collections, streams, scripts, crossslot, pipelines, transactions, watch, blocking, pubsub, reconnect)
    run(parts, client)
    client.close()


main()
