-- Takes tokens off the table. KEYS: cut-offs, live tokens, the token or the end of the task (or
-- the cut-offs again). ARGV: kind, name, when in µs, how long the end of a task is remembered in
-- ms, "say" or "recall": what is recalled says nothing of tokens registered meanwhile. Now in ms.
local kind, name = ARGV[1], ARGV[2]
local number = '0'
if ARGV[5] == 'say' then number = tostring(redis.call('HINCRBY', KEYS[1], 'number', 1)) end
if kind == 'token' then
  if redis.call('EXISTS', KEYS[3]) == 1 then redis.call('HSET', KEYS[3], 'revoked', 1) end
elseif kind == 'task' then
  redis.call('SET', KEYS[3], ARGV[3], 'PX', ARGV[4])
else
  local field = kind == 'agent' and 'agent:' .. name or 'tenant'
  local at, before = ARGV[3], redis.call('HGET', KEYS[1], field)
  if before then
    local was, after = string.match(before, '^(%d+):(%d+)$')
    if tonumber(was) > tonumber(at) then at = was end
    if tonumber(after) > tonumber(number) then number = after end
  end
  redis.call('HSET', KEYS[1], field, at .. ':' .. number)
end
if ARGV[5] ~= 'say' then return { number, 0 } end
local ended = 0
for _, entry in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. ARGV[6], '+inf')) do
  local agent, task, token = string.match(entry, '^([^/]*)/([^/]*)/(.*)$')
  if kind == 'tenant' or (kind == 'agent' and agent == name) or (kind == 'task' and task == name)
    or (kind == 'token' and token == name) then
    redis.call('ZREM', KEYS[2], entry)
    ended = ended + 1
  end
end
return { number, ended }
