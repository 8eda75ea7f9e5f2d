"""redis-py with its cache: what it has read it keeps until it is told of a change. Silent on success. Arguments: HOST PORT FOLDER."""

import redis
from redis.cache import CacheConfig

from checks import arguments, expect, wait_until

HOST, PORT, _ = arguments()
KEYS = [f"cache:{number}" for number in range(20)]


def main():
    other = redis.Redis(host=HOST, port=PORT)
    client = redis.Redis(host=HOST, port=PORT, protocol=3, cache_config=CacheConfig())
    cache = client.get_cache()
    for turn in range(5):
        value = str(turn).encode()
        for key in KEYS:
            other.set(key, value)
        for key in KEYS:
            wait_until(lambda: client.get(key) == value, f"{key} is {value}")
        expect(cache.size, len(KEYS), "number of keys kept")
        for key in KEYS:
            expect(client.get(key), value, "what is kept")
    client.close()
    other.close()


main()
