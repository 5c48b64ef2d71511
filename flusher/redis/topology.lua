-- Sets the topology, only where it is what is expected (empty: no such key). Answers what it is afterwards.
--
-- KEYS[1]  visits:topology
-- ARGV     what is expected, what it shall be
local held = redis.call('GET', KEYS[1]) or ''
if held ~= ARGV[1] then return held end
redis.call('SET', KEYS[1], ARGV[2])
return ARGV[2]
