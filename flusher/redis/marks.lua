-- Says what buckets hold of ours. Where an identity is given, buckets without one are given it first.
--
-- KEYS     hashes of buckets
-- ARGV     our writer field, "\1id", the identity to give (empty: none), "\1moved"
-- answers  for each bucket "=MARK" where it has no identity, "IDENTITY\nMARK" where it does, with "\nMARKER" behind it
--          where it has moved, and "!" where the key is no hash. An absent field is an empty mark.
local answer = {}
for i = 1, #KEYS do
  if ARGV[3] ~= '' then
    local given = redis.pcall('HSETNX', KEYS[i], ARGV[2], ARGV[3])
    if type(given) == 'table' and given.err and not string.find(given.err, 'WRONGTYPE', 1, true) then return given end
  end
  local held = redis.pcall('HMGET', KEYS[i], ARGV[2], ARGV[1], ARGV[4])
  if held.err then
    if not string.find(held.err, 'WRONGTYPE', 1, true) then return held end
    answer[i] = '!'
  elseif held[1] then
    answer[i] = held[1] .. '\n' .. (held[2] or '') .. (held[3] and '\n' .. held[3] or '')
  else
    answer[i] = '=' .. (held[2] or '')
  end
end
return answer
