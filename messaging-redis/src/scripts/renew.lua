-- KEYS: lease, stream. ARGV: owner, epoch, group, microseconds, its connections, the last id it has received, how many
-- entries were accounted for up to it or ''. Answers how the stream stands: {entries added, length, first id, last
-- generated id, last delivered id}, or {} if the stream or the group is gone.
redis.call('HSET', KEYS[1], 'until', text(now + ARGV[4]), 'for', ARGV[4], 'clients', ARGV[5], 'last', ARGV[6],
  'count', ARGV[7])
local stream, group = stream_of(KEYS[2]), group_of(KEYS[2], ARGV[3])
if not stream or not group then return {} end
local last, read = group['last-delivered-id'], group['entries-read']
-- The server forgets how much a group has read when it starts anew from its append-only file.
if last == ARGV[6] and ARGV[7] ~= '' and read ~= tonumber(ARGV[7]) then
  redis.call('XGROUP', 'SETID', KEYS[2], ARGV[3], last, 'ENTRIESREAD', ARGV[7])
end
return {text(stream['entries-added']), text(stream['length']), stream['recorded-first-entry-id'],
  stream['last-generated-id'], last}
