-- Makes the group if it is missing: where it was last known to be, or else where it is to start. Answers the place where
-- it had to be made anew though it had been there before, or ''.
local function ensure_group(lease, key, name, start, remembered)
  if group_of(key, name) then return '' end
  local last = redis.call('HGET', lease, 'last') or ''
  if remembered ~= '' and (last == '' or earlier(last, remembered)) then last = remembered end
  local at = start
  if last ~= '' then at = last end
  redis.call('XGROUP', 'CREATE', key, name, at, 'MKSTREAM')
  local stream = stream_of(key)
  local first, added = stream['recorded-first-entry-id'], stream['entries-added']
  local read
  if at == '$' or added == 0 or not earlier(at, stream['last-generated-id']) then read = added
  elseif stream['length'] == 0 then read = added
  elseif earlier(at, first) then read = added - stream['length'] end
  if at == '$' then at = stream['last-generated-id'] end
  if read then redis.call('XGROUP', 'SETID', key, name, at, 'ENTRIESREAD', read) end
  redis.call('HSET', lease, 'last', at)
  return last
end
