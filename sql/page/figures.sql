-- Question: how many sessions closed without an order in a span of time, and at which stage, beside the span before?
-- Parameters: shop, one shop, or all if empty; from_ms and to_ms, the span, ms since 1970 UTC, to_ms not in it.
-- Grain: the span (now), and the one of the same length before it (before), by when sessions start. Bots are left out.
SELECT
    if(s.started_at >= fromUnixTimestamp64Milli({from_ms:Int64}), 'now', 'before') AS span,
    count() AS sessions,
    countIf(s.outcome = 'lost') AS lost,
    lost / sessions AS loss_rate,
    countIf(s.lost_stage = 'bounced') AS bounced,
    countIf(s.lost_stage = 'browsed') AS browsed,
    countIf(s.lost_stage = 'favorited') AS favorited,
    countIf(s.lost_stage = 'carted') AS carted,
    countIf(s.outcome = 'lost' AND s.recovered) AS recovered,
    sumMapIf(map(ifNull(s.currency, ''), s.cart_value), s.outcome = 'lost' AND s.cart_value > 0) AS value_at_risk,
    sumMapIf(map(ifNull(s.currency, ''), s.revenue), s.revenue > 0) AS revenue
FROM sessions AS s FINAL
WHERE NOT s.is_bot
    AND s.started_at >= fromUnixTimestamp64Milli(2 * {from_ms:Int64} - {to_ms:Int64})
    AND s.started_at < fromUnixTimestamp64Milli({to_ms:Int64})
    AND ({shop:String} = '' OR s.shop_id = {shop:String})
GROUP BY span
ORDER BY span DESC
