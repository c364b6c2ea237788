-- Says for a replica that is gone what it had claimed, all of it spent. KEYS: the counter, the
-- tenant's counters. ARGV: the replica, its claim, lifetime in ms.
local function added(all, more)
  local all_d, all_p = read(all)
  return write(add(all_d, all_p, read(more)))
end
local found = redis.call('HMGET', KEYS[1], 'claimed', 'settled', 'c:' .. ARGV[1])
-- It is there, or it has come back and knows better.
if found[3] then return { 'done' } end
redis.call('HSET', KEYS[1],
  'claimed', added(found[1], ARGV[2]), 'settled', added(found[2], ARGV[2]),
  'c:' .. ARGV[1], ARGV[2], 's:' .. ARGV[1], ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('SADD', KEYS[2], KEYS[1])
return { 'done' }
