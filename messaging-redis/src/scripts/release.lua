-- KEYS: lease, stream. ARGV: owner, epoch, group, the last id it has received, how many entries were accounted for up to
-- it or ''. The epoch stays, so that the next is larger.
redis.call('HSET', KEYS[1], 'owner', '', 'until', '0', 'clients', '', 'last', ARGV[4], 'count', ARGV[5])
local group = group_of(KEYS[2], ARGV[3])
if group then remind(KEYS[2], ARGV[3], group, ARGV[4], ARGV[5], true) end
return 1
