-- The state machine of record.go on Redis' own clock: one call is one step.
-- TestRedisIsTheSameMachine holds the two together.
--
-- KEYS[1]  a record: JSON, see below. For own: the message a request is for
-- KEYS[2]  open: sorted set of the records with something unfinished, by time due
-- KEYS[3]  orders: hash of scope to code|end|given|lasts; end 0 is none
-- KEYS[4]  birth: hash of run (the server's run id) and at
-- KEYS[5]  counts: hash of operation to JSON: requests by state and by outcome,
--          first and last decision, time of the last change. '' is all
-- KEYS[6]  undecided: sorted set of operation, record, source and id, by receipt
-- ARGV[1]  the step, one of steps
-- ARGV[2]  its arguments, JSON
-- ARGV[3]  the request (claim, receive, read) or the event (decide)
-- Answers  JSON; then for a claim the request, unless it is the one that was
--          asked, and the event; for due record names; for work '+' (decided) or
--          '-' and the request, each; for progress the counts; for history JSON
--          of each request
--
-- Keys stand as KEYS[n] in every call, and commands as literals: the proxy of
-- Tair refuses anything else (source: Alibaba Cloud, "Lua scripting in Tair",
-- limits of cluster instances). Times are milliseconds. Requests and events are
-- never decoded: cjson keeps 14 digits and turns [] into {}.
--
-- A record: f fence, b the one before, t token and w found of the last claim, p pushes, m maybe
-- duplicate, q requests: s source, i id, g generation, z state, r received, u
-- until, c code, n since, h held, y young, b probe, a attempts, x unresolved, o operation,
-- k request, e event; v outcome, d decided at (text), l late.

local HALTED_FOR, EMIT_GRACE, GIVEN_FOR = 30000, 30000, 10000
local PROBE_FOR, HALF_OPEN_FOR = 20000, 600000
local FORGETFUL, FORGETFUL_IF_UNKNOWN = 60000, 86400000
local GRANTED, INTERRUPTED, CLOSED, BUSY, UNDELIVERED, REPEATED = 0, 1, 2, 3, 4, 5
local CLOSES = {pushed = true, unknown = true}
local STOOD_STILL = {Stopped = true, Paused = true}
local IS_ORDER = {Stopped = true, Paused = true, BreakerOpen = true}
local LOST, FORGOTTEN, DONE = {'{"lost":true}'}, {'{"forgotten":true}'}, {'{}'}

local name = string.sub(KEYS[1], -22)
local a = cjson.decode(ARGV[2])
for argument, value in pairs(a) do
  if value == '' then a[argument] = nil end
end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local r        -- the record
local before   -- the state of each request when the record was read
local changed  -- it has to be written

-- What a record must have for the steps to run through.
local RECORD = {f = 'number', p = 'number', q = 'table'}
local REQUEST = {s = 'string', i = 'string', z = 'string', g = 'number', r = 'number'}
local UNFINISHED = {u = 'number', n = 'number', k = 'string'}

local function has(t, types)
  if type(t) ~= 'table' then return false end
  for field, wanted in pairs(types) do
    if type(t[field]) ~= wanted then return false end
  end
  return true
end

-- read loads the record and reports whether it can be used.
local function read()
  before = {}
  local text = redis.call('GET', KEYS[1])
  if not text then return true end
  local ok, stored = pcall(cjson.decode, text)
  if not ok or not has(stored, RECORD) then return false end
  for _, q in ipairs(stored.q) do
    if not has(q, REQUEST) or q.z ~= 'emitted' and not has(q, UNFINISHED) then return false end
    before[q] = q.z
  end
  r = stored
  return true
end

local function is_open(q) return q.z == 'claimed' or q.z == 'sending' end
local function is_decided(q) return q.z == 'decided' or q.z == 'emitted' end

local function find()
  for at, q in ipairs(r and r.q or {}) do
    if q.s == a.source and q.i == a.id then return q, at end
  end
end

local function open()
  for _, q in ipairs(r.q) do
    if is_open(q) then return q end
  end
end

-- counts are statistics: what cannot be read begins anew.
local function counts(text)
  local ok, n = pcall(cjson.decode, text or '{}')
  if not ok or type(n) ~= 'table' then return {} end
  for field, value in pairs(n) do n[field] = tonumber(value) end
  return n
end

-- count moves a request between states; nil is none.
local function count(q, from, to)
  for _, operation in ipairs(q.o and {'', q.o} or {''}) do
    local n = counts(redis.call('HGET', KEYS[5], operation))
    if from then n[from] = (n[from] or 0) - 1 end
    if to then n[to] = (n[to] or 0) + 1 end
    if to == 'decided' then
      n[q.v] = (n[q.v] or 0) + 1
      n.first, n.last = n.first or now, now
    end
    n.at = now
    redis.call('HSET', KEYS[5], operation, cjson.encode(n))
    local member = operation .. '\0' .. name .. q.s .. '\0' .. q.i
    if not from then redis.call('ZADD', KEYS[6], q.r, member)
    elseif not to or to == 'decided' then redis.call('ZREM', KEYS[6], member) end
  end
end

-- forget drops the counts of one operation, any, if it is over and retention has
-- passed. A claim looks at one: none pays for many.
local function forget()
  local operation = redis.call('HRANDFIELD', KEYS[5])
  if not operation then return end
  local n = counts(redis.call('HGET', KEYS[5], operation))
  for _, state in ipairs({'waiting', 'claimed', 'sending', 'decided'}) do
    if (n[state] or 0) > 0 then return end
  end
  if now - (n.at or 0) > a.retention then redis.call('HDEL', KEYS[5], operation) end
end

-- due_of is when an unfinished request can be taken up: while somebody is at the
-- message, the others wait.
local function due_of(q)
  local other = open()
  if other and q.z == 'waiting' and other.u > q.u then return other.u end
  return q.u
end

local function save()
  local due
  for _, q in ipairs(r.q) do
    if q.z ~= before[q] then count(q, before[q], q.z) end
    if q.z ~= 'emitted' then due = math.min(due or math.huge, due_of(q)) end
  end
  if not open() then r.b, r.t, r.w = nil, nil, nil end
  if due then
    redis.call('SET', KEYS[1], cjson.encode(r))
    redis.call('ZADD', KEYS[2], due, name)
    return
  end
  redis.call('ZREM', KEYS[2], name)
  if #r.q == 0 then redis.call('DEL', KEYS[1])
  else redis.call('SET', KEYS[1], cjson.encode(r), 'PX', a.retention) end
end

-- on is the order on a scope itself, and how long to wait.
local function on(text)
  if not text then return nil end
  local code, ends = string.match(text, '^(%a+)|(%d+)|')
  if ends == '0' then return code, HALTED_FOR end
  if ends - now > 0 then return code, math.min(ends - now, HALTED_FOR) end
end

-- ended tells an order that ended by itself from one in force, and whether that
-- is long ago.
local function ended(text)
  local ends = tonumber(string.match(text, '^%a+|(%d+)|'))
  if not ends then return true, true end
  return ends > 0 and ends <= now, ends > 0 and ends + HALF_OPEN_FOR <= now
end

-- half_open is how long the breaker of the group (the fourth scope) was open, if
-- it has ended and nobody knows yet whether calls pass. Taking it keeps others
-- away for a while.
local function half_open()
  local text = redis.call('HGET', KEYS[3], a.scopes[4])
  if not text or string.sub(text, 1, 12) ~= 'BreakerOpen|' then return nil end
  local is_over, long_ago = ended(text)
  if not is_over or long_ago then return nil end
  local given, lasts = string.match(text, '^%a+|%d+|(%d+)|(%d+)$')
  if ARGV[1] ~= 'read' then
    redis.call('HSET', KEYS[3], a.scopes[4], string.format('BreakerOpen|%.0f|%s|%s', now + PROBE_FOR, given, lasts))
  end
  return tonumber(lasts)
end

-- over is the order that the request is subject to: a cancellation, or the first.
local function over()
  local code, wait
  for _, text in ipairs(redis.call('HMGET', KEYS[3], unpack(a.scopes))) do
    local this, its_wait = on(text)
    if this == 'Cancelled' then return this, its_wait end
    if this and not code then code, wait = this, its_wait end
  end
  return code, wait
end

local function codes()
  local all = {}
  for _, text in ipairs(redis.call('HMGET', KEYS[3], unpack(a.scopes))) do
    all[#all + 1] = on(text) or nil
  end
  return #all > 0 and all or nil
end

-- born is when this server began to remember, as far as it is known, and whether
-- that was noticed now. INFO may be denied.
local function born()
  local info = redis.pcall('INFO', 'server')
  local run = type(info) == 'string' and string.match(info, 'run_id:(%w+)') or ''
  local mark = redis.call('HMGET', KEYS[4], 'run', 'at')
  local at = tonumber(mark[2])
  if at and (run == '' or run == mark[1]) then return at, false end
  if ARGV[1] == 'read' then return now, false end
  redis.call('HSET', KEYS[4], 'run', run, 'at', now)
  return now, true
end

local function held(q)
  if q.z == 'waiting' and STOOD_STILL[q.c] then return (q.h or 0) + now - q.n end
  return q.h
end

local function wait(q, code, until_)
  q.h, q.z, q.n, q.u = held(q), 'waiting', now, until_
  if IS_ORDER[q.c] then q.c = nil end
  if code ~= '' then q.c = code end
  changed = true
end

-- add notes a request that is new to the record.
local function add(birth)
  local young = a.time < birth + FORGETFUL
  if a.time == 0 then young = now - birth < FORGETFUL_IF_UNKNOWN end
  local q = {
    s = a.source, i = a.id, g = a.generation, o = a.operation, z = 'waiting', r = now, u = now, n = now, c = a.code, k = ARGV[3],
    y = young or nil,
  }
  r = r or {f = 0, p = 0, q = {}}
  r.m = r.m or q.y
  r.q[#r.q + 1] = q
  changed = true
  return q
end

local function closing(generation)
  local best
  for _, q in ipairs(r.q) do
    if is_decided(q) and CLOSES[q.v] and q.g >= generation and (not best or q.g < best.g) then best = q end
  end
  return best
end

-- Answers to a claim: a table that becomes JSON, the request, the event.
local function first(q) return {eventId = q.i, outcome = q.v, decidedAt = q.d, late = q.l} end

local function answer(q, found, details)
  local c = details or {}
  c.found, c.receivedAt, c.age = found, q.r, now - q.r - (held(q) or 0)
  c.code, c.young, c.pushes, c.attempts, c.probe = c.code or q.c, q.y, r.p, q.a, q.b
  c.maybe = r.m or r.p > 0
  if found == INTERRUPTED then c.maybe = r.m or r.p > q.x or q.x > 1 end -- its own push is none before it
  if q.v and not c.first then c.first = first(q) end
  return {c, q.k ~= ARGV[3] and q.k or '', q.e or ''}
end

local function busy(q, code, until_) return answer(q, BUSY, {wait = until_ - now, code = code}) end

local function ours(q, found, order)
  local c = {fence = r.f, cancelled = found == GRANTED and order == 'Cancelled' or nil}
  if found == CLOSED then c.first = first(closing(q.g)) end
  return answer(q, found, c)
end

local function take(q, found, order)
  q.b = found == GRANTED and not order and half_open() or nil
  -- Never the same fence again, whatever this server has forgotten meanwhile.
  r.b, r.f, r.t, r.w = r.f, math.max(r.f + 1, now), a.token, found
  if q.z ~= 'sending' then q.h, q.z = held(q), 'claimed' end
  q.u = now + a.lease
  changed = true
  return ours(q, found, order)
end

local function claim(q)
  if q.z == 'emitted' then return answer(q, REPEATED) end
  if q.z == 'decided' then return answer(q, UNDELIVERED) end
  local order, order_wait = over()
  local other = open()
  if other then
    if other.u > now then
      if a.token and a.token == r.t then return ours(other, r.w, order) end
      return busy(q, 'InProgress', other.u)
    end
    if other.z == 'sending' then return take(other, INTERRUPTED) end
    wait(other, '', now)
  end
  if closing(q.g) then return take(q, CLOSED) end
  if order == 'Cancelled' then return take(q, GRANTED, order) end
  if order then
    wait(q, order, now + order_wait)
    return busy(q, q.c, q.u)
  end
  -- An order that was lifted holds up nobody.
  if q.u > now and not IS_ORDER[q.c] then return busy(q, q.c, q.u) end
  return take(q, GRANTED)
end

-- doubt marks a request that was due, or in somebody's hands, when this server
-- was born: what it knows of it may come from a copy that missed a push.
local function doubt(q, birth)
  local was_due = q.u <= birth or is_open(q) and q.u <= now
  if q.n < birth and was_due then q.y, r.m, changed = true, true, true end
end

-- receives is a step that answers like a claim.
local function receives(step)
  return function()
    local birth, is_new = born()
    local q = find() or add(birth)
    if not is_decided(q) then doubt(q, birth) end
    local out = step(q)
    if changed and ARGV[1] ~= 'read' then
      forget()
      save()
    end
    out[1].born = is_new or nil
    out[1] = cjson.encode(out[1])
    return out
  end
end

local steps = {claim = receives(claim), read = receives(claim)}
steps.receive = receives(function(q) return answer(q, BUSY) end)

-- holding is the request whose claim is held under this fence, or nil and why.
local function holding()
  local q = find()
  if not q then return nil, FORGOTTEN end
  if r.f ~= a.fence or not is_open(q) then return nil, LOST, q end
  return q
end

function steps.sending()
  local q, why = holding()
  if not q then return why end
  local attempts = q.a or 0
  local asked = q.z == 'sending' and r.p == a.pushes + 1 and attempts == a.attempts + 1 -- before
  if not asked and (r.p ~= a.pushes or attempts ~= a.attempts) then return LOST end
  local code, order_wait = over()
  if code and not (code == 'BreakerOpen' and q.b) then return {cjson.encode({halted = code, wait = order_wait})} end
  if not asked then q.z, q.a, q.x, r.p = 'sending', attempts + 1, (q.x or 0) + 1, r.p + 1 end
  q.u = now + a.lease
  save()
  return DONE
end

function steps.notsent()
  local q, why = holding()
  if not q then return why end
  if (q.a or 0) ~= a.attempts then return LOST end -- one that comes late must not take back the next
  if r.p ~= a.pushes - 1 then -- else it was asked before
    if r.p ~= a.pushes or q.z ~= 'sending' then return LOST end
    q.x, r.p = q.x - 1, r.p - 1
    if q.x == 0 then q.x, q.z = nil, 'claimed' end
  end
  q.u, r.m = now + a.lease, r.m or a.maybe or nil
  save()
  return DONE
end

function steps.park()
  local q, why, other = holding()
  if not q then
    if other and r.f == a.fence and other.z == 'waiting' then return DONE end -- asked before
    return why
  end
  if q.z == 'sending' and r.p == a.pushes + 1 and q.x == 1 then r.p, q.x, q.z = a.pushes, nil, 'claimed' end
  if q.z ~= 'claimed' then return LOST end
  wait(q, a.code or '', now + a.after)
  save()
  return DONE
end

function steps.decide()
  local q, why, other = holding()
  if not q then
    if other and is_decided(other) then
      if r.f == a.fence and other.v == a.outcome then return DONE end -- asked before
      if other.v == 'unknown' and not other.l then
        other.l = a.outcome
        save()
      end
    end
    return why
  end
  if q.z == 'sending' and not CLOSES[a.outcome] then r.p = r.p - 1 end
  q.z, q.e, q.x, q.u = 'decided', ARGV[3], nil, now + EMIT_GRACE
  q.v, q.d = a.outcome, a.at
  save()
  return DONE
end

function steps.emitted()
  local q = find()
  if q and q.z == 'decided' then
    q.z, q.e, q.k, q.u, q.n = 'emitted', nil, nil, nil, nil
    save()
  end
  return DONE
end

-- drop undoes the claim of a request that turned out to be another message's.
function steps.drop()
  local q, at = find()
  if not q then return DONE end -- asked before
  if not is_decided(q) and q.z ~= 'sending' then
    table.remove(r.q, at)
    count(q, q.z, nil)
  end
  if a.fence > 0 and a.fence == r.f then -- a claim that nobody was told of
    r.f, r.t, r.w = r.b or r.f, nil, nil
    local other = open()
    if other then other.u = now end
  end
  save()
  return DONE
end

-- own notes which message a request is for, and tells whose it was before.
function steps.own()
  local owner = redis.call('GET', KEYS[1]) or a.owner
  if not a.reading then redis.call('SET', KEYS[1], owner, 'PX', a.retention) end
  return {cjson.encode({owner = owner, receivedAt = now})}
end

function steps.birth()
  born()
  return DONE
end

-- due hands out names of records, each for a while to one caller.
function steps.due()
  local out = {cjson.encode({due = redis.call('ZCOUNT', KEYS[2], '-inf', now), open = redis.call('ZCARD', KEYS[2])})}
  for _, record in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, a.limit)) do
    redis.call('ZADD', KEYS[2], 'XX', now + GIVEN_FOR, record)
    out[#out + 1] = record
  end
  return out
end

function steps.work()
  local out, unfinished = {'{}'}, false
  for _, q in ipairs(r and r.q or {}) do
    if q.z ~= 'emitted' then
      unfinished = true
      if due_of(q) <= now then out[#out + 1] = (q.z == 'decided' and '+' or '-') .. q.k end
    end
  end
  if not unfinished then redis.call('ZREM', KEYS[2], name) end
  return out
end

function steps.order()
  local all = redis.call('HGETALL', KEYS[3])
  for i = 1, #all, 2 do
    local scope, text = all[i], all[i + 1]
    local code, given = string.match(text, '^(%a+)|%d+|(%d+)|%d+$')
    local is_over, long_ago = ended(text)
    if code == 'BreakerOpen' then is_over = long_ago end
    if not given or is_over or code == 'Cancelled' and now - given > a.retention then redis.call('HDEL', KEYS[3], scope) end
  end
  if on(redis.call('HGET', KEYS[3], a.scope)) == 'Cancelled' then return DONE end -- which is final
  redis.call('HDEL', KEYS[3], a.scope)
  if a.code then redis.call('HSET', KEYS[3], a.scope, string.format('%s|%.0f|%.0f|%.0f', a.code, a.lasts > 0 and now + a.lasts or 0, now, a.lasts)) end
  return DONE
end

function steps.progress()
  local from, oldest = 0, nil
  local operation = a.operation or ''
  local prefix = operation .. '\0'
  repeat
    local page = redis.call('ZRANGE', KEYS[6], from, from + 999, 'WITHSCORES')
    for i = 1, #page, 2 do
      if string.sub(page[i], 1, #prefix) == prefix then oldest = now - page[i + 1] break end
    end
    from = from + 1000
  until oldest or #page == 0
  return {cjson.encode({age = oldest, codes = codes()}), redis.call('HGET', KEYS[5], operation) or '{}'}
end

function steps.history()
  local out = {cjson.encode({pushes = r and r.p, codes = codes()})}
  for _, q in ipairs(r and r.q or {}) do
    out[#out + 1] = cjson.encode({
      source = q.s, id = q.i, generation = q.g, state = q.z, code = q.c, attempts = q.a, receivedAt = q.r, first = q.v and first(q),
      due = not is_decided(q) and math.max(0, due_of(q) - now) or nil,
    })
  end
  return out
end

local ABOUT_SHARDS = {own = true, birth = true, due = true, order = true, progress = true}
if not ABOUT_SHARDS[ARGV[1]] and not read() then return {'{"unreadable":true}'} end
return steps[ARGV[1]]()
