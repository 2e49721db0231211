-- KEYS: lease. ARGV: owner, its connections, microseconds, whether a lapsed lease of another may be taken (1 or 0).
-- Answers {1, epoch, connections of earlier owners} or {0, microseconds left}.
local lease = redis.call('HMGET', KEYS[1], 'owner', 'until', 'for', 'epoch', 'clients', 'before')
local owner = lease[1] or ''
if owner ~= '' and owner ~= ARGV[1] then
  local left, whole = tonumber(lease[2]) - now, tonumber(lease[3])
  if left > whole then
    -- The server's clock was set back: the owner gets the whole time anew, not the time of a clock that is gone.
    redis.call('HSET', KEYS[1], 'until', text(now + whole))
    left = whole
  end
  if left > 0 or ARGV[4] == '0' then return {0, text(math.max(left, 0))} end
end
local epoch = text(math.max(tonumber(lease[4] or '0') + 1, now))
-- Those whose end was not confirmed by a successor that died, too.
local before = lease[6] or ''
if lease[5] and lease[5] ~= '' and lease[5] ~= ARGV[2] then before = before .. ' ' .. lease[5] end
redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'epoch', epoch, 'until', text(now + ARGV[3]), 'for', ARGV[3],
  'clients', ARGV[2], 'before', before)
return {1, epoch, before}
