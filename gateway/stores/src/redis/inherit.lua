-- Settles what a replica that is gone has claimed of one tenant's counters: at all of it, since
-- nobody here knows what it used. When it comes back it says so. KEYS: marker, counters.
-- ARGV: the replica that is gone, the epoch. Answers with each counter's key and the claim.
local DOLLAR = 1e12
local function read(text)
  local at = string.find(text, ':', 1, true)
  return tonumber(string.sub(text, 1, at - 1)), tonumber(string.sub(text, at + 1))
end
if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[2] then return { 'closed' } end
local answer = {}
for _, key in ipairs(redis.call('SMEMBERS', KEYS[2])) do
  local found = redis.call('HMGET', key, 'settled', 'c:' .. ARGV[1], 's:' .. ARGV[1])
  if not found[1] then
    redis.call('SREM', KEYS[2], key)
  elseif found[2] then
    if found[2] ~= found[3] then
      local all_d, all_p = read(found[1])
      local claim_d, claim_p = read(found[2])
      local told_d, told_p = read(found[3])
      local d, p = all_d + claim_d - told_d, all_p + claim_p - told_p
      if p < 0 then d, p = d - 1, p + DOLLAR end
      if p >= DOLLAR then d, p = d + 1, p - DOLLAR end
      redis.call('HSET', key, 'settled', string.format('%.0f:%.0f', d, p), 's:' .. ARGV[1], found[2])
    end
    answer[#answer + 1] = key
    answer[#answer + 1] = found[2]
  end
end
redis.call('HDEL', KEYS[1], 'visit:' .. ARGV[1])
return answer
