-- KEYS: lease, stream. ARGV: owner, epoch, group, microseconds, its connections, the last id it has received, how many
-- entries were accounted for up to it or ''. Answers how the stream stands: {entries added, length, first id, last
-- generated id, last delivered id}, or {} if the stream or the group is gone.
redis.call('HSET', KEYS[1], 'until', text(now + ARGV[4]), 'for', ARGV[4], 'clients', ARGV[5], 'last', ARGV[6],
  'count', ARGV[7])
local stream, group = stream_of(KEYS[2]), group_of(KEYS[2], ARGV[3])
if not stream or not group then return {} end
remind(KEYS[2], ARGV[3], group, ARGV[6], ARGV[7], false)
return {text(stream['entries-added']), text(stream['length']), stream['recorded-first-entry-id'],
  stream['last-generated-id'], group['last-delivered-id']}
