-- Makes the group if it is missing: where it was last known to be, or else where it is to start; and notes how many
-- entries lie before. Answers the place where it had to be made anew though it had been there before, or ''.
local function ensure_group(lease, key, name, start, remembered)
  if group_of(key, name) then return '' end
  local last = redis.call('HGET', lease, 'last') or ''
  if remembered ~= '' and (last == '' or earlier(last, remembered)) then last = remembered end
  local at = start
  if last ~= '' then at = last end
  redis.call('XGROUP', 'CREATE', key, name, at, 'MKSTREAM')
  local stream = stream_of(key)
  local added, length, count = stream['entries-added'], stream['length'], ''
  if at == '$' then at = stream['last-generated-id'] end
  if not earlier(at, stream['last-generated-id']) then count = text(added)
  elseif length == 0 or earlier(at, stream['recorded-first-entry-id']) then count = text(added - length) end
  if count ~= '' then redis.call('XGROUP', 'SETID', key, name, at, 'ENTRIESREAD', count) end
  redis.call('HSET', lease, 'last', at, 'count', count)
  return last
end
