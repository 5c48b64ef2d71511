-- Forgets a writer in these buckets: takes its field out of each, and notes in the writer's tombstone what stood there,
-- so that a flusher that returns as that writer finds out what it had written. Repeating it is harmless.
--
-- KEYS     visits:writers, the tombstone, hashes of buckets
-- ARGV     the writer, when and by whom it is forgotten, its field, the number of each bucket
-- answers  how many of the buckets had the field
local held = redis.call('GET', KEYS[2]) or ''
-- Buckets that are noted already have no field any more.
local again = ARGV[4] and string.find(held, '\n' .. ARGV[4] .. ':', 1, true)
local noted, from = {}, {}
if held == '' then noted[1] = ARGV[2] .. '\n' end
for i = 3, #KEYS do
  local mark = redis.pcall('HGET', KEYS[i], ARGV[3])
  if type(mark) == 'table' and not string.find(mark.err, 'WRONGTYPE', 1, true) then return mark end
  if type(mark) == 'string' then
    noted[#noted + 1] = ARGV[i + 1] .. ':' .. (string.match(mark, '%S+ %S+$') or '?') .. '\n'
    from[#from + 1] = KEYS[i]
  elseif not again then
    noted[#noted + 1] = ARGV[i + 1] .. ':\n'
  end
end
-- First what a full server refuses.
if noted[1] then redis.call('APPEND', KEYS[2], table.concat(noted)) end
redis.call('HSET', KEYS[1], ARGV[1] .. ':forgotten', ARGV[2])
for i = 1, #from do redis.call('HDEL', from[i], ARGV[3]) end
return tostring(#from)
