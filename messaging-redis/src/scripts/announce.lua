-- KEYS: members. ARGV: member, microseconds, its record. Answers {time, member, microseconds since
-- it announced itself, record, …} of those that live.
redis.call('HSET', KEYS[1], ARGV[1], text(now + ARGV[2]) .. ' ' .. ARGV[2] .. ' ' .. ARGV[3])
local all, live = redis.call('HGETALL', KEYS[1]), {text(now)}
for i = 1, #all, 2 do
  local limit, whole, record = string.match(all[i + 1], '^(%d+) (%d+) (.*)$')
  local left = limit and tonumber(limit) - now or 0
  -- One that ends later than its whole time is of a clock that was set back; who lives announces itself anew.
  if left > 0 and left <= tonumber(whole) then
    live[#live + 1] = all[i]
    live[#live + 1] = text(whole - left)
    live[#live + 1] = record
  else
    redis.call('HDEL', KEYS[1], all[i])
  end
end
return live
