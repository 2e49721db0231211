-- KEYS: lease, stream, stream of the dead letters. ARGV: owner, epoch, group, id, then the letter's fields. Answers 1, or
-- 0 if the message was settled before, by an answer that was lost.
if #redis.call('XPENDING', KEYS[2], ARGV[3], ARGV[4], ARGV[4], 1) == 0 then return 0 end
redis.call('XADD', KEYS[3], '*', unpack(ARGV, 5))
redis.call('XACK', KEYS[2], ARGV[3], ARGV[4])
return 1
