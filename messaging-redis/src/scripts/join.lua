-- KEYS: lease, stream. ARGV: group, start. Makes the stream and the group's place in it, once and for all.
return ensure_group(KEYS[1], KEYS[2], ARGV[1], ARGV[2], '')
