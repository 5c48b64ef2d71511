-- Applies one batch to its bucket, or says why not. Nothing is written before every check has passed: a script that
-- fails halfway keeps what it has written.
--
-- KEYS[1]  the bucket's hash
-- ARGV     expected mark, new mark, the identity that the bucket must have, the visits of each page, "\1id", our writer
--          field, "\1moved", "\1moving", the pages
-- answers  "OK total ..."    applied
--          "DUP total ..."   the mark is the new one already: applied before
--          "HAVE mark"       the mark is neither the expected nor the new one
--          "BAD index ..."   these pages (from 0) hold no count, or would pass 2^63-1
--          "NOID identity"   the bucket has another identity, or none: it was emptied, or is not ours
--          "GONE"            the writer was forgotten, and its mark is a tombstone: the bucket may have had this batch
--          "WRONGTYPE"       the key is no hash
--          "MOVED marker"    the bucket is on another shard
--          "MOVING marker"   it is being copied there
-- A batch without pages that expects its own mark puts that back, where it is a tombstone.
-- An absent field is an empty mark, an absent page counts 0. Counts are text: a Lua number is exact only below 2^53.
local n = (#ARGV - 7) / 2
local held = redis.pcall('HMGET', KEYS[1], unpack(ARGV, n + 4))
if held.err then
  if string.find(held.err, 'WRONGTYPE', 1, true) then return 'WRONGTYPE' end
  return held
end
if held[1] ~= ARGV[3] then return 'NOID ' .. (held[1] or '') end

local find, byte, sub, format = string.find, string.byte, string.sub, string.format
local mark = held[2] or ''
if mark == ARGV[2] then
  local answer = {'DUP'}
  for i = 1, n do
    local count = held[i + 4]
    answer[i + 1] = count and find(count, '^%d+$') and count or '0'
  end
  return table.concat(answer, ' ')
end
if held[3] then return 'MOVED ' .. held[3] end
if held[4] then return 'MOVING ' .. held[4] end
if mark == '' then
  local tombstone = '\1gone:' .. sub(ARGV[n + 5], 4)
  local gone = redis.call('HMGET', KEYS[1], tombstone)[1]
  if gone and (n > 0 or gone ~= ARGV[1] or gone ~= ARGV[2]) then return 'GONE' end
  if gone then
    redis.call('HSET', KEYS[1], ARGV[n + 5], gone)
    redis.call('HDEL', KEYS[1], tombstone)
    return 'OK'
  end
end
if mark ~= ARGV[1] then return 'HAVE ' .. mark end

local answer, write, bad = {'OK'}, {ARGV[n + 5], ARGV[2]}, {'BAD'}
for i = 1, n do
  local count, visits, total = held[i + 4] or '0', ARGV[i + 3], nil
  if find(count, '^[1-9]%d*$') or count == '0' then
    if #count < 16 and #visits < 16 then
      total = format('%.0f', count + visits)
    else
      -- Two limbs: fifteen digits below, the rest above. 2^63-1 is 9223 and 372036854775807.
      local low = (tonumber(sub(count, -15)) or 0) + (tonumber(sub(visits, -15)) or 0)
      local high = (tonumber(sub(count, 1, -16)) or 0) + (tonumber(sub(visits, 1, -16)) or 0)
      if low >= 1e15 then
        low, high = low - 1e15, high + 1
      end
      if high < 9223 or (high == 9223 and low <= 372036854775807) then
        total = high == 0 and format('%.0f', low) or format('%.0f%015.0f', high, low)
      end
    end
  end
  if total then
    answer[i + 1] = total
    write[2 * i + 1], write[2 * i + 2] = ARGV[n + 7 + i], total
  else
    bad[#bad + 1] = format('%.0f', i - 1)
  end
end
if bad[2] then return table.concat(bad, ' ') end
redis.call('HSET', KEYS[1], unpack(write))
return table.concat(answer, ' ')
