-- Counts a hit once, however often it is sent: KEYS[1] the counter, KEYS[2] a key in the same slot that names this hit,
-- ARGV[1] for how many seconds it may come again. Answers with the counter.
if redis.call('SET', KEYS[2], 1, 'NX', 'EX', ARGV[1]) then
    return redis.call('INCR', KEYS[1])
end
return tonumber(redis.call('GET', KEYS[1]))
