-- KEYS: lease, stream. ARGV: owner, epoch, group, start, remembered id. After the connections of earlier owners were
-- ended: from here on the entries are ours. Answers {id that the group had to be made anew at, last delivered id,
-- entries accounted for or '', entries lost}.
redis.call('HSET', KEYS[1], 'before', '')
local healed = ensure_group(KEYS[1], KEYS[2], ARGV[3], ARGV[4], ARGV[5])
local stream, group = stream_of(KEYS[2]), group_of(KEYS[2], ARGV[3])
local last, read = group['last-delivered-id'], group['entries-read']
local added, length = stream['entries-added'], stream['length']
local unread
if length == 0 or earlier(last, stream['recorded-first-entry-id']) then unread = length
elseif not earlier(last, stream['last-generated-id']) then unread = 0 end
local lost = 0
if unread then
  -- Nothing that is left was delivered, or all of it: what was neither read nor is there is gone.
  if read then lost = math.max(added - unread - read, 0) end
  if read ~= added - unread then
    redis.call('XGROUP', 'SETID', KEYS[2], ARGV[3], last, 'ENTRIESREAD', added - unread)
    read = added - unread
  end
end
return {healed, last, read and text(read) or '', lost}
