-- Forgets a writer in these buckets: where it has a mark, that becomes its tombstone. So a flusher that returns as that
-- writer finds out what it had written. Repeating it is harmless.
--
-- KEYS     hashes of buckets
-- ARGV     the identity that the buckets must have, "\1id", the writer's field, its tombstone, "\1moved", "\1moving"
-- answers  for each bucket
--          "OUT"           it had a mark
--          "NOTHING"       it had none
--          "NOT"           not now: it is being copied to another shard, or it is not here
--          "MOVED marker"  it is on another shard
local answer = {}
for i = 1, #KEYS do
  local held = redis.pcall('HMGET', KEYS[i], ARGV[2], ARGV[3], ARGV[5], ARGV[6])
  if held.err then
    if not string.find(held.err, 'WRONGTYPE', 1, true) then return held end
    answer[i] = 'NOTHING'
  elseif held[3] then
    answer[i] = 'MOVED ' .. held[3]
  elseif held[1] ~= ARGV[1] or held[4] then
    answer[i] = 'NOT'
  elseif held[2] then
    redis.call('HSET', KEYS[i], ARGV[4], held[2])
    redis.call('HDEL', KEYS[i], ARGV[3])
    answer[i] = 'OUT'
  else
    answer[i] = 'NOTHING'
  end
end
return answer
