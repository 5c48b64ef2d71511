-- A writer that was forgotten goes on: its fields are put back, and with the last of them its tombstone goes. Only if
-- the tombstone is what is expected.
--
-- KEYS     visits:writers, the tombstone, hashes of buckets
-- ARGV     the writer, the tombstone that is expected, "1" (these are the last) or "0", its field, its mark in each
--          bucket
-- answers  the tombstone as it is afterwards; empty: there is none
local held = redis.call('GET', KEYS[2]) or ''
if held ~= ARGV[2] then return held end
for i = 3, #KEYS do redis.call('HSETNX', KEYS[i], ARGV[4], ARGV[i + 2]) end
if ARGV[3] ~= '1' then return held end
redis.call('HDEL', KEYS[1], ARGV[1] .. ':forgotten')
redis.call('DEL', KEYS[2])
return ''
