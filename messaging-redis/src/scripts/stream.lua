-- What is known of a stream and of a group on it; nil if there is none.
local function fields(flat)
  local found = {}
  for i = 1, #flat, 2 do found[flat[i]] = flat[i + 1] end
  return found
end
local function stream_of(key)
  local info = redis.pcall('XINFO', 'STREAM', key)
  if info.err then return nil end
  return fields(info)
end
local function group_of(key, name)
  local groups = redis.pcall('XINFO', 'GROUPS', key)
  if groups.err then return nil end
  for _, flat in ipairs(groups) do
    local group = fields(flat)
    if group['name'] == name then return group end
  end
  return nil
end
-- Whether an id comes before another. The second part may exceed what a number holds exactly.
local function earlier(a, b)
  local am, as = string.match(a, '^(%d+)-(%d+)$')
  local bm, bs = string.match(b, '^(%d+)-(%d+)$')
  if am ~= bm then return tonumber(am) < tonumber(bm) end
  if #as ~= #bs then return #as < #bs end
  return as < bs
end
-- The server forgets how much a group has read when it starts anew from its append-only file, and then tells a lag that is
-- none. Whoever knows how many entries were accounted for up to the last one delivered tells it again: if it has another
-- number, or in any case, so that it stands in that file.
local function remind(key, name, group, last, count, always)
  if group['last-delivered-id'] == last and count ~= '' and (always or group['entries-read'] ~= tonumber(count)) then
    redis.call('XGROUP', 'SETID', key, name, last, 'ENTRIESREAD', count)
  end
end
