-- KEYS: lease, stream. ARGV: owner, epoch, group, entries that were lost. This server's count of what the group has read
-- leaves out what was gone before it was read: puts it right, for whoever comes after us.
local stream, group = stream_of(KEYS[2]), group_of(KEYS[2], ARGV[3])
if not stream or not group then return 0 end
local last, read = group['last-delivered-id'], group['entries-read']
if not earlier(last, stream['last-generated-id']) then read = stream['entries-added']
elseif read then read = read + ARGV[4] end
if read then redis.call('XGROUP', 'SETID', KEYS[2], ARGV[3], last, 'ENTRIESREAD', text(read)) end
return 1
