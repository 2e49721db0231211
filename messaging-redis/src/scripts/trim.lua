-- KEYS: stream, note. ARGV: milliseconds between two trims, age in milliseconds or '', length or '', finished (1 or 0),
-- drop unread (1 or 0), at most so many at once. Answers how many entries went.
if ARGV[1] ~= '0' and not redis.call('SET', KEYS[2], '1', 'NX', 'PX', ARGV[1]) then return 0 end
local groups = redis.pcall('XINFO', 'GROUPS', KEYS[1])
if groups.err then return 0 end
-- The first id that some group still needs.
local floor
for _, flat in ipairs(groups) do
  local group = fields(flat)
  local need = group['last-delivered-id']
  if group['pending'] > 0 then need = redis.call('XPENDING', KEYS[1], group['name'])[2] end
  if not floor or earlier(need, floor) then floor = need end
end
local gone = 0
local function trim(id, limit)
  gone = gone + redis.call('XTRIM', KEYS[1], 'MINID', '~', id, 'LIMIT', limit)
end
local keep = floor and ARGV[5] == '0'
if ARGV[2] ~= '' then
  local bound = text(math.max(math.floor(now / 1000) - ARGV[2], 0)) .. '-0'
  if keep and earlier(floor, bound) then bound = floor end
  trim(bound, ARGV[6])
end
if ARGV[3] ~= '' then
  local over = redis.call('XLEN', KEYS[1]) - ARGV[3]
  if over > 0 and keep then trim(floor, math.min(over, tonumber(ARGV[6])))
  elseif over > 0 then
    gone = gone + redis.call('XTRIM', KEYS[1], 'MAXLEN', '~', ARGV[3], 'LIMIT', ARGV[6])
  end
end
if ARGV[4] == '1' and floor then trim(floor, ARGV[6]) end
return gone
