-- One step of moving a bucket from its shard to the next one. Each step looks first: any host may repeat it at any time.
--
-- KEYS[1]  the bucket's hash
-- ARGV     step, the identity that the bucket must have, the marker (where it goes, and by which change), the content,
--          "\1id", "\1moving", "\1moved", "\1from"
-- answers  "OK", "BAD why", and of
--   out    at its shard: it takes no more batches.               "COPY content", or "DROPPED": dropped before
--   in     at the next shard: it is there, unless it is already.  "ABSENT": there was no content to put there
--   away   at its shard: whoever asks is told where it is. The content stays until the drop: the next shard may lose
--          its copy. "\1moving" stays as well: by it, a bucket without pages differs from one that was dropped.
--   drop   at its shard: only the marker stays
local step, id, marker = ARGV[1], ARGV[2], ARGV[3]
-- No more than the step needs: of a compact hash, each field that is not there costs a look at all of it.
local held = redis.pcall('HMGET', KEYS[1], ARGV[5], ARGV[7], step == 'in' and ARGV[8] or ARGV[6])
if held.err then
  if string.find(held.err, 'WRONGTYPE', 1, true) then return 'BAD its key is not a hash: something else wrote it' end
  return held
end
local has, moved = held[1], held[2]

if step == 'in' then
  local from = held[3]
  if has and not moved then
    if has == id and from == marker then return 'OK' end
    return 'BAD another copy of the bucket is there already, of the identity ' .. has .. '; remove its key'
  end
  if ARGV[4] == '' then return 'ABSENT' end
  redis.call('DEL', KEYS[1])
  local restored = redis.pcall('RESTORE', KEYS[1], 0, ARGV[4])
  if type(restored) == 'table' and restored.err then return restored end
  redis.call('HDEL', KEYS[1], ARGV[6], ARGV[7])
  redis.call('HSET', KEYS[1], ARGV[8], marker)
  return 'OK'
end

if has ~= id then return 'BAD it has the identity ' .. (has or 'of no deployment: it was emptied') end
if moved and moved ~= marker then return 'BAD it has moved to ' .. moved end
if step == 'out' then
  if moved and redis.call('HLEN', KEYS[1]) == 2 then return 'DROPPED' end
  if not moved and held[3] ~= marker then redis.call('HSET', KEYS[1], ARGV[6], marker) end
  return 'COPY ' .. redis.call('DUMP', KEYS[1])
elseif step == 'away' then
  redis.call('HSET', KEYS[1], ARGV[6], marker, ARGV[7], marker)
else
  if not moved then return 'BAD it was not sent away' end
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], ARGV[5], id, ARGV[7], moved)
end
return 'OK'
