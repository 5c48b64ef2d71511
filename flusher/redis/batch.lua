-- Applies one batch to its bucket, or says why not: a list of effects, each of which adds its operand to the field of a
-- series. Nothing is written before every check has passed: a script that fails halfway keeps what it has written.
--
-- KEYS[1]  the bucket's hash
-- ARGV     expected mark, new mark, the identity that the bucket must have, the correction, the operand of each effect,
--          "\1id", our writer field, "\1moved", "\1moving", "\1fix", "\1sum", the series of each effect
--          The correction is empty for a batch of visits. Else "FIX NEXT": the operands are differences, which may be
--          negative; the bucket's "\1fix" must be FIX (0: absent; "*": whatever it is), and grows, to NEXT at least.
-- answers  "OK fix total ..."   applied
--          "DUP fix total ..."  the mark is the new one already: applied before. "-" for a series that holds no count now
--          "HAVE mark"          the mark is neither the expected nor the new one
--          "BAD index ..."      these series (from 0) hold no count, or would pass 2^63-1
--          "LOW index ..."      these series would fall below 0
--          "FIX fix"            somebody else has corrected the bucket meanwhile
--          "NOID identity"      the bucket has another identity, or none: it was emptied, or is not ours
--          "GONE"               the writer was forgotten, and its mark is a tombstone: the bucket may have had this batch
--          "WRONGTYPE"          the key is no hash
--          "MOVED marker"       the bucket is on another shard
--          "MOVING marker"      it is being copied there
-- A batch without effects that expects its own mark puts that back, where it is a tombstone.
-- An absent field is an empty mark, an absent series counts 0, and one that is corrected to 0 goes. Counts are text: a
-- Lua number is exact only below 2^53.
-- Where the bucket has the field "\1sum" (see sum.lua, which makes it), it changes with the batch by what the batch
-- changes, and no more: if it did not fit the bucket before, it does not fit afterwards. It goes where the series with
-- the largest count loses visits: which one is the largest then, nobody knows here.
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
    local count = held[i + 6] or '0'
    local is_count = (find(count, '^[1-9]%d*$') or count == '0') and
                     (#count < 19 or (#count == 19 and count <= '9223372036854775807'))
    answer[i + 2] = is_count and count or '-'
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
  local known, next_fix = string.match(ARGV[4], '^(%S+) (%d+)$')
  if known ~= '*' and known ~= fix then return 'FIX ' .. fix end
  answer[2] = format('%.0f', math.max(fix + 1, next_fix))
  write[3], write[4] = ARGV[n + 9], answer[2]
end
local last = #write
local fields, digest, sum, largest = string.match(held[6] or '', '^(%d+) (%d+) (%d+) (%d+)$')
-- Of the field of the sum: what the series gain together, in two limbs: fifteen digits below, the rest above; how many
-- fields come; the largest total, of those that fit into a limb and of others; and whether the largest count falls.
local gained, gained_above, come, most, most_above, falls = 0, 0, 0, -1, '', false
for i = 1, n do
  local had, visits, total = held[i + 6], ARGV[i + 4], nil
  local count = had or '0'
  local lowers = corrects and byte(visits) == 45
  if lowers then visits = sub(visits, 2) end
  if find(count, '^[1-9]%d*$') or count == '0' then
    if #count < 16 and #visits < 16 then
      local by = lowers and -visits or visits + 0
      total = count + by
      gained = gained + by
      if total > most then most = total end
      total = total >= 0 and format('%.0f', total) or 'low'
    else
      -- 2^63-1 is 9223 and 372036854775807.
      local sign = lowers and -1 or 1
      local by, by_above = sign * (tonumber(sub(visits, -15)) or 0), sign * (tonumber(sub(visits, 1, -16)) or 0)
      gained, gained_above = gained + by, gained_above + by_above
      local below = (tonumber(sub(count, -15)) or 0) + by
      local above = (tonumber(sub(count, 1, -16)) or 0) + by_above
      if below >= 1e15 then
        below, above = below - 1e15, above + 1
      elseif below < 0 then
        below, above = below + 1e15, above - 1
      end
      if above < 0 then
        total = 'low'
      elseif above < 9223 or (above == 9223 and below <= 372036854775807) then
        total = above == 0 and format('%.0f', below) or format('%.0f%015.0f', above, below)
        if #total > #most_above or (#total == #most_above and total > most_above) then most_above = total end
      end
    end
  end
  if gained >= 1e15 then
    gained, gained_above = gained - 1e15, gained_above + 1
  elseif gained < 0 then
    gained, gained_above = gained + 1e15, gained_above - 1
  end
  if lowers and count == largest then falls = true end
  if not had then come = come + 1 end
  if not total then
    bad[#bad + 1] = format('%.0f', i - 1)
  elseif total == 'low' then
    low[#low + 1] = format('%.0f', i - 1)
  elseif corrects and total == '0' then
    answer[i + 2] = total
    zero[#zero + 1] = ARGV[n + 10 + i]
    come = come - 1
  else
    answer[i + 2] = total
    write[last + 1], write[last + 2] = ARGV[n + 10 + i], total
    last = last + 2
  end
end
if bad[2] then return table.concat(bad, ' ') end
if low[2] then return table.concat(low, ' ') end
if falls then
  zero[#zero + 1] = ARGV[n + 10]
elseif fields then
  if mark == '' then come = come + 1 end
  if corrects and not held[5] then come = come + 1 end
  if come ~= 0 then fields = format('%.0f', fields + come) end
  local before, after = tonumber(sub(mark, -12), 16) or 0, tonumber(sub(ARGV[2], -12), 16) or 0
  digest = format('%.0f', (digest + after - before + answer[2] - fix) % 2^48)
  local below, above = sub(sum, -15) + gained, (tonumber(sub(sum, 1, -16)) or 0) + gained_above
  if below >= 1e15 then below, above = below - 1e15, above + 1 end
  sum = above == 0 and format('%.0f', below) or format('%.0f%015.0f', above, below)
  for _, total in pairs({most >= 0 and format('%.0f', most) or '', most_above}) do
    if #total > #largest or (#total == #largest and total > largest) then largest = total end
  end
  write[last + 1], write[last + 2] = ARGV[n + 10], fields .. ' ' .. digest .. ' ' .. sum .. ' ' .. largest
end
redis.call('HSET', KEYS[1], unpack(write))
if zero[1] then redis.call('HDEL', KEYS[1], unpack(zero)) end
return table.concat(answer, ' ')
