-- Says what the counts of each bucket's pages come to together, and the largest of them.
--
-- KEYS     hashes of buckets
-- ARGV     how many pages may be read, "\1id", "\1moved", "\1fix", "\1sum", "\1moving", our tombstone, fields of writers:
--          ours first
-- answers  for each bucket five lines: its identity, where it has moved, our mark, our tombstone, and
--          "SUM LARGEST PAGES ODD"  PAGES were read for it (0: its field said it); ODD of these hold no count
--          "LATER"                  nothing was read: more pages than may be read; or it has moved, or has no identity
--          An absent field is an empty line. "!" where the key is no hash.
--
-- The field "\1sum" is "FIELDS DIGEST SUM LARGEST": FIELDS is how many the hash has; DIGEST is made of all marks and of
-- "\1fix". batch.lua changes all four with each batch. So who writes into the bucket without that (a flusher of a version
-- before, a person) is found out: FIELDS or DIGEST do not fit then. Only the writers that are named here are looked at:
-- if others have marks as well, DIGEST does not fit either, and all is read. A bucket with odd pages keeps no field.
local find, sub, byte, format, match = string.find, string.sub, string.byte, string.format, string.match
local room = tonumber(ARGV[1])

-- What a mark gives to DIGEST: the end of its own digest, which has a salt. As in batch.lua.
local function part(mark)
  return tonumber(sub(mark, -12), 16) or 0
end

local function number_of(fix)
  return fix and #fix < 16 and find(fix, '^%d+$') and tonumber(fix) or 0
end

-- SUM and LARGEST, if the field fits the bucket.
local function known(key, held)
  local fields, digest, sum, largest = match(held[4] or '', '^(%d+) (%d+) (%d+) (%d+)$')
  if not fields then return nil end
  local seen = number_of(held[3])
  for i = 6, #ARGV - 2 do
    if held[i] then seen = (seen + part(held[i])) % 2^48 end
  end
  if seen % 2^48 ~= digest + 0 or redis.call('HLEN', key) ~= tonumber(fields) then return nil end
  return sum .. ' ' .. largest .. ' 0 0'
end

-- Reads all pages, and makes the field.
local function read(key, held)
  local all = redis.call('HGETALL', key)
  local below, above, largest, pages, odd, digest, moving = 0, 0, '0', 0, 0, number_of(held[3]), false
  for i = 1, #all, 2 do
    local name, count = all[i], all[i + 1]
    if byte(name) == 1 then
      if sub(name, 1, 3) == '\1w:' then digest = (digest + part(count)) % 2^48 end
      if name == ARGV[6] then moving = true end
    else
      pages = pages + 1
      local size = #count
      local is_count = count == '0' or find(count, '^[1-9]%d*$')
      if is_count and size < 16 then
        below = below + count
      elseif is_count and (size < 19 or (size == 19 and count <= '9223372036854775807')) then
        below, above = below + sub(count, -15), above + sub(count, 1, -16)
      else
        is_count = false
        odd = odd + 1
      end
      if below >= 1e15 then below, above = below - 1e15, above + 1 end
      if is_count and (size > #largest or (size == #largest and count > largest)) then largest = count end
    end
  end
  local sum = above == 0 and format('%.0f', below) or format('%.0f%015.0f', above, below)
  -- The content of a bucket that moves is copied already. A server that takes no writes says the sum all the same.
  if odd == 0 and not moving then
    local fields = #all / 2 + (held[4] and 0 or 1)
    redis.pcall('HSET', key, ARGV[5], format('%.0f %.0f %s %s', fields, digest % 2^48, sum, largest))
  end
  return format('%s %s %.0f %.0f', sum, largest, pages, odd), pages
end

local answer, done = {}, 0
for i = 1, #KEYS do
  local held = redis.pcall('HMGET', KEYS[i], ARGV[2], ARGV[3], ARGV[4], ARGV[5], unpack(ARGV, 7))
  if held.err then
    if not find(held.err, 'WRONGTYPE', 1, true) then return held end
    answer[i] = '!'
  else
    local said = 'LATER'
    if held[1] and not held[2] then
      said = known(KEYS[i], held)
      if not said then
        local pages
        if done == 0 or done + redis.call('HLEN', KEYS[i]) <= room then
          said, pages = read(KEYS[i], held)
          done = done + pages
        end
      end
    end
    answer[i] = table.concat({held[1] or '', held[2] or '', held[6] or '', held[5] or '', said or 'LATER'}, '\n')
  end
end
return answer
