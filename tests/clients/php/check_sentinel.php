<?php
// php-redis: RedisSentinel, asked for a service of the proxy. Silent on success, a message and exit code 1 otherwise. Arguments: HOST PORT.

function expect(mixed $actual, mixed $wanted, string $what): void
{
    if ($actual !== $wanted) {
        fwrite(STDERR, "php-redis: $what: got " . var_export($actual, true) . ', expected ' . var_export($wanted, true) . "\n");
        exit(1);
    }
}

$sentinel = new RedisSentinel($argv[1], (int) $argv[2], 5.0);
expect($sentinel->ping(), true, 'PING');
[$host, $port] = $sentinel->getMasterAddrByName('mymaster');
expect(empty($sentinel->getMasterAddrByName('nobody')), true, 'a service that is not there');
expect($sentinel->ckquorum('mymaster'), true, 'CKQUORUM');
expect($sentinel->slaves('mymaster'), [], 'SLAVES');
expect($sentinel->sentinels('mymaster'), [], 'SENTINELS');
$state = $sentinel->master('mymaster');
expect([$state['ip'], $state['port'], $state['flags']], [$host, $port, 'master'], 'MASTER');
expect($sentinel->masters(), [$state], 'MASTERS');

$client = new Redis();
$client->connect($host, (int) $port, 5);
expect($client->set('php:sentinel', 'v'), true, 'SET');
expect($client->get('php:sentinel'), 'v', 'GET');
