-- Applies one batch to its bucket, or says why not. Nothing is written before every check has passed: a script that
-- fails halfway keeps what it has written.
--
-- KEYS[1]  the bucket's hash
-- ARGV     expected mark, new mark, the identity that the bucket must have, the correction, the visits of each page,
--          "\1id", our writer field, "\1moved", "\1moving", "\1fix", the pages
--          The correction is empty for a batch of visits. Else "FIX NOW": the visits are differences, which may be
--          negative; the bucket's "\1fix" must be FIX (0: absent; "*": whatever it is), and grows, to NOW at least.
-- answers  "OK fix total ..."   applied
--          "DUP fix total ..."  the mark is the new one already: applied before
--          "HAVE mark"          the mark is neither the expected nor the new one
--          "BAD index ..."      these pages (from 0) hold no count, or would pass 2^63-1
--          "LOW index ..."      these pages would fall below 0
--          "FIX fix"            somebody else has corrected the bucket meanwhile
--          "NOID identity"      the bucket has another identity, or none: it was emptied, or is not ours
--          "GONE"               the writer was forgotten, and its mark is a tombstone: the bucket may have had this batch
--          "WRONGTYPE"          the key is no hash
--          "MOVED marker"       the bucket is on another shard
--          "MOVING marker"      it is being copied there
-- A batch without pages that expects its own mark puts that back, where it is a tombstone.
-- An absent field is an empty mark, an absent page counts 0, and a page that is corrected to 0 goes. Counts are text: a
-- Lua number is exact only below 2^53.
local n = (#ARGV - 9) / 2
local held = redis.pcall('HMGET', KEYS[1], unpack(ARGV, n + 5))
if held.err then
  if string.find(held.err, 'WRONGTYPE', 1, true) then return 'WRONGTYPE' end
  return held
end
if held[1] ~= ARGV[3] then return 'NOID ' .. (held[1] or '') end

local find, byte, sub, format = string.find, string.byte, string.sub, string.format
local mark = held[2] or ''
local fix = held[5] and #held[5] < 16 and find(held[5], '^%d+$') and held[5] or '0'
if mark == ARGV[2] then
  local answer = {'DUP', fix}
  for i = 1, n do
    local count = held[i + 5]
    answer[i + 2] = count and find(count, '^%d+$') and count or '0'
  end
  return table.concat(answer, ' ')
end
if held[3] then return 'MOVED ' .. held[3] end
if held[4] then return 'MOVING ' .. held[4] end
if mark == '' then
  local tombstone = '\1gone:' .. sub(ARGV[n + 6], 4)
  local gone = redis.call('HMGET', KEYS[1], tombstone)[1]
  if gone and (n > 0 or gone ~= ARGV[1] or gone ~= ARGV[2]) then return 'GONE' end
  if gone then
    redis.call('HSET', KEYS[1], ARGV[n + 6], gone)
    redis.call('HDEL', KEYS[1], tombstone)
    return 'OK ' .. fix
  end
end
if mark ~= ARGV[1] then return 'HAVE ' .. mark end

local answer, write, bad, low, zero = {'OK', fix}, {ARGV[n + 6], ARGV[2]}, {'BAD'}, {'LOW'}, {}
local corrects = ARGV[4] ~= ''
if corrects then
  local known, now = string.match(ARGV[4], '^(%S+) (%d+)$')
  if known ~= '*' and known ~= fix then return 'FIX ' .. fix end
  answer[2] = format('%.0f', math.max(fix + 1, now))
  write[3], write[4] = ARGV[n + 9], answer[2]
end
local last = #write
for i = 1, n do
  local count, visits, total = held[i + 5] or '0', ARGV[i + 4], nil
  local falls = corrects and byte(visits) == 45
  if falls then visits = sub(visits, 2) end
  if find(count, '^[1-9]%d*$') or count == '0' then
    if #count < 16 and #visits < 16 then
      total = falls and count - visits or count + visits
      total = total >= 0 and format('%.0f', total) or 'low'
    else
      -- Two limbs: fifteen digits below, the rest above. 2^63-1 is 9223 and 372036854775807.
      local sign = falls and -1 or 1
      local below = (tonumber(sub(count, -15)) or 0) + sign * (tonumber(sub(visits, -15)) or 0)
      local above = (tonumber(sub(count, 1, -16)) or 0) + sign * (tonumber(sub(visits, 1, -16)) or 0)
      if below >= 1e15 then
        below, above = below - 1e15, above + 1
      elseif below < 0 then
        below, above = below + 1e15, above - 1
      end
      if above < 0 then
        total = 'low'
      elseif above < 9223 or (above == 9223 and below <= 372036854775807) then
        total = above == 0 and format('%.0f', below) or format('%.0f%015.0f', above, below)
      end
    end
  end
  if not total then
    bad[#bad + 1] = format('%.0f', i - 1)
  elseif total == 'low' then
    low[#low + 1] = format('%.0f', i - 1)
  elseif corrects and total == '0' then
    answer[i + 2] = total
    zero[#zero + 1] = ARGV[n + 9 + i]
  else
    answer[i + 2] = total
    write[last + 1], write[last + 2] = ARGV[n + 9 + i], total
    last = last + 2
  end
end
if bad[2] then return table.concat(bad, ' ') end
if low[2] then return table.concat(low, ' ') end
redis.call('HSET', KEYS[1], unpack(write))
if zero[1] then redis.call('HDEL', KEYS[1], unpack(zero)) end
return table.concat(answer, ' ')
