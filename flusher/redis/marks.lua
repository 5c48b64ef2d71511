-- Says what buckets hold of ours. Where an identity is given, buckets without one are given it first.
--
-- KEYS     hashes of buckets
-- ARGV     our writer field, "\1id", the identity to give (empty: none), "\1moved", our tombstone
-- answers  for each bucket four lines: its identity, our mark, where it has moved, the tombstone. An absent field is an
--          empty line. "!" where the key is no hash.
local answer = {}
for i = 1, #KEYS do
  if ARGV[3] ~= '' then
    local given = redis.pcall('HSETNX', KEYS[i], ARGV[2], ARGV[3])
    if type(given) == 'table' and given.err and not string.find(given.err, 'WRONGTYPE', 1, true) then return given end
  end
  local held = redis.pcall('HMGET', KEYS[i], ARGV[2], ARGV[1], ARGV[4], ARGV[5])
  if held.err then
    if not string.find(held.err, 'WRONGTYPE', 1, true) then return held end
    answer[i] = '!'
  else
    answer[i] = table.concat({held[1] or '', held[2] or '', held[3] or '', held[4] or ''}, '\n')
  end
end
return answer
