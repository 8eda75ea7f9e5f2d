<?php
// php-redis with its default settings: silent on success, a message and exit code 1 otherwise. Arguments: HOST PORT.

const DEADLINE = 15;

function expect(mixed $actual, mixed $wanted, string $what): void
{
    if ($actual !== $wanted) {
        fwrite(STDERR, "php-redis: $what: got " . var_export($actual, true) . ', expected ' . var_export($wanted, true) . "\n");
        exit(1);
    }
}

function connect(): Redis
{
    global $argv;
    $client = new Redis();
    $client->connect($argv[1], (int) $argv[2], 5);
    return $client;
}

function line_of(Redis $client, string $name): string
{
    $lines = explode("\n", $client->rawCommand('CLIENT', 'LIST'));
    return current(array_filter($lines, fn ($line) => str_contains($line, " name=$name "))) ?: '';
}

function wait_until(callable $condition, string $what): void
{
    $end = microtime(true) + DEADLINE;
    while (!$condition()) {
        expect(microtime(true) < $end, true, "$what in time");
        usleep(10_000);
    }
}

/** The first line that a process writes which runs this on a connection of that name. Until then $poke is called. */
function in_background(string $name, string $php, callable $poke): string
{
    global $argv;
    $code = "\$client = new Redis(); \$client->connect('$argv[1]', $argv[2], 5); \$client->client('setname', '$name'); $php";
    $process = proc_open([PHP_BINARY, '-r', $code], [1 => ['pipe', 'w']], $pipes);
    $has_line = function () use ($pipes): bool {
        $readable = [$pipes[1]];
        return stream_select($readable, $nothing, $nothing, 0) > 0;
    };
    wait_until(function () use ($has_line, $poke): bool {
        $poke();
        return $has_line();
    }, $name);
    $line = fgets($pipes[1]);
    proc_terminate($process, 9);
    return trim($line ?: '');
}

function strings(Redis $client): void
{
    expect($client->echo('tracer'), 'tracer', 'ECHO');
    expect($client->set('php:s', 'héllo'), true, 'SET');
    expect($client->get('php:s'), 'héllo', 'GET');
    expect($client->incrBy('php:n', 5), 5, 'INCRBY');
    $pairs = [];
    for ($i = 0; $i < 50; $i++) {
        $pairs["php:m$i"] = (string) $i;
    }
    expect($client->mSet($pairs), true, 'MSET');
    expect($client->mGet(array_keys($pairs)), array_values($pairs), 'MGET');
    expect($client->del(array_keys($pairs)), 50, 'DEL');
}

function collections(Redis $client): void
{
    expect($client->hMSet('php:h', ['a' => 1, 'b' => 2]), true, 'HMSET');
    expect($client->hGetAll('php:h'), ['a' => '1', 'b' => '2'], 'HGETALL');
    expect($client->rPush('php:l', '1', '2', '3'), 3, 'RPUSH');
    expect($client->lRange('php:l', 0, -1), ['1', '2', '3'], 'LRANGE');
    expect($client->sAdd('php:{t}1', 'a', 'b'), 2, 'SADD');
    expect($client->sAdd('php:{t}2', 'b', 'c'), 2, 'SADD');
    expect($client->sInter('php:{t}1', 'php:{t}2'), ['b'], 'SINTER');
    expect($client->zAdd('php:z', 1.5, 'a', 2, 'b'), 2, 'ZADD');
    expect($client->zRange('php:z', 0, -1, true), ['a' => 1.5, 'b' => 2.0], 'ZRANGE WITHSCORES');
}

function streams(Redis $client): void
{
    $id = $client->xAdd('php:x', '*', ['f' => '1']);
    expect($client->xLen('php:x'), 1, 'XLEN');
    expect($client->xRange('php:x', '-', '+'), [$id => ['f' => '1']], 'XRANGE');
    expect($client->xGroup('CREATE', 'php:x', 'g', '0'), true, 'XGROUP CREATE');
    expect($client->xReadGroup('g', 'c', ['php:x' => '>'], 1), ['php:x' => [$id => ['f' => '1']]], 'XREADGROUP');
    expect($client->xAck('php:x', 'g', [$id]), 1, 'XACK');
}

function scripts(Redis $client): void
{
    expect($client->eval('return {KEYS[1], ARGV[1]}', ['php:s', 'v'], 1), ['php:s', 'v'], 'EVAL');
    $sha = $client->script('load', "return redis.call('incr', KEYS[1])");
    for ($i = 0; $i < 20; $i++) {
        expect($client->evalSha($sha, ["php:script$i"], 1), 1, 'EVALSHA');
    }
}

function crossslot(Redis $client): void
{
    try {
        $refused = $client->eval('return 1', ['a', 'b'], 2) === false ? $client->getLastError() : 'nothing';
    } catch (RedisException $error) {
        $refused = $error->getMessage();
    }
    expect(str_starts_with($refused, 'CROSSSLOT '), true, "EVAL over two slots: $refused");
}

function pipelines(Redis $client): void
{
    $pipe = $client->multi(Redis::PIPELINE);
    for ($i = 0; $i < 500; $i++) {
        $pipe->set("php:p$i", $i);
        $pipe->get("php:p$i");
    }
    $replies = $pipe->exec();
    for ($i = 0; $i < 500; $i++) {
        expect($replies[2 * $i + 1], (string) $i, 'pipelined GET');
    }
    $found = [];
    $client->setOption(Redis::OPT_SCAN, Redis::SCAN_RETRY);
    $cursor = null;
    while (($keys = $client->scan($cursor, 'php:p*', 100)) !== false) {
        foreach ($keys as $key) {
            $found[$key] = true;
        }
    }
    expect(count($found), 500, 'SCAN');
}

function transactions(Redis $client): void
{
    $replies = $client->multi()->set('php:{tx}a', '1')->incr('php:{tx}a')->lPush('php:{tx}l', 'x')->exec();
    expect($replies, [true, 2, 1], 'MULTI EXEC');
}

function watch(Redis $client): void
{
    $other = connect();
    expect($client->watch('php:{w}'), true, 'WATCH');
    $other->set('php:{w}', 'other');
    expect($client->multi()->set('php:{w}', 'mine')->exec(), false, 'EXEC after a change');
    expect($client->watch('php:{w}'), true, 'WATCH');
    expect($client->multi()->set('php:{w}', 'mine')->exec(), [true], 'WATCH, nobody interferes');
}

function blocking(Redis $client): void
{
    expect($client->blPop(['php:{b}q'], 1), [], 'BLPOP of nothing');
    $pushed = 0;
    $popped = in_background('php-blocked', 'echo json_encode($client->blPop(["php:{b}q"], 10)), "\n";', function () use ($client, &$pushed): void {
        if ($pushed === 0 && preg_match('/\bflags=\w*b/', line_of($client, 'php-blocked')) === 1) {
            $pushed = $client->rPush('php:{b}q', '1');
        }
    });
    expect($popped, '["php:{b}q","1"]', 'BLPOP');
}

function pubsub(Redis $client): void
{
    $code = '$client->subscribe(["php:channel"], function ($client, $channel, $message) { echo "$channel $message\n"; });';
    $message = in_background('php-subscriber', $code, fn () => $client->publish('php:channel', 'one'));
    expect($message, 'php:channel one', 'message');
}

function reconnect(Redis $client): void
{
    $victim = connect();
    $victim->client('setname', 'php-victim');
    expect($victim->set('php:r', '1'), true, 'SET before');
    preg_match('/\bid=(\d+)/', line_of($client, 'php-victim'), $id);
    expect($client->rawCommand('CLIENT', 'KILL', 'ID', $id[1]), 1, 'CLIENT KILL');
    wait_until(fn () => line_of($client, 'php-victim') === '', 'the end of the killed connection');
    expect($victim->get('php:r'), '1', 'GET on a killed connection');
}

$client = connect();
$left_out = explode(',', getenv('SLOTWAY_LEAVE_OUT') ?: '');
$families = ['strings', 'collections', 'streams', 'scripts', 'crossslot', 'pipelines', 'transactions', 'watch', 'blocking', 'pubsub', 'reconnect'];
foreach (array_diff($families, $left_out) as $family) {
    $family($client);
}
$client->close();
