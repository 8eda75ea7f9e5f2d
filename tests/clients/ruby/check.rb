# ruby-redis with its default settings: silent on success, a message and exit code 1 otherwise. Arguments: HOST PORT.

require "redis"
require "timeout"

HOST, PORT = ARGV[0], ARGV[1].to_i
LEFT_OUT = ENV.fetch("SLOTWAY_LEAVE_OUT", "").split(",")
DEADLINE = 15

def expect(actual, wanted, what)
  abort "ruby-redis: #{what}: got #{actual.inspect}, expected #{wanted.inspect}" unless actual == wanted
end

def wait_until(what)
  Timeout.timeout(DEADLINE, nil, what) { sleep 0.01 until yield }
end

def connect(**settings)
  Redis.new(host: HOST, port: PORT, **settings)
end

def line_of(client, name)
  client.call("CLIENT", "LIST").lines.find { |line| line.include?(" name=#{name} ") }.to_s
end

def blocked?(client, name)
  line_of(client, name).match?(/\bflags=\w*b/)
end

def strings(client)
  expect(client.ping, "PONG", "PING")
  expect(client.info["redis_mode"] || client.info["server_mode"], "standalone", "INFO")
  expect(client.set("rb:s", "héllo"), "OK", "SET")
  expect(client.get("rb:s"), "héllo", "GET")
  expect(client.incrby("rb:n", 5), 5, "INCRBY")
  expect(client.set("rb:s", "x", nx: true), false, "SET NX")
  keys = Array.new(50) { |i| "rb:m#{i}" }
  expect(client.mapped_mset(keys.to_h { |key| [key, key] }), "OK", "MSET")
  expect(client.mget(keys), keys, "MGET")
  expect(client.del(keys), 50, "DEL")
end

def collections(client)
  expect(client.hset("rb:h", { "a" => "1", "b" => "2" }), 2, "HSET")
  expect(client.hgetall("rb:h"), { "a" => "1", "b" => "2" }, "HGETALL")
  expect(client.rpush("rb:l", %w[1 2 3]), 3, "RPUSH")
  expect(client.lrange("rb:l", 0, -1), %w[1 2 3], "LRANGE")
  client.sadd?("rb:{t}1", "a")
  client.sadd?("rb:{t}2", "a")
  expect(client.sinter("rb:{t}1", "rb:{t}2"), ["a"], "SINTER")
  expect(client.zadd("rb:z", [[1.5, "a"], [2, "b"]]), 2, "ZADD")
  expect(client.zrange("rb:z", 0, -1, with_scores: true), [["a", 1.5], ["b", 2.0]], "ZRANGE WITHSCORES")
end

def streams(client)
  id = client.xadd("rb:x", { "f" => "1" })
  expect(client.xgroup(:create, "rb:x", "g", "0"), "OK", "XGROUP CREATE")
  expect(client.xreadgroup("g", "c", "rb:x", ">"), { "rb:x" => [[id, { "f" => "1" }]] }, "XREADGROUP")
  expect(client.xack("rb:x", "g", id), 1, "XACK")
end

def scripts(client)
  expect(client.eval("return {KEYS[1], ARGV[1]}", ["rb:s"], ["v"]), %w[rb:s v], "EVAL")
  sha = client.script(:load, "return redis.call('incr', KEYS[1])")
  20.times { |i| expect(client.evalsha(sha, ["rb:script#{i}"]), 1, "EVALSHA") }
end

def crossslot(client)
  client.eval("return 1", %w[a b])
  abort "ruby-redis: EVAL over two slots was not refused"
rescue Redis::CommandError => e
  expect(e.message.start_with?("CROSSSLOT "), true, "refusal of two slots: #{e.message}")
end

def pipelines(client)
  replies = client.pipelined do |pipe|
    500.times do |i|
      pipe.set("rb:p#{i}", i)
      pipe.get("rb:p#{i}")
    end
  end
  expect(replies.each_slice(2).map(&:last), Array.new(500, &:to_s), "pipelined GET")
  expect(client.scan_each(match: "rb:p*", count: 100).to_a.uniq.size, 500, "SCAN")
end

def transactions(client)
  replies = client.multi do |transaction|
    transaction.set("rb:{tx}a", 1)
    transaction.incr("rb:{tx}a")
  end
  expect(replies, ["OK", 2], "MULTI EXEC")
end

def watch(client)
  other = connect
  replies = client.watch("rb:{w}") do
    other.set("rb:{w}", "other")
    client.multi { |transaction| transaction.set("rb:{w}", "mine") }
  end
  expect(replies, nil, "EXEC after a change")
  replies = client.watch("rb:{w}") { client.multi { |transaction| transaction.set("rb:{w}", "mine") } }
  expect(replies, ["OK"], "WATCH, nobody interferes")
  other.close
end

def blocking(client)
  other = connect(id: "rb-blocked")
  other.call("CLIENT", "SETNAME", "rb-blocked")
  expect(other.blpop("rb:{b}q", timeout: 0.1), nil, "BLPOP of nothing")
  waiting = Thread.new { other.blpop("rb:{b}q", timeout: 10) }
  wait_until("BLPOP waits") { blocked?(client, "rb-blocked") }
  client.rpush("rb:{b}q", "1")
  expect(waiting.join(DEADLINE)&.value, ["rb:{b}q", "1"], "BLPOP")
  other.close
end

def pubsub(client)
  got = Queue.new
  subscriber = Thread.new do
    connection = connect
    connection.psubscribe("rb:pattern*") do |on|
      on.psubscribe { got << "subscribed" }
      on.pmessage do |_, channel, message|
        got << [channel, message]
        connection.punsubscribe
      end
      on.punsubscribe { got << "unsubscribed" }
    end
  end
  Timeout.timeout(DEADLINE) do
    expect(got.pop, "subscribed", "PSUBSCRIBE")
    # A cluster counts the subscribers at one of its nodes only: the number says nothing.
    client.publish("rb:pattern1", "one")
    expect(got.pop, ["rb:pattern1", "one"], "message")
    expect(got.pop, "unsubscribed", "PUNSUBSCRIBE")
  end
  subscriber.join(DEADLINE)
end

def reconnect(client)
  victim = connect
  victim.call("CLIENT", "SETNAME", "rb-victim")
  expect(victim.set("rb:r", "1"), "OK", "SET before")
  id = line_of(client, "rb-victim")[/\bid=(\d+)/, 1]
  expect(client.call("CLIENT", "KILL", "ID", id), 1, "CLIENT KILL")
  wait_until("the killed connection is gone") { line_of(client, "rb-victim").empty? }
  expect(victim.get("rb:r"), "1", "GET on a killed connection")
end

client = connect
%i[strings collections streams scripts crossslot pipelines transactions watch blocking pubsub reconnect].each do |family|
  Timeout.timeout(2 * DEADLINE, nil, family.to_s) { send(family, client) } unless LEFT_OUT.include?(family.to_s)
end
client.close
