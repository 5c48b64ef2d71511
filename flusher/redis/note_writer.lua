-- Notes what is said of a writer, only where the deployment is: nothing is written to a server that was emptied.
--
-- KEYS     visits:writers, visits:topology
-- ARGV     fields and their values; a field whose value is empty is taken away
if not redis.call('GET', KEYS[2]) then return 0 end
for i = 1, #ARGV, 2 do
  if ARGV[i + 1] ~= '' then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
  elseif redis.call('HMGET', KEYS[1], ARGV[i])[1] then
    redis.call('HDEL', KEYS[1], ARGV[i])
  end
end
return 1
