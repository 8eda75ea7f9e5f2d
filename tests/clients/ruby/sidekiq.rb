# What Sidekiq does to a server, with ruby-redis: queues as lists of which workers wait for several, jobs for later and for another try in
# sorted sets, scripts and transactions over keys of many slots. Silent on success, a message and exit code 1 otherwise. Arguments: HOST PORT.

require "digest"
require "json"
require "redis"
require "timeout"

HOST, PORT = ARGV[0], ARGV[1].to_i
QUEUES = %w[critical default low].freeze
PRODUCERS, CONSUMERS, JOBS = 4, 4, 75
TOTAL = PRODUCERS * JOBS
DEADLINE = 30
Thread.abort_on_exception = true
Thread.report_on_exception = false

# The first job of a sorted set that is due: taken by one poller only.
POP_DUE = <<~LUA.freeze
  local due = redis.call("zrangebyscore", KEYS[1], "-inf", ARGV[1], "limit", 0, 1)
  if due[1] then redis.call("zrem", KEYS[1], due[1]) end
  return due[1]
LUA

# A lock of a job that is not to be done twice, with its counters: keys of three slots.
ONCE = <<~LUA.freeze
  if redis.call("set", KEYS[1], ARGV[1], "nx", "ex", 60) then
    return redis.call("incr", KEYS[2])
  end
  redis.call("incr", KEYS[3])
  return 0
LUA

DIGESTS = [POP_DUE, ONCE].to_h { |script| [script, Digest::SHA1.hexdigest(script)] }.freeze

def expect(actual, wanted, what)
  abort "sidekiq: #{what}: got #{actual.inspect}, expected #{wanted.inspect}" unless actual == wanted
end

def connect
  Redis.new(host: HOST, port: PORT)
end

# As libraries do it: by the digest, and with the text if the server does not know that.
def run_script(client, script, keys, arguments)
  client.evalsha(DIGESTS.fetch(script), keys, arguments)
rescue Redis::CommandError => error
  raise unless error.message.start_with?("NOSCRIPT")

  client.eval(script, keys, arguments)
end

def push(client, jobs)
  client.multi do |transaction|
    jobs.group_by { |job| job["queue"] }.each do |queue, group|
      transaction.sadd("queues", [queue])
      transaction.lpush("queue:#{queue}", group.map { |job| JSON.generate(job) })
    end
  end
end

# Each fifth job is for later, each seventh fails when it is tried first.
def produce(number)
  client = connect
  jobs = Array.new(JOBS) do |i|
    id = number * JOBS + i
    { "jid" => "job-#{id}", "queue" => QUEUES[id % 3], "fails" => (id % 7).zero? }
  end
  later, now = jobs.partition.with_index { |_, i| (i % 5).zero? }
  now.each_slice(10) { |slice| push(client, slice) }
  client.zadd("schedule", later.map.with_index { |job, i| [Time.now.to_f + 0.01 * i, JSON.generate(job)] })
  client.close
end

def consume(number)
  client = connect
  until client.get("quiet")
    queue, text = client.brpop(QUEUES.shuffle.map { |name| "queue:#{name}" }, timeout: 1)
    next unless queue

    job = JSON.parse(text)
    expect("queue:#{job["queue"]}", queue, "the queue of a job")
    client.hset("process-#{number}:work", "thread", text)
    job["fails"] ? try_again(client, job) : succeed(client, job)
    client.hdel("process-#{number}:work", "thread")
  end
  client.close
end

def try_again(client, job)
  client.multi do |transaction|
    transaction.incr("stat:failed")
    transaction.zadd("retry", Time.now.to_f + 0.05, JSON.generate(job.merge("fails" => false, "retry_count" => 1)))
  end
end

def succeed(client, job)
  id = job["jid"]
  expect(run_script(client, ONCE, ["lock:#{id}", "stat:processed", "stat:twice"], ["1"]).positive?, true, "#{id} is done once")
  client.pipelined do |pipe|
    pipe.incr("stat:processed:#{Time.now.strftime("%F")}")
    pipe.lpush("done", id)
  end
end

# Moves what is due into the queues.
def poll
  client = connect
  until client.get("quiet")
    now = Time.now.to_f
    while (text = run_script(client, POP_DUE, ["schedule"], [now]))
      push(client, [JSON.parse(text)])
    end
    # The older way: who removes it has it.
    client.zrangebyscore("retry", "-inf", now, limit: [0, 10]).each do |found|
      push(client, [JSON.parse(found)]) if client.zrem("retry", found)
    end
    sleep 0.02
  end
  client.close
end

def beat(client)
  client.pipelined do |pipe|
    pipe.sadd("processes", ["process-1"])
    pipe.hset("process-1", { "busy" => "1", "beat" => "1" })
    pipe.expire("process-1", 60)
    pipe.rpop("process-1-signals")
  end
  replies = client.pipelined do |pipe|
    QUEUES.each { |queue| pipe.llen("queue:#{queue}") }
    %w[schedule retry dead].each { |set| pipe.zcard(set) }
    pipe.scard("processes")
  end
  expect(replies.last, 1, "the number of processes")
  replies[0..-2].sum
end

client = connect
Timeout.timeout(DEADLINE, nil, "all jobs") do
  # Consumers wait before there is anything.
  consumers = Array.new(CONSUMERS) { |number| Thread.new { consume(number) } }
  pollers = Array.new(2) { Thread.new { poll } }
  producers = Array.new(PRODUCERS) { |number| Thread.new { produce(number) } }
  producers.each(&:join)
  sleep 0.02 until client.llen("done") >= TOTAL
  client.set("quiet", "1")
  (consumers + pollers).each(&:join)
  expect(beat(client), 0, "what is left")
end
expect(client.lrange("done", 0, -1).sort, Array.new(TOTAL) { |id| "job-#{id}" }.sort, "the jobs")
failed = Array.new(TOTAL) { |id| id }.count { |id| (id % 7).zero? }
expect(client.mget("stat:processed", "stat:failed", "stat:twice"), [TOTAL.to_s, failed.to_s, nil], "the counters")
expect(client.smembers("queues").sort, QUEUES, "the queues")
client.close
