-- SPDX-License-Identifier: Apache-2.0
-- Control writes money into a scope: a cost that no worker reports, or the ledger's sum.
--
-- KEYS  scope
-- ARGV  msgpack: what ("charge" adds, "raise" lifts to), life ms, amounts {period, nano}
local a = cmsgpack.unpack(ARGV[1])
for _, each in ipairs(a[3]) do
    local number, nano = each[1], each[2]
    local kind = math.floor(number / 2 ^ 40)
    local v = redis.call('HMGET', KEYS[1], 'n' .. kind, 'b' .. kind, 'c' .. kind)
    local known, base, since = tonumber(v[1] or 0), tonumber(v[2] or 0), tonumber(v[3] or 0)
    if a[1] == 'charge' and known == 0 then number = -1 end -- a period that this scope does not keep
    if number > known then known, base, since = number, 0, 0 end
    if number == known then
        -- What workers report goes to `since`; what else is known to have been spent is in `base`.
        if a[1] == 'charge' then since = since + nano else base = math.max(base, nano - since) end
        redis.call('HSET', KEYS[1], 'n' .. kind, known, 'b' .. kind, base, 'c' .. kind, since)
        redis.call('PEXPIRE', KEYS[1], a[2])
    end
end
return 1
