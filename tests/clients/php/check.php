<?php
// php-redis with its default settings through the proxy: silent on success, a message and exit code 1 otherwise.

function expect(mixed $actual, mixed $wanted, string $what): void
{
    if ($actual !== $wanted) {
        fwrite(STDERR, "php-redis: $what: got " . var_export($actual, true) . ', expected ' . var_export($wanted, true) . "\n");
        exit(1);
    }
}

$client = new Redis();
$client->connect($argv[1], (int) $argv[2]);
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

expect($client->hMSet('php:h', ['a' => 1, 'b' => 2]), true, 'HMSET');
expect($client->hGetAll('php:h'), ['a' => '1', 'b' => '2'], 'HGETALL');
expect($client->rPush('php:l', '1', '2', '3'), 3, 'RPUSH');
expect($client->lRange('php:l', 0, -1), ['1', '2', '3'], 'LRANGE');
expect($client->sAdd('php:{t}1', 'a', 'b'), 2, 'SADD');
expect($client->sAdd('php:{t}2', 'b', 'c'), 2, 'SADD');
expect($client->sInter('php:{t}1', 'php:{t}2'), ['b'], 'SINTER');
expect($client->zAdd('php:z', 1.5, 'a', 2, 'b'), 2, 'ZADD');
expect($client->zRange('php:z', 0, -1, true), ['a' => 1.5, 'b' => 2.0], 'ZRANGE WITHSCORES');

$id = $client->xAdd('php:x', '*', ['f' => '1']);
expect($client->xLen('php:x'), 1, 'XLEN');
expect($client->xRange('php:x', '-', '+'), [$id => ['f' => '1']], 'XRANGE');
expect($client->xGroup('CREATE', 'php:x', 'g', '0'), true, 'XGROUP CREATE');
expect($client->xReadGroup('g', 'c', ['php:x' => '>'], 1), ['php:x' => [$id => ['f' => '1']]], 'XREADGROUP');
expect($client->xAck('php:x', 'g', [$id]), 1, 'XACK');

expect($client->eval('return {KEYS[1], ARGV[1]}', ['php:s', 'v'], 1), ['php:s', 'v'], 'EVAL');
$sha = $client->script('load', "return redis.call('incr', KEYS[1])");
for ($i = 0; $i < 20; $i++) {
    expect($client->evalSha($sha, ["php:script$i"], 1), 1, 'EVALSHA');
}
try {
    $refused = $client->eval('return 1', ['a', 'b'], 2) === false ? $client->getLastError() : 'nothing';
} catch (RedisException $error) {
    $refused = $error->getMessage();
}
expect(str_starts_with($refused, 'CROSSSLOT '), true, "EVAL over two slots: $refused");

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
$client->close();
