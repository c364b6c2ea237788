-- One replica's visit to one tenant's counters: it says what it uses and what it wants, and gets
-- its claims. Everything here is of one hash slot and happens at once.
--
-- The sum of all claims on a counter never passes its limit by a claim made here: a claim grows
-- only into what the others have left. A claim never falls below what its replica may be using.
-- Saying the same again changes nothing, but for rates, where a lost answer loses what it granted.
--
-- KEYS: the tenant's marker, the set of its counters, the counters, its buckets.
-- ARGV: epoch, member, number of this visit, number of the last one that was answered, "visit" or
--       "restore", how many counters; per counter: limit or "", use, wish, settled, lifetime in ms,
--       the claim as this replica knows it or "", the least that helps anybody;
--       per bucket: "rate", per minute, burst, given back, wish, the largest single wish
--               or: "places", limit, use, wish, lifetime in ms, 0.
local PARTS = 60e6 -- of one call or token: a rate per minute is that many parts per microsecond

local function less(d1, p1, d2, p2) return d1 < d2 or (d1 == d2 and p1 < p2) end
local function min(d1, p1, d2, p2)
  if less(d2, p2, d1, p1) then return d2, p2 end
  return d1, p1
end
local function max(d1, p1, d2, p2)
  if less(d1, p1, d2, p2) then return d2, p2 end
  return d1, p1
end
local function whole(number) return string.format('%.0f', number) end

local marker, member = KEYS[1], ARGV[2]
local visit, answered, restoring = tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5] == 'restore'
local known = redis.call('HMGET', marker, 'epoch', 'visit:' .. member)
if not restoring and known[1] ~= ARGV[1] then return { 'closed' } end
local last = tonumber(known[2] or '0')
-- An answer that nobody waits for any more must not undo a later one.
if last >= visit then return { 'late', whole(last) } end
if last < answered then return { 'lost' } end

local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1e6 + tonumber(clock[2])
local answer = { 'done' }

local counters = tonumber(ARGV[6])
if not restoring then
  -- Before anything is changed: what was confirmed must be there.
  for n = 1, counters do
    local told = ARGV[5 + n * 7]
    if told ~= '' and told ~= (redis.call('HGET', KEYS[2 + n], 'c:' .. member) or '0:0') then
      return { 'lost' }
    end
  end
end
redis.call('HSET', marker, 'visit:' .. member, whole(visit))

for n = 1, counters do
  local key, at = KEYS[2 + n], 6 + (n - 1) * 7
  local limit, ttl = ARGV[at + 1], ARGV[at + 5]
  local use_d, use_p = read(ARGV[at + 2])
  local wish_d, wish_p = read(ARGV[at + 3])
  local own_d, own_p = read(ARGV[at + 4])
  local found = redis.call('HMGET', key, 'claimed', 'settled', 'c:' .. member, 's:' .. member)
  local all_d, all_p = read(found[1])
  local settled_d, settled_p = read(found[2])
  local had_d, had_p = read(found[3])
  local told_d, told_p = read(found[4])
  local others_d, others_p = sub(all_d, all_p, had_d, had_p)
  local new_d, new_p = max(wish_d, wish_p, use_d, use_p)
  if limit ~= '' and not restoring then
    local limit_d, limit_p = read(limit)
    local room_d, room_p = sub(limit_d, limit_p, others_d, others_p)
    new_d, new_p = max(use_d, use_p, min(had_d, had_p, wish_d, wish_p))
    -- A call that is too large for what is left keeps it from nobody.
    if not less(room_d, room_p, read(ARGV[at + 7])) then
      new_d, new_p = max(new_d, new_p, min(wish_d, wish_p, room_d, room_p))
    end
  end
  settled_d, settled_p = sub(settled_d, settled_p, told_d, told_p)
  local changed = new_d ~= had_d or new_p ~= had_p or own_d ~= told_d or own_p ~= told_p
  if changed then
    redis.call('HSET', key,
      'claimed', write(add(others_d, others_p, new_d, new_p)),
      'settled', write(add(settled_d, settled_p, own_d, own_p)),
      'c:' .. member, write(new_d, new_p),
      's:' .. member, write(own_d, own_p))
    redis.call('PEXPIRE', key, ttl)
    if not found[1] then redis.call('SADD', KEYS[2], key) end
  end
  answer[#answer + 1] = write(new_d, new_p)
  answer[#answer + 1] = write(others_d, others_p)
  answer[#answer + 1] = write(settled_d, settled_p)
end

local function rate(key, at)
  local per_minute, burst = tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  local back, wish, single = tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5]), tonumber(ARGV[at + 6])
  local found = redis.call('HMGET', key, 'missing', 'at', 'rate')
  local missing, since = tonumber(found[1] or '0'), tonumber(found[2] or now)
  -- What flowed in meanwhile came at the rate of then. A clock that was put back gives nothing,
  -- and takes nothing away.
  if now > since then
    missing = math.max(0, missing - (now - since) * tonumber(found[3] or per_minute))
  end
  missing = math.max(0, missing - back * PARTS)
  local room = math.floor((burst * PARTS - missing) / PARTS)
  local granted = math.max(0, math.min(wish, room))
  -- What no bucket of this size can hold is let go by a full one.
  if missing == 0 and single > granted then granted = single end
  missing = missing + granted * PARTS
  if missing > 0 then
    redis.call('HSET', key, 'missing', whole(missing), 'at', whole(now), 'rate', ARGV[at + 2])
    redis.call('PEXPIRE', key, whole(math.ceil(missing / per_minute / 1000) + 60000))
  else
    redis.call('DEL', key)
  end
  return whole(granted), whole(missing)
end

local function places(key, at)
  local limit, use, wish = tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
  local lifetime, others = tonumber(ARGV[at + 5]), 0
  local found = redis.call('HGETALL', key)
  for n = 1, #found, 2 do
    if found[n] ~= member then
      local count, ends = string.match(found[n + 1], '^(%d+):(%d+)$')
      if tonumber(ends) > now / 1000 then
        others = others + tonumber(count)
      else
        redis.call('HDEL', key, found[n])
      end
    end
  end
  local new = math.max(use, math.min(wish, limit - others))
  if new > 0 then
    redis.call('HSET', key, member, whole(new) .. ':' .. whole(math.floor(now / 1000) + lifetime))
    redis.call('PEXPIRE', key, whole(lifetime * 2))
  else
    redis.call('HDEL', key, member)
  end
  return whole(new), whole(others)
end

for n = 3 + counters, #KEYS do
  local at = 6 + counters * 7 + (n - 3 - counters) * 6
  local first, second
  if ARGV[at + 1] == 'rate' then
    first, second = rate(KEYS[n], at)
  else
    first, second = places(KEYS[n], at)
  end
  answer[#answer + 1] = first
  answer[#answer + 1] = second
end
return answer
