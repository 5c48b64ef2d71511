-- Says who moves buckets, for so long: the one who asks, unless somebody else does. Answers who it is.
--
-- KEYS[1]  visits:mover
-- ARGV     who asks, for how long (ms)
local mover = redis.call('GET', KEYS[1])
if mover and mover ~= ARGV[1] then return mover end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return ARGV[1]
