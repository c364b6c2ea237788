-- Money in scripts: dollars and pico-dollars, each a whole number that a double holds exactly. It
-- stands before every script that adds some up.
local DOLLAR = 1e12
local function read(text)
  if not text then return 0, 0 end
  local at = string.find(text, ':', 1, true)
  return tonumber(string.sub(text, 1, at - 1)), tonumber(string.sub(text, at + 1))
end
local function write(dollars, pico) return string.format('%.0f:%.0f', dollars, pico) end
local function add(d1, p1, d2, p2)
  local d, p = d1 + d2, p1 + p2
  if p >= DOLLAR then return d + 1, p - DOLLAR end
  return d, p
end
local function sub(d1, p1, d2, p2)
  local d, p = d1 - d2, p1 - p2
  if p < 0 then return d - 1, p + DOLLAR end
  return d, p
end
