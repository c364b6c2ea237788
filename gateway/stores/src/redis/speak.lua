-- Says for a replica that is gone what it had claimed, all of it spent. KEYS: the counter, the
-- tenant's counters. ARGV: the replica, its claim, lifetime in ms.
local DOLLAR = 1e12
local function read(text)
  if not text then return 0, 0 end
  local at = string.find(text, ':', 1, true)
  return tonumber(string.sub(text, 1, at - 1)), tonumber(string.sub(text, at + 1))
end
local function added(all, more)
  local all_d, all_p = read(all)
  local more_d, more_p = read(more)
  local d, p = all_d + more_d, all_p + more_p
  if p >= DOLLAR then d, p = d + 1, p - DOLLAR end
  return string.format('%.0f:%.0f', d, p)
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
