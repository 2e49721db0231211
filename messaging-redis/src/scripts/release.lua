-- KEYS: lease. ARGV: owner, epoch, the last id it has received, how many entries were accounted for up to it or ''. The
-- epoch stays, so that the next is larger.
redis.call('HSET', KEYS[1], 'owner', '', 'until', '0', 'clients', '', 'last', ARGV[3], 'count', ARGV[4])
return 1
