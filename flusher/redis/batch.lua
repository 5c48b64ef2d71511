-- Applies one batch to its bucket, or says why not. Nothing is written before every check has passed: a script that
-- fails halfway keeps what it has written.
--
-- KEYS[1]  the bucket's hash
-- ARGV     expected mark, new mark, the identity that the bucket must have, the correction, the visits of each page,
--          "\1id", our writer field, "\1moved", "\1moving", "\1fix", "\1sum", the pages
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
-- Where the bucket has the field "\1sum" (see sum.lua, which makes it), it changes with the batch by what the batch
-- changes, and no more: if it did not fit the bucket before, it does not fit afterwards. It goes where the page with the
-- largest count loses visits: which page is the largest then, nobody knows here.
local n = (#ARGV - 10) / 2
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
    local count = held[i + 6]
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

local answer, write, bad, low_pages, zero = {'OK', fix}, {ARGV[n + 6], ARGV[2]}, {'BAD'}, {'LOW'}, {}
local corrects = ARGV[4] ~= ''
if corrects then
  local known, now = string.match(ARGV[4], '^(%S+) (%d+)$')
  if known ~= '*' and known ~= fix then return 'FIX ' .. fix end
  answer[2] = format('%.0f', math.max(fix + 1, now))
  write[3], write[4] = ARGV[n + 9], answer[2]
end
local last = #write
local fields, digest, sum, largest = string.match(held[6] or '', '^(%d+) (%d+) (%d+) (%d+)$')
-- What the pages gain together, and how many fields come; and whether the largest count falls.
local gained, gained_above, come, most, falls = 0, 0, 0, largest or '', false
for i = 1, n do
  local count, visits, total = held[i + 6] or '0', ARGV[i + 4], nil
  local lowers = corrects and byte(visits) == 45
  if lowers then visits = sub(visits, 2) end
  -- Two limbs: fifteen digits below, the rest above. 2^63-1 is 9223 and 372036854775807.
  local low, high = tonumber(visits), 0
  if #visits > 15 then low, high = tonumber(sub(visits, -15)), tonumber(sub(visits, 1, -16)) end
  if lowers then low, high = -low, -high end
  if find(count, '^[1-9]%d*$') or count == '0' then
    if #count < 16 and high == 0 then
      total = count + low
      total = total >= 0 and format('%.0f', total) or 'low'
    else
      local below = tonumber(sub(count, -15)) + low
      local above = (tonumber(sub(count, 1, -16)) or 0) + high
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
    low_pages[#low_pages + 1] = format('%.0f', i - 1)
  else
    answer[i + 2] = total
    gained, gained_above = gained + low, gained_above + high
    if gained >= 1e15 then
      gained, gained_above = gained - 1e15, gained_above + 1
    elseif gained < 0 then
      gained, gained_above = gained + 1e15, gained_above - 1
    end
    if not held[i + 6] then come = come + 1 end
    if lowers and count == largest then falls = true end
    if corrects and total == '0' then
      zero[#zero + 1] = ARGV[n + 10 + i]
      come = come - 1
    else
      write[last + 1], write[last + 2] = ARGV[n + 10 + i], total
      last = last + 2
      if #total > #most or (#total == #most and total > most) then most = total end
    end
  end
end
if bad[2] then return table.concat(bad, ' ') end
if low_pages[2] then return table.concat(low_pages, ' ') end
if falls then
  zero[#zero + 1] = ARGV[n + 10]
elseif fields then
  if mark == '' then come = come + 1 end
  if corrects and not held[5] then come = come + 1 end
  -- As in sum.lua.
  local function part(of)
    return (tonumber(sub(of, -12), 16) or 0) % 2^48 + (tonumber(string.match(of, ' (%d+) ')) or 0)
  end
  local below = (tonumber(sub(sum, -15))) + gained
  local above = (tonumber(sub(sum, 1, -16)) or 0) + gained_above
  if below >= 1e15 then below, above = below - 1e15, above + 1 end
  write[last + 1] = ARGV[n + 10]
  write[last + 2] = format('%.0f %.0f %s %s', fields + come, (digest + part(ARGV[2]) - part(mark) + answer[2] - fix) % 2^48,
    above == 0 and format('%.0f', below) or format('%.0f%015.0f', above, below), most)
end
redis.call('HSET', KEYS[1], unpack(write))
if zero[1] then redis.call('HDEL', KEYS[1], unpack(zero)) end
return table.concat(answer, ' ')
