-- Only for the owner: KEYS[1] is the lease, ARGV[1] the owner, ARGV[2] its epoch. Anybody else gets nil.
local holder = redis.call('HMGET', KEYS[1], 'owner', 'epoch')
if holder[1] ~= ARGV[1] or holder[2] ~= ARGV[2] then return false end
