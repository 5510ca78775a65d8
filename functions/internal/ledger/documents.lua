-- The documents of documents.go on Redis' own clock: one call is one step.
-- TestRedisDocumentsAreTheSame holds the two together.
--
-- KEYS[1]  due: sorted set of the documents that have a time, by it
-- KEYS[2]  ends: sorted set of all documents, by when they are forgotten
-- KEYS[3]  the version given last, to whatever document
-- KEYS[4]  a document: hash of version and body. It expires when it is forgotten
-- ARGV[1]  the step: load, save, delete or due
-- ARGV[2]  the document's name in the sorted sets
-- ARGV[3]  for save and delete the version to be replaced, '0' for none; for due
--          the limit
-- ARGV[4]  for save how long to keep it, ARGV[5] how long until it is due, '' for
--          never, ARGV[6] its body
-- Answers  texts, first a number: for load the version and the body, or 0; for
--          save and delete the new version, or -1 where it has another one; for
--          due how many have a time, and names
--
-- Times are microseconds: Lua holds them exactly, but its tostring keeps only 14
-- digits. Keys and commands stand as in redis.lua.

local CONFLICT = {'-1'}

local name = ARGV[2]
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]

-- What has ended leaves the sorted sets when somebody looks.
for _, ended in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now)) do
  redis.call('ZREM', KEYS[1], ended)
  redis.call('ZREM', KEYS[2], ended)
end

local function version()
  return redis.call('ZSCORE', KEYS[2], name) and redis.call('HGET', KEYS[4], 'version') or '0'
end

local steps = {}

function steps.load()
  return {version(), redis.call('HGET', KEYS[4], 'body') or nil}
end

function steps.save()
  if version() ~= ARGV[3] then return CONFLICT end
  local last = tonumber(redis.call('GET', KEYS[3])) or 0
  local new = string.format('%.0f', math.max(last + 1, now))
  redis.call('SET', KEYS[3], new)
  redis.call('HSET', KEYS[4], 'version', new, 'body', ARGV[6])
  redis.call('PEXPIRE', KEYS[4], math.ceil(ARGV[4] / 1000))
  redis.call('ZADD', KEYS[2], now + ARGV[4], name)
  if ARGV[5] == '' then redis.call('ZREM', KEYS[1], name)
  else redis.call('ZADD', KEYS[1], now + ARGV[5], name) end
  return {new}
end

function steps.delete()
  if version() ~= ARGV[3] then return CONFLICT end
  redis.call('DEL', KEYS[4])
  redis.call('ZREM', KEYS[1], name)
  redis.call('ZREM', KEYS[2], name)
  return {'0'}
end

function steps.due()
  local names = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[3])
  table.insert(names, 1, tostring(redis.call('ZCARD', KEYS[1])))
  return names
end

return steps[ARGV[1]]()
