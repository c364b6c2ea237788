-- Puts a token on the table. KEYS: token, cut-offs, live tokens, the end of its task.
-- ARGV: agent, task, id, end in ms, when what it rests on was issued in µs or "", how long ended
-- ones are remembered in ms, the most of a tenant, now in ms: when a token ends is judged by the
-- clock of whoever reads it.
if redis.call('EXISTS', KEYS[4]) == 1 then return { 'task_complete' } end
if ARGV[5] ~= '' then
  for _, cut in ipairs(redis.call('HMGET', KEYS[2], 'tenant', 'agent:' .. ARGV[1])) do
    local at = cut and string.match(cut, '^(%d+):')
    if at and tonumber(at) >= tonumber(ARGV[5]) then return { 'revoked' } end
  end
end
if redis.call('EXISTS', KEYS[1]) == 1 then return { 'taken' } end
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', ARGV[8])
if redis.call('ZCARD', KEYS[3]) >= tonumber(ARGV[7]) then return { 'full' } end
local number = redis.call('HINCRBY', KEYS[2], 'number', 1)
local kept = math.max(1, tonumber(ARGV[4]) - tonumber(ARGV[8]) + tonumber(ARGV[6]))
redis.call('HSET', KEYS[1], 'agent', ARGV[1], 'task', ARGV[2], 'number', number, 'ends', ARGV[4])
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', kept))
redis.call('ZADD', KEYS[3], ARGV[4], ARGV[1] .. '/' .. ARGV[2] .. '/' .. ARGV[3])
return { 'live', number }
