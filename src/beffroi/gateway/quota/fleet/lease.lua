-- SPDX-License-Identifier: Apache-2.0
-- One round trip of one worker: what it has used is noted, what it no longer needs is taken back, and what it needs is
-- lent under every limit of every scope it names, or under none. All of it again, after an answer that was lost, changes
-- nothing: amounts lent are absolute, notes carry a number.
--
-- KEYS  house, alive, then for each scope: its sums, its holders
-- ARGV  msgpack: holder, epoch known, house time estimated (ms, 0: unknown), drift, epoch to begin, known, channel, asks
--       ask: windows {name, quantity, slot ms, span, limit}, pools {running, hard, soft, cap; -1: none},
--            periods {budget, month; 0: none}, note number, notes {quantity, at ms, amount}, costs {period, nano, 1: of the current period},
--            lent[4] need[4] waiting[4] ahead[4] of requests tokens input output,
--            must[3] need[3] waiting[3] ahead[3] of running bound estimate,
--            joins: false, or {spent seen {period, nano}, sums seen {name, amount}}, life ms
-- →     msgpack: house time, drift, epoch, whole, workers alive, again, scopes
--       scope: lent[4], held[3], share[7], sums[#windows], spent {period, nano}, refusals, scope has other holders
local a = cmsgpack.unpack(ARGV[1])
local holder, est, channel, asks = a[1], a[3], a[7], a[8]
local HOUSE, ALIVE = KEYS[1], KEYS[2]
local DEAD, LOOK, FORGET, BELIEVE, SLEW, SHARE, NEAR = 45000, 5000, 3600000, 600000, 1000, 4, 12
local KIND = 2 ^ 40

-- House time: the server's clock, whose steps are seen beside the workers' monotonic clocks and taken out again.
local t = redis.call('TIME')
local wall = t[1] * 1000 + math.floor(t[2] / 1000)
local h = redis.call('HMGET', HOUSE, 'epoch', 'whole', 'last', 'off', 'drift', 'step', 'since', 'live')
local epoch, now, off, drift, step, since
if not h[1] then
    epoch, now = a[5], est > 0 and est or wall
    off, drift, step, since = now - wall, est > 0 and a[4] or 0, 0, 0
    redis.call('HSET', HOUSE, 'epoch', epoch, 'whole', 0)
else
    epoch, off, drift, step, since = h[1], tonumber(h[4]), tonumber(h[5]), tonumber(h[6]), tonumber(h[7])
    now = math.max(tonumber(h[3]), wall + off)
    if est > 0 and math.abs(wall + off - est) > SLEW then
        now = math.max(tonumber(h[3]), est)
        off = now - wall
    end
end
local jump = wall - now - drift
if math.abs(jump) <= SLEW then
    drift, since = wall - now, 0
elseif since == 0 or math.abs(jump - step) > SLEW then
    step, since = jump, now
elseif now - since >= BELIEVE then
    drift, since = wall - now, 0
end
redis.call('HSET', HOUSE, 'last', now, 'off', off, 'drift', drift, 'step', step, 'since', since)

local beat = redis.call('HGET', ALIVE, holder)
local live = tonumber(h[8] or 1)
if not beat or now - tonumber(beat) > 1000 or #asks == 0 then
    redis.call('HSET', ALIVE, holder, now)
end
if not beat or #asks == 0 then
    local all, gone = redis.call('HGETALL', ALIVE), {}
    live = 0
    for i = 1, #all, 2 do
        local age = now - tonumber(all[i + 1])
        if age > FORGET then gone[#gone + 1] = all[i] elseif age <= DEAD then live = live + 1 end
    end
    if #gone > 0 then redis.call('HDEL', ALIVE, unpack(gone)) end
    redis.call('HSET', HOUSE, 'live', live)
end
local whole = h[1] and h[2] == '1'
if (a[6] == 1 and not beat) or (#asks > 0 and a[2] ~= epoch) then
    return cmsgpack.pack({now, drift, epoch, whole, live, true, {}})
end

local function slot_of(s, name, k)
    local field = name .. k
    local v = s.cells[field]
    if not v then
        v = tonumber(redis.call('HGET', s.key, field) or 0)
        s.cells[field] = v
    end
    return v
end

local function put(s, w, k, amount)
    local field = w.name .. k
    s.cells[field] = slot_of(s, w.name, k) + amount
    s.set[field] = true
    w.sum = w.sum + amount
    if k < w.oldest then w.oldest = k end
end

-- Take an amount out again: from the slot it went into, or from the nearest that hold something.
local function take_back(s, w, k, amount)
    local first = math.max(w.oldest, k - NEAR)
    for at = k, first, -1 do
        if amount <= 0 then return end
        local some = math.min(amount, slot_of(s, w.name, at))
        if some > 0 then put(s, w, at, -some) amount = amount - some end
    end
    for at = math.max(k + 1, w.oldest), math.min(w.now, k + NEAR) do
        if amount <= 0 then return end
        local some = math.min(amount, slot_of(s, w.name, at))
        if some > 0 then put(s, w, at, -some) amount = amount - some end
    end
end

local function slide(s, w)
    local first = w.now - w.span
    if w.oldest >= first then return end
    local fields = {}
    for k = w.oldest, math.min(first - 1, w.oldest + w.span) do fields[#fields + 1] = w.name .. k end
    local values = redis.call('HMGET', s.key, unpack(fields))
    local dead = {}
    for i, v in ipairs(values) do
        if v then w.sum = w.sum - tonumber(v) dead[#dead + 1] = fields[i] end
    end
    if #dead > 0 then redis.call('HDEL', s.key, unpack(dead)) end
    w.oldest = first
end

local function until_room(s, w, over)
    local fields = {}
    for k = w.oldest, w.now do fields[#fields + 1] = w.name .. k end
    local values = redis.call('HMGET', s.key, unpack(fields))
    for i, field in ipairs(fields) do
        over = over - (s.cells[field] or tonumber(values[i] or 0))
        if over <= 0 then return math.max(1, (w.oldest + i + w.span) * w.ms - now) end
    end
    return (w.span + 1) * w.ms
end

-- What holders hold who have not been heard of for so long that they are dead is nobody's.
local function bury(s)
    if s.buried or now - s.looked < 1000 then return end
    s.buried, s.looked = true, now
    local all, ids = redis.call('HGETALL', s.holders), {}
    for i = 1, #all, 2 do ids[#ids + 1] = all[i] end
    if #ids == 0 then return end
    local beats = redis.call('HMGET', ALIVE, unpack(ids))
    local totals = {s.mine[5], s.mine[6], s.mine[7]}
    for i, id in ipairs(ids) do
        if id ~= holder then
            local it = cmsgpack.unpack(all[2 * i])
            if beats[i] and now - tonumber(beats[i]) <= DEAD then
                for p = 1, 3 do totals[p] = totals[p] + it[4 + p] end
            elseif not beats[i] then
                redis.call('HDEL', s.holders, id)
            elseif it[5] ~= 0 or it[6] ~= 0 or it[7] ~= 0 then
                it[5], it[6], it[7] = 0, 0, 0
                redis.call('HSET', s.holders, id, cmsgpack.pack(it))
            end
        end
    end
    s.held = totals
end

local function account(s, number)
    local kind = math.floor(number / KIND)
    local it = s.accounts[kind]
    if not it then
        local v = redis.call('HMGET', s.key, 'n' .. kind, 'b' .. kind, 'c' .. kind)
        it = {number = tonumber(v[1] or 0), base = tonumber(v[2] or 0), since = tonumber(v[3] or 0)}
        s.accounts[kind] = it
    end
    if number > it.number then it.number, it.base, it.since, it.dirty = number, 0, 0, true end
    return it
end

local scopes, refused = {}, false
for i, q in ipairs(asks) do
    local s = {key = KEYS[2 * i + 1], holders = KEYS[2 * i + 2], cells = {}, set = {}, windows = {}, accounts = {}}
    scopes[i] = s
    local names = {'h1', 'h2', 'h3', 'looked', 'recalled'}
    for _, w in ipairs(q[1]) do names[#names + 1] = w[1] .. 'S' names[#names + 1] = w[1] .. 'O' end
    local v = redis.call('HMGET', s.key, unpack(names))
    s.held = {tonumber(v[1] or 0), tonumber(v[2] or 0), tonumber(v[3] or 0)}
    s.looked, s.recalled = tonumber(v[4] or 0), tonumber(v[5] or 0)
    for j, w in ipairs(q[1]) do
        local it = {name = w[1], of = w[2], ms = w[3], span = w[4], limit = w[5]}
        it.now = math.floor(now / it.ms)
        it.sum, it.oldest = tonumber(v[4 + 2 * j] or 0), tonumber(v[5 + 2 * j] or it.now)
        slide(s, it)
        s.windows[j] = it
    end
    local blob = redis.call('HGET', s.holders, holder)
    s.mine = blob and cmsgpack.unpack(blob) or {0, 0, 0, 0, 0, 0, 0, 0}
    local mine, lent, must, joins = s.mine, q[7], q[11], q[15]
    if joins then
        for p = 1, 4 do mine[p] = lent[p] end
        for _, seen in ipairs(joins[1]) do
            local it = account(s, seen[1])
            if it.number == seen[1] and seen[2] > it.base then it.base, it.dirty = seen[2], true end
        end
        for _, seen in ipairs(joins[2]) do
            for _, w in ipairs(s.windows) do
                local known = tonumber(w.name == seen[1] and redis.call('HGET', s.key, w.name .. 'B') or 0)
                local lack = seen[2] - known
                if w.name == seen[1] and lack > 0 then
                    redis.call('HSET', s.key, w.name .. 'B', seen[2]) -- others saw the same sum, or a later one
                    -- Nobody knows when it was used: the minute as if it were just now, longer ones as if evenly.
                    if w.ms < 1000 then put(s, w, w.now, lack) else
                        local each, rest = math.floor(lack / w.span), lack % w.span
                        for k = w.now - w.span + 1, w.now do
                            local some = each + (k > w.now - rest and 1 or 0)
                            if some > 0 then put(s, w, k, some) end
                        end
                    end
                end
            end
        end
    end
    if q[4] > mine[8] then
        mine[8] = q[4]
        for _, d in ipairs(q[5]) do
            for _, w in ipairs(s.windows) do
                if w.of == d[1] then
                    local k = math.min(w.now, math.floor(d[2] / w.ms))
                    if k >= w.now - w.span then
                        if d[3] > 0 then put(s, w, k, d[3]) else take_back(s, w, k, -d[3]) end
                    end
                end
            end
        end
        for _, c in ipairs(q[6]) do
            local it = account(s, c[1])
            if it.number == c[1] or c[3] == 1 then it.since, it.dirty = it.since + c[2], true end
        end
    end
    for p = 1, 3 do
        s.held[p] = s.held[p] + must[p] - mine[4 + p]
        mine[4 + p] = must[p]
    end
    if now - s.looked >= LOOK then bury(s) end -- also where nobody lacks anything: what is held is shown to people
    s.budget = q[3][1] > 0 and account(s, q[3][1]) or nil
    s.month = q[3][2] > 0 and account(s, q[3][2]) or nil
    -- What has been lent beyond all that is wanted came with an answer that was lost, or is given back.
    for p = 1, 4 do
        local back = mine[p] - (lent[p] + math.max(q[8][p], q[9][p]) + q[10][p])
        if back > 0 then
            mine[p] = mine[p] - back
            for _, w in ipairs(s.windows) do if w.of == p then take_back(s, w, w.now, back) end end
        end
    end
    -- Does what is needed fit?
    local no = {}
    for _, w in ipairs(s.windows) do
        local need = q[8][w.of] > 0 and lent[w.of] + q[8][w.of] - mine[w.of] or 0
        if need > 0 and w.sum + need > w.limit then
            local wait = need > w.limit and -1 or until_room(s, w, w.sum + need - w.limit)
            no[#no + 1] = {w.name, w.sum, 0, q[8][w.of], w.limit, wait}
        end
    end
    local pools = q[2]
    local function lacks(p, limit, spent)
        if limit < 0 or q[12][p] <= 0 then return false end
        if spent + s.held[p] + q[12][p] > limit then bury(s) end
        return spent + s.held[p] + q[12][p] > limit
    end
    if lacks(1, pools[1], 0) then no[#no + 1] = {'concurrency', s.held[1], 0, q[12][1], pools[1], 0} end
    local spent = s.budget and s.budget.base + s.budget.since or 0
    local month = s.month and s.month.base + s.month.since or 0
    if q[12][2] > 0 and (pools[2] >= 0 or pools[4] >= 0) and not whole then
        no[#no + 1] = {'rebuilding', 0, 0, q[12][2], 0, 0}
    else
        if lacks(2, pools[2], spent) then no[#no + 1] = {'hard_budget', spent, s.held[2], q[12][2], pools[2], 0} end
        if lacks(2, pools[4], month) then no[#no + 1] = {'monthly_cap', month, s.held[2], q[12][2], pools[4], 0} end
    end
    if lacks(3, pools[3], spent) then no[#no + 1] = {'soft_budget', spent, s.held[3], q[12][3], pools[3], 0} end
    s.no, s.spent, s.monthly = no, spent, month
    if #no > 0 then refused = true end
end

local answer = {}
for i, q in ipairs(asks) do
    local s = scopes[i]
    local mine, share = s.mine, {}
    for p = 1, 7 do
        local room = -1
        if p <= 4 then
            for _, w in ipairs(s.windows) do
                if w.of == p then
                    local some = math.max(0, w.limit - w.sum)
                    room = room < 0 and some or math.min(room, some)
                end
            end
        else
            local limits = p == 5 and {{q[2][1], 0}} or p == 6 and {{q[2][2], s.spent}, {q[2][4], s.monthly}}
                or {{q[2][3], s.spent}}
            for _, l in ipairs(limits) do
                if l[1] >= 0 then
                    local some = math.max(0, l[1] - l[2] - s.held[p - 4])
                    room = room < 0 and some or math.min(room, some)
                end
            end
            if p == 6 and not whole and room > 0 then room = 0 end
        end
        if room >= 0 and not refused then
            local has, need, waiting, ahead
            if p <= 4 then
                has, need, waiting, ahead = mine[p] - q[7][p], q[8][p], q[9][p], q[10][p]
            else
                has, need, waiting, ahead = 0, q[12][p - 4], q[13][p - 4], q[14][p - 4]
            end
            local asked = math.max(need, waiting)
            local some = math.min(room, math.max(0, asked - has))
            room = room - some
            share[p] = math.floor(room / (SHARE * math.max(1, live)))
            some = some + math.min(share[p], math.max(0, asked + ahead - has - some))
            if some > 0 then
                mine[p] = mine[p] + some
                if p > 4 then s.held[p - 4] = s.held[p - 4] + some else
                    for _, w in ipairs(s.windows) do if w.of == p then put(s, w, w.now, some) end end
                end
            end
        else
            share[p] = room < 0 and -1 or math.floor(room / (SHARE * math.max(1, live)))
        end
    end
    local put_ = {'h1', s.held[1], 'h2', s.held[2], 'h3', s.held[3]}
    local function also(name, value) put_[#put_ + 1] = name put_[#put_ + 1] = value end
    local sums = {}
    for j, w in ipairs(s.windows) do
        sums[j] = w.sum
        also(w.name .. 'S', w.sum)
        also(w.name .. 'O', w.oldest)
    end
    for field in pairs(s.set) do also(field, s.cells[field]) end
    local spent = {}
    for kind, it in pairs(s.accounts) do
        spent[#spent + 1] = {it.number, it.base + it.since}
        if it.dirty then
            also('n' .. kind, it.number)
            also('b' .. kind, it.base)
            also('c' .. kind, it.since)
        end
    end
    if s.buried then also('looked', s.looked) end
    local others = false
    if #s.no > 0 and s.no[1][1] ~= 'rebuilding' and live > 1 then
        others = true
        if now - s.recalled >= 20 then
            also('recalled', now)
            redis.call('PUBLISH', channel, s.key)
        end
    end
    redis.call('HSET', s.key, unpack(put_))
    redis.call('HSET', s.holders, holder, cmsgpack.pack(mine))
    redis.call('PEXPIRE', s.key, q[16])
    redis.call('PEXPIRE', s.holders, q[16])
    answer[i] = {{mine[1], mine[2], mine[3], mine[4]}, {mine[5], mine[6], mine[7]}, share, sums, spent, s.no, others}
end
return cmsgpack.pack({now, drift, epoch, whole, live, false, answer})
