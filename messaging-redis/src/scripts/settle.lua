-- KEYS: lease, stream. ARGV: owner, epoch, group, ids.
return redis.call('XACK', KEYS[2], ARGV[3], unpack(ARGV, 4))
