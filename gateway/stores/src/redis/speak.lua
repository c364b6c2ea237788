-- Says for a replica that is gone what it had claimed, all of it spent. KEYS: the counter, the
-- tenant's counters. ARGV: the replica, its claim, lifetime in ms.
local DOLLAR = 1e12
local function read(text)
  if not text then return 0, 0 end
  local at = string.find(text, ':', 1, true)
  return tonumber(string.sub(text, 1, at - 1)), tonumber(string.sub(text, at + 1))
end
local function replaced(all, before, after)
  local all_d, all_p = read(all)
  local before_d, before_p = read(before)
  local after_d, after_p = read(after)
  local d, p = all_d - before_d + after_d, all_p - before_p + after_p
  while p < 0 do d, p = d - 1, p + DOLLAR end
  while p >= DOLLAR do d, p = d + 1, p - DOLLAR end
  return string.format('%.0f:%.0f', d, p)
end
local found = redis.call('HMGET', KEYS[1], 'claimed', 'settled', 'c:' .. ARGV[1], 's:' .. ARGV[1])
redis.call('HSET', KEYS[1],
  'claimed', replaced(found[1], found[3], ARGV[2]), 'settled', replaced(found[2], found[4], ARGV[2]),
  'c:' .. ARGV[1], ARGV[2], 's:' .. ARGV[1], ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('SADD', KEYS[2], KEYS[1])
return { 'done' }
