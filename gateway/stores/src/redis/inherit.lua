-- Settles what a replica that is gone has claimed of one tenant's counters: at all of it, since
-- nobody here knows what it used. When it comes back it says so. KEYS: marker, counters.
-- ARGV: the replica that is gone, the epoch. Answers with each counter's key and the claim.
if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[2] then return { 'closed' } end
local answer = {}
for _, key in ipairs(redis.call('SMEMBERS', KEYS[2])) do
  local found = redis.call('HMGET', key, 'settled', 'c:' .. ARGV[1], 's:' .. ARGV[1])
  if not found[1] then
    redis.call('SREM', KEYS[2], key)
  elseif found[2] then
    if found[2] ~= found[3] then
      local claim_d, claim_p = read(found[2])
      local all_d, all_p = read(found[1])
      all_d, all_p = sub(all_d, all_p, read(found[3]))
      redis.call('HSET', key, 'settled', write(add(all_d, all_p, claim_d, claim_p)), 's:' .. ARGV[1], found[2])
    end
    answer[#answer + 1] = key
    answer[#answer + 1] = found[2]
  end
end
redis.call('HDEL', KEYS[1], 'visit:' .. ARGV[1])
return answer
