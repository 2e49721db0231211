-- KEYS: lease, stream. ARGV: owner, epoch, group, start, remembered id. After the connections of earlier owners were
-- ended: from here on the entries are ours. Answers {id that the group had to be made anew at or '', an id that was read
-- and how many entries had been accounted for up to it or '', entries added, length, first id, last generated id, last
-- delivered id, bytes of the larger of the first and the last entry}.
redis.call('HSET', KEYS[1], 'before', '')
local healed = ensure_group(KEYS[1], KEYS[2], ARGV[3], ARGV[4], ARGV[5])
local stream, group = stream_of(KEYS[2]), group_of(KEYS[2], ARGV[3])
local known = redis.call('HMGET', KEYS[1], 'last', 'count')
local function weigh(entry)
  local bytes = 0
  if entry then for _, part in ipairs(entry[2]) do bytes = bytes + #part end end
  return bytes
end
return {healed, known[1] or '', known[2] or '', text(stream['entries-added']), text(stream['length']),
  stream['recorded-first-entry-id'], stream['last-generated-id'], group['last-delivered-id'],
  math.max(weigh(stream['first-entry']), weigh(stream['last-entry']))}
