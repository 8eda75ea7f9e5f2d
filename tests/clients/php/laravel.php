<?php
// What Laravel does to a server, with php-redis: sessions, cache and queues in databases of their own, over a persistent connection that
// goes from one to another; jobs by scripts over several keys. Silent on success, a message and exit code 1 otherwise. Arguments: HOST PORT.

const DEADLINE = 15;
const SESSIONS = 0;
const CACHE = 1;
const QUEUE = 2;

// Puts a job into a queue (KEYS: queue, notices).
const PUSH = <<<'LUA'
redis.call('rpush', KEYS[1], ARGV[1])
redis.call('rpush', KEYS[2], 1)
LUA;

// Takes a job: it is reserved until ARGV[1] (KEYS: queue, reserved, notices).
const POP = <<<'LUA'
local job = redis.call('lpop', KEYS[1])
if not job then return {false, false} end
local reserved = cjson.decode(job)
reserved.attempts = reserved.attempts + 1
reserved = cjson.encode(reserved)
redis.call('zadd', KEYS[2], ARGV[1], reserved)
redis.call('lpop', KEYS[3])
return {job, reserved}
LUA;

// Gives a reserved job back, for later (KEYS: delayed, reserved).
const RELEASE = <<<'LUA'
redis.call('zrem', KEYS[2], ARGV[1])
return redis.call('zadd', KEYS[1], ARGV[2], ARGV[1])
LUA;

// Moves what is due into the queue (KEYS: delayed or reserved, queue, notices).
const MIGRATE = <<<'LUA'
local due = redis.call('zrangebyscore', KEYS[1], '-inf', ARGV[1])
if #due > 0 then
    redis.call('zremrangebyrank', KEYS[1], 0, #due - 1)
    for i = 1, #due, 100 do
        local last = math.min(i + 99, #due)
        redis.call('rpush', KEYS[2], unpack(due, i, last))
        for _ = i, last do redis.call('rpush', KEYS[3], 1) end
    end
end
return due
LUA;

// Jobs of a queue (KEYS: queue, delayed, reserved).
const SIZE = "return redis.call('llen', KEYS[1]) + redis.call('zcard', KEYS[2]) + redis.call('zcard', KEYS[3])";

// Gives a lock back that is still mine.
const UNLOCK = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0";

// Adds to the cache what is not there.
const ADD = "return redis.call('exists', KEYS[1]) < 1 and redis.call('setex', KEYS[1], ARGV[2], ARGV[1])";

function expect(mixed $actual, mixed $wanted, string $what): void
{
    if ($actual !== $wanted) {
        fwrite(STDERR, "laravel: $what: got " . var_export($actual, true) . ', expected ' . var_export($wanted, true) . "\n");
        exit(1);
    }
}

/** A persistent connection: the same one for all that ask for it by this name, in whatever database it was left. */
function connect(string $name, int $database): Redis
{
    global $argv;
    $client = new Redis();
    expect($client->pconnect($argv[1], (int) $argv[2], 5, $name), true, 'pconnect');
    $client->setOption(Redis::OPT_PREFIX, 'laravel_database_');
    expect($client->select($database), true, "SELECT $database");
    return $client;
}

/** As the framework does it: by the digest, and with the text if the server does not know that. */
function script(Redis $client, string $script, array $keys, array $arguments): mixed
{
    $all = array_merge($keys, $arguments);
    $client->clearLastError();
    $reply = $client->evalSha(sha1($script), $all, count($keys));
    if ($client->getLastError() !== null) {
        expect(str_starts_with($client->getLastError(), 'NOSCRIPT'), true, 'EVALSHA: ' . $client->getLastError());
        $client->clearLastError();
        $reply = $client->eval($script, $all, count($keys));
    }
    expect($client->getLastError(), null, 'EVAL');
    return $reply;
}

function sessions(Redis $client): void
{
    $client->select(SESSIONS);
    for ($i = 0; $i < 20; $i++) {
        expect($client->setex("session:$i", 60, serialize(['user' => $i])), true, 'SETEX');
    }
    expect(unserialize($client->get('session:7')), ['user' => 7], 'a session');
}

function cache(Redis $client): void
{
    $client->select(CACHE);
    $values = [];
    for ($i = 0; $i < 50; $i++) {
        $values["cache:$i"] = "value $i";
    }
    $client->multi();
    foreach ($values as $key => $value) {
        $client->setex($key, 60, $value);
    }
    expect($client->exec(), array_fill(0, 50, true), 'putMany');
    expect($client->mGet(array_keys($values)), array_values($values), 'many');
    expect(script($client, ADD, ['cache:0'], ['other', 60]), false, 'add of what is there');
    expect((bool) script($client, ADD, ['cache:new'], ['mine', 60]), true, 'add of what is not');
    expect($client->incrBy('cache:count', 5), 5, 'increment');
    // Tags: which entries there are, in sorted sets.
    $client->pipeline();
    foreach (['people', 'authors'] as $tag) {
        foreach (array_keys($values) as $key) {
            $client->zAdd("tag:$tag:entries", -1, $key);
        }
    }
    expect(count($client->exec()), 100, 'tags');
    $cursor = null;
    $entries = [];
    while (($found = $client->zScan('tag:people:entries', $cursor, '*', 1000)) !== false) {
        $entries += $found;
    }
    expect(count($entries), 50, 'entries of a tag');
    // Locks.
    expect($client->set('lock:a', 'me', ['nx', 'ex' => 10]), true, 'a lock');
    expect($client->set('lock:a', 'other', ['nx', 'ex' => 10]), false, 'a lock that another one has');
    expect(script($client, UNLOCK, ['lock:a'], ['other']), 0, 'the lock of another one');
    expect(script($client, UNLOCK, ['lock:a'], ['me']), 1, 'my lock');
    expect($client->del(array_keys($values)), 50, 'forget');
    expect($client->select(SESSIONS), true, 'SELECT');
    expect($client->exists('cache:new'), 0, 'what is in the cache in the database of the sessions');
}

function push(Redis $client, int $number): void
{
    $job = json_encode(['id' => "job-$number", 'attempts' => 0]);
    script($client, PUSH, ['queues:default', 'queues:default:notify'], [$job]);
}

/** The next job and its id, or null; with patience it waits for a notice first. */
function pop(Redis $client, bool $patient = false): ?array
{
    $keys = ['queues:default', 'queues:default:reserved', 'queues:default:notify'];
    foreach (['delayed', 'reserved'] as $set) {
        script($client, MIGRATE, ["queues:default:$set", 'queues:default', 'queues:default:notify'], [time()]);
    }
    [$job, $reserved] = script($client, POP, $keys, [time() + 60]);
    if ($job === false && $patient) {
        expect(count($client->blPop(['queues:default:notify', 'queues:other:notify'], 5)), 2, 'a notice');
        return pop($client);
    }
    return $job === false ? null : [json_decode($reserved, true), $reserved];
}

function queues(Redis $client): void
{
    $client->select(QUEUE);
    $keys = ['queues:default', 'queues:default:delayed', 'queues:default:reserved'];
    for ($i = 0; $i < 100; $i++) {
        push($client, $i);
    }
    expect(script($client, SIZE, $keys, []), 100, 'size');
    $done = [];
    $released = 0;
    while ([$job, $reserved] = pop($client)) {
        // Each third is given back once, due at once.
        if ($job['attempts'] === 1 && count($done) % 3 === 0 && $released < 30) {
            expect(script($client, RELEASE, [$keys[1], $keys[2]], [$reserved, time()]), 1, 'release');
            $released++;
            continue;
        }
        expect($client->zRem($keys[2], $reserved), 1, 'deleteReserved');
        $done[$job['id']] = true;
    }
    expect([count($done), $released], [100, 30], 'jobs');
    expect(script($client, SIZE, $keys, []), 0, 'size at the end');
}

/** Waits for a job that another process puts there, whose connection is in that database, too. */
function waiting(Redis $client): void
{
    global $argv;
    $client->select(QUEUE);
    $client->del('queues:default:notify');
    $key = fn (string $name): string => var_export("laravel_database_queues:$name", true);
    // It puts it when somebody waits.
    $code = "\$client = new Redis(); \$client->connect('$argv[1]', $argv[2], 5); \$client->select(2);"
        . " \$end = microtime(true) + 10; while (microtime(true) < \$end && !preg_match('/flags=\\w*b/', \$client->rawCommand('CLIENT', 'LIST'))) usleep(5000);"
        . " \$client->rPush({$key('default')}, '{\"id\":\"late\",\"attempts\":0}'); \$client->rPush({$key('default:notify')}, 1);";
    $process = proc_open([PHP_BINARY, '-r', $code], [], $pipes);
    [$job, $reserved] = pop($client, true);
    expect($job, ['id' => 'late', 'attempts' => 1], 'a job that was waited for');
    expect($client->zRem('queues:default:reserved', $reserved), 1, 'its end');
    expect(proc_close($process), 0, 'the other process');
}

function databases(Redis $client): void
{
    $client->select(CACHE);
    expect($client->flushDB(), true, 'the cache is cleared');
    expect($client->dbSize(), 0, 'the cache');
    $client->select(SESSIONS);
    expect($client->dbSize(), 20, 'the sessions');
    expect($client->watch(['session:1', 'session:2', 'session:3']), true, 'WATCH');
    expect($client->multi()->del('session:1')->set('session:2', 'x')->exec(), [1, true], 'a transaction');
}

$client = connect('shared', SESSIONS);
$id = $client->rawCommand('CLIENT', 'ID');
$left_in = [SESSIONS, CACHE, QUEUE];
foreach ([1, 2] as $round) {
    foreach (['sessions', 'cache', 'queues', 'waiting', 'databases'] as $part) {
        $part($client);
        // The next request comes over the same connection, which this one leaves in any database.
        $client->select($left_in[($round + strlen($part)) % 3]);
        unset($client);
        $client = connect('shared', SESSIONS);
        expect($client->rawCommand('CLIENT', 'ID'), $id, 'the connection of the request before');
    }
}
$client->select(QUEUE);
expect($client->dbSize(), 0, 'the queues');
