-- One replica says that it lives, and hears how the fleet stands and what has happened.
-- KEYS: epoch, members, log, heirs, policies. ARGV: member, last entry read, how long an epoch
-- gathers at least in ms, the policy in force at that replica, how many entries are read at once.
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local epoch = redis.call('HMGET', KEYS[1], 'id', 'state', 'since')
redis.call('HSET', KEYS[2], ARGV[1], string.format('%.0f', now))
redis.call('HSET', KEYS[5], ARGV[1], ARGV[4])
local state, lacking = epoch[2] or '', {}
if state == 'gathering' then
  local fields = redis.call('HGETALL', KEYS[1])
  for n = 1, #fields, 2 do
    local name = string.match(fields[n], '^m:(.*)$')
    if name and fields[n + 1] ~= '1' then lacking[#lacking + 1] = name end
  end
  if #lacking == 0 and now - tonumber(epoch[3]) >= tonumber(ARGV[3]) then
    redis.call('HSET', KEYS[1], 'state', 'open')
    state = 'open'
  end
end
local entries = redis.call('XRANGE', KEYS[3], '(' .. ARGV[2], '+', 'COUNT', ARGV[5])
local told = {}
for n = 1, #entries do
  told[#told + 1] = entries[n][1]
  told[#told + 1] = entries[n][2][2]
end
return { string.format('%.0f', now), epoch[1] or '', state, lacking, redis.call('HGETALL', KEYS[2]), told,
  redis.call('HGETALL', KEYS[4]) }
