-- Begins an epoch, unless somebody was faster: Redis has forgotten, and everybody who may have
-- taken something says again what. KEYS: epoch, tenants. ARGV: the epoch before or "", the new
-- one, everybody who is waited for.
local id = redis.call('HGET', KEYS[1], 'id')
if id and id ~= ARGV[1] then return { id } end
local clock = redis.call('TIME')
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('HSET', KEYS[1], 'id', ARGV[2], 'state', 'gathering', 'since',
  string.format('%.0f', tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)))
for n = 3, #ARGV do redis.call('HSET', KEYS[1], 'm:' .. ARGV[n], '0') end
return { ARGV[2] }
