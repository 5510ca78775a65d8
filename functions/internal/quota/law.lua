-- The law of law.go on Redis' own clock. TestLawLua holds the two together.
-- KEYS[1]  a hash: the state of one quota, gone after an hour without use
-- ARGV     what to do, 1/QPS, how many bookings are a tenth of a second, and for
--   book     within, lane
--   report   seq, at, probe (0 or 1), verdict (0 unused, 1 accepted, 2 throttling)
--   shares   nothing; it writes nothing either
-- Answers  time to the next slot, spacing, closed (0 or 1), and for
--   book     seq (0: no slot), wait, at, probe
--   shares   human, alert, bulk of the last full minute, then of this one
-- Times are microseconds. Every number crosses as text with 17 digits: Redis
-- would cut it to an integer, Lua's tostring and cjson to 14 digits.

local LANES, START_STRETCH = {'human', 'alert', 'bulk'}, 1.02
local CREEP, CREEP_DAMPING = 0.0001, 4
local STEP_MIN, STEP_QUIET, STEP_MAX = 0.02, 0.015, 0.40
local SOON, QUIET = 5, 100
local MINUTE, MEMORY_CALLS, REMEMBERED = 60000000, 600, 16
local CLOSED_MIN, CLOSED_MAX = 1000000, 8000000
local HORIZON, STAGGERED, APPOINTED = 500000, 3000000, 1000000

local max, min, floor = math.max, math.min, math.floor
local op, interval, reach = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])

-- s reads what is stored, else zero, and holds what is assigned: only changes are
-- written. Fields have names, so that versions of this script can share a state.
local stored = setmetatable({}, {__index = function() return 0 end})
local fields = redis.call('HGETALL', KEYS[1])
for i = 1, #fields, 2 do stored[fields[i]] = tonumber(fields[i + 1]) end
local s = setmetatable({}, {__index = stored})
if s.stretch == 0 then s.stretch = START_STRETCH end

-- Where the clock steps back (another server after a failover), the law's time
-- goes on from where it was: not backwards, and it does not stand still.
local clock = redis.call('TIME')
local wall = clock[1] * 1000000 + clock[2]
s.skew = max(s.skew, s.seen - wall)
local now = wall + s.skew
s.seen = now

local function spacing() return s.stretch * interval end

local function free()
  if s.closedFor > 0 then return max(now, s.next, s.closedUntil) end
  return max(now, s.next)
end

local function turn_minute()
  local minute = floor(now / MINUTE)
  if minute == s.minute then return end
  for _, lane in ipairs(LANES) do
    s[lane .. 'Last'] = minute == s.minute + 1 and s[lane] or 0
    s[lane] = 0
  end
  s.minute = minute
end

local function book(within, lane)
  local at = free()
  if at - now > within then
    if within == HORIZON then -- who asks for less leaves at its deadline
      if s.tail < at or s.tail > at + STAGGERED then s.tail = at end
      at = s.tail
      s.tail = at + spacing()
    end
    return {0, at - now, 0, 0}
  end
  s.seq = s.seq + 1
  s.next = at + spacing()
  local probe = s.closedFor > 0 and 1 or 0
  if probe == 1 then
    s.closedFor = min(2 * s.closedFor, CLOSED_MAX)
    s.closedUntil = at + s.closedFor
  end
  turn_minute()
  s[lane] = s[lane] + 1
  return {s.seq, at - now, at, probe}
end

local function give_back(seq, at, probe)
  if seq == 0 or seq ~= s.seq then return end
  s.seq = seq - 1
  s.changed = min(s.changed, s.seq)
  -- After a flush the numbers start anew, and a slot from before may carry a
  -- time far ahead: giving back never moves the next slot away.
  s.next = min(s.next, at)
  if probe and s.closedFor > 0 then
    s.closedFor, s.closedUntil = s.closedFor / 2, min(s.closedUntil, at)
  end
end

local function accept()
  local recent, memory = 0, max(MINUTE, MEMORY_CALLS * interval)
  for i = 0, min(s.steps, REMEMBERED) - 1 do
    if now - s['refusal' .. i] < memory then recent = recent + 1 end
  end
  local by = CREEP * max(1, (s.stretch - 1) / STEP_MIN)
  if recent > 0 then by = CREEP / (1 + CREEP_DAMPING * recent) end
  s.stretch = max(1, s.stretch - by)
end

local function refuse(seq)
  if math.abs(seq - s.refused) > reach then s.run = 0 end
  s.run = s.run + 1
  s.refused = seq
  local since = seq - s.changed
  if s.run >= 2 * reach then
    s.closedFor, s.closedUntil = CLOSED_MIN, now + CLOSED_MIN
    return
  elseif since <= 0 then return -- the step that answers this refusal has been made
  elseif since < SOON then s.step = min(max(2 * s.step, STEP_MIN), STEP_MAX)
  else s.step = since > QUIET and STEP_QUIET or STEP_MIN end
  s.stretch = s.stretch + s.step
  s.changed = s.seq
  s['refusal' .. s.steps % REMEMBERED] = now
  s.steps = s.steps + 1
end

local function report(seq, at, probe, verdict)
  if verdict == 0 then give_back(seq, at, probe)
  elseif probe then
    if verdict == 1 then s.closedFor, s.run, s.changed = 0, 0, s.seq end
  elseif s.closedFor > 0 then return -- on its way when the quota closed
  elseif verdict == 1 then accept()
  elseif verdict == 2 then refuse(seq) end
end

local details = {}
if op == 'book' then details = book(tonumber(ARGV[4]), ARGV[5])
elseif op == 'report' then report(tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6] == '1', tonumber(ARGV[7]))
else
  turn_minute()
  for i, lane in ipairs(LANES) do details[i], details[i + #LANES] = s[lane .. 'Last'], s[lane] end
end

-- Behind those who were told when to come back; who booked keeps that place, see
-- law.go.
local next = free()
local crowded = s.closedFor == 0 and s.tail > next + spacing() / 2 and s.tail <= next + STAGGERED
if crowded then next = s.tail end
local answer = {next - now, spacing(), s.closedFor > 0 and 1 or 0, unpack(details)}
for i, value in ipairs(answer) do answer[i] = string.format('%.17g', value) end
if crowded and op == 'book' and details[1] > 0 and s.tail < free() + APPOINTED then s.tail = s.tail + spacing() end

if op ~= 'shares' then
  local changes = {}
  for name, value in pairs(s) do
    changes[#changes + 1], changes[#changes + 2] = name, string.format('%.17g', value)
  end
  redis.call('HSET', KEYS[1], unpack(changes))
  redis.call('PEXPIRE', KEYS[1], 3600000)
end
return answer
