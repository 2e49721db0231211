-- KEYS: lease, stream. ARGV: owner, epoch, group, consumer, first id, count. What was delivered and not settled, in its
-- order, whoever it was delivered to: {next id, entries, ids that are gone}.
return redis.call('XAUTOCLAIM', KEYS[2], ARGV[3], ARGV[4], 0, ARGV[5], 'COUNT', ARGV[6])
