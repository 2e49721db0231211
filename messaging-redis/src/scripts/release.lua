-- KEYS: lease. ARGV: owner, epoch, the last id it has received. The epoch stays, so that the next is larger.
redis.call('HSET', KEYS[1], 'owner', '', 'until', '0', 'clients', '', 'last', ARGV[3])
return 1
