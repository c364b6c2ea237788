-- What the server does when its memory is full: it must refuse, and throw nothing away.
-- Without a bound on its memory it is never full.
local memory = redis.call('INFO', 'memory')
local policy = string.match(memory, 'maxmemory_policy:(%S+)') or 'noeviction'
if string.match(memory, 'maxmemory:(%d+)') == '0' then policy = 'noeviction' end
return { policy }
