-- Notes what a writer says of itself, only where the deployment is: nothing is written to a server that was emptied.
--
-- KEYS     visits:writers, visits:topology
-- ARGV     fields and their values
if redis.call('EXISTS', KEYS[2]) == 0 then return 0 end
return redis.call('HSET', KEYS[1], unpack(ARGV))
