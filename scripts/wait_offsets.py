#!/usr/bin/env python3
"""What has to go before WAIT on a connection that has not made the writes it is to count: tried on real servers.

    scripts/wait_offsets.py SERVER...      (paths of redis-server or valkey-server)

WAIT compares what replicas acknowledge with the offset that the server keeps for the calling connection. Here a cluster of a primary
and its replica takes a write of one connection while the replica is stopped; other connections then send a candidate and WAIT in one
piece. 0 is true, 1 a false positive. It fails if one of the two that the design needs lets WAIT say 1:

- up to Redis 7.0 any command that is executed sets the offset: PING;
- later ones only commands that have moved it. PUBLISH and SPUBLISH are not among them in a cluster, where the bus carries them. What
  moves it and changes nothing is FUNCTION RESTORE of a payload without libraries, APPEND. Its version is that of 7.0, which all read.

If FUNCTION RESTORE is refused (NOPERM, OOM, NOREPLICAS), a WAIT behind it says 1 from Redis 7.2 on: its reply has to be looked at. The
only error that leaves PING to do it is that of a server before 7.0, which quotes an unknown command in backticks.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time

DEADLINE = 20.0


def crc64(data):
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ 0x95AC9329AC4BC9B5 if crc & 1 else crc >> 1
    return crc


VERSION = b"\x0a\x00"
NO_LIBRARIES = VERSION + crc64(VERSION).to_bytes(8, "little")
PING = [b"PING"]
RESTORE = [b"FUNCTION", b"RESTORE", NO_LIBRARIES, b"APPEND"]
BACKTICKS = "-ERR unknown command `FUNCTION`"

CANDIDATES = {
    "nothing": [],
    "PING": [PING],
    "PUBLISH": [[b"PUBLISH", b"c", b""]],
    "SPUBLISH": [[b"SPUBLISH", b"c", b""]],
    "EXEC of nothing": [[b"MULTI"], [b"EXEC"]],
    "EXEC of PING": [[b"MULTI"], PING, [b"EXEC"]],
    "FUNCTION RESTORE": [RESTORE],
    "PING, FUNCTION RESTORE": [PING, RESTORE],
}
NEEDED = "PING, FUNCTION RESTORE"


class Connection:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)
        self.file = self.socket.makefile("rb")

    def read(self):
        line = self.file.readline()
        count = line[1:].strip()
        if line[:1] == b"*":
            return [self.read() for _ in range(int(count))]
        if line[:1] == b"$":
            return None if count == b"-1" else self.file.read(int(count) + 2)[:-2].decode("latin-1")
        return line.decode("latin-1").strip()

    def send(self, *commands):
        """Sends the commands in one piece; their replies."""
        piece = b""
        for words in commands:
            piece += b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
        self.socket.sendall(piece)
        return [self.read() for _ in commands]

    def say(self, line):
        return self.send(line.encode().split())[0]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # The bus is 10000 above it.
    return port if port < 55000 else port - 20000


def until(what, condition):
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        try:
            if condition():
                return
        except OSError:
            pass
        time.sleep(0.05)
    raise SystemExit(f"timed out: {what}")


def start(binary, folder):
    port = free_port()
    os.mkdir(folder)
    command = [binary, "--port", str(port), "--cluster-enabled", "yes", "--save", "", "--dir", folder]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    until("the server answers", lambda: Connection(port).say("PING") == "+PONG")
    return process, port


def connect(primary, replica):
    one, other = Connection(primary), Connection(replica)
    one.send([b"CLUSTER", b"ADDSLOTS", *(b"%d" % slot for slot in range(16384))])
    other.say(f"CLUSTER MEET 127.0.0.1 {primary}")
    name = one.say("CLUSTER MYID")
    until("it is a replica", lambda: other.say(f"CLUSTER REPLICATE {name}") == "+OK")
    until("it is in step", lambda: "state=online" in one.say("INFO replication"))
    until("the cluster is up", lambda: "cluster_state:ok" in one.say("CLUSTER INFO"))
    return one


def judge(one, primary):
    """Whether what the design needs is exact here."""
    exact = False
    one.say("SET k 2")
    print(f"  {'the connection that wrote':24} WAIT {one.say('WAIT 1 200')}")
    for name, commands in CANDIDATES.items():
        replies = Connection(primary).send(*commands, [b"WAIT", b"1", b"200"])
        said = replies[-2] if commands else ""
        print(f"  {name:24} WAIT {replies[-1]}   {str(said)[:60]}")
        if name == NEEDED:
            is_set = said == "+OK" or str(said).startswith(BACKTICKS)
            exact = is_set and replies[-1] == ":0"
    return exact


def try_out(binary):
    print(binary)
    with tempfile.TemporaryDirectory() as folder:
        processes = []
        try:
            first, primary = start(binary, os.path.join(folder, "primary"))
            processes.append(first)
            second, replica = start(binary, os.path.join(folder, "replica"))
            processes.append(second)
            one = connect(primary, replica)
            one.say("SET k 1")
            if one.say("WAIT 1 5000") != ":1":
                raise SystemExit("the replica acknowledges nothing")
            second.send_signal(signal.SIGSTOP)
            return judge(one, primary)
        finally:
            for process in processes:
                process.kill()
                process.wait()


if __name__ == "__main__":
    results = [try_out(binary) for binary in sys.argv[1:]]
    sys.exit(0 if results and all(results) else 1)
