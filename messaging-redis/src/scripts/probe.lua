-- KEYS: a key of our own. Whether reading past trimmed entries counts them as read (1) or leaves them out (0): servers
-- differ.
local key = KEYS[1]
redis.call('DEL', key)
redis.call('XGROUP', 'CREATE', key, 'g', '0', 'MKSTREAM')
for i = 1, 3 do redis.call('XADD', key, i .. '-0', 'f', 'v') end
redis.call('XTRIM', key, 'MINID', '=', '3-0')
redis.call('XREADGROUP', 'GROUP', 'g', 'c', 'COUNT', '1', 'STREAMS', key, '>')
local read = group_of(key, 'g')['entries-read']
redis.call('DEL', key)
if read == 3 then return 1 end
return 0
