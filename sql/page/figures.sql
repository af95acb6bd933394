-- Question: how many sessions closed without an order in a span of time, and at which stage, beside the span before?
-- Parameters: shop, one shop, or all if empty; from_ms and to_ms, the span, ms since 1970 UTC, to_ms not in it.
-- Grain: the span (now), and the one of the same length before it (before), by when sessions start. Bots are left out.
SELECT
    c.span AS span,
    sum(c.sessions) AS sessions,
    sum(c.lost) AS lost,
    lost / sessions AS loss_rate,
    sum(c.bounced) AS bounced,
    sum(c.browsed) AS browsed,
    sum(c.favorited) AS favorited,
    sum(c.carted) AS carted,
    sum(c.recovered) AS recovered,
    sumMapIf(map(c.currency, c.at_risk), c.at_risk > 0) AS value_at_risk,
    sumMapIf(map(c.currency, c.earned), c.earned > 0) AS revenue
FROM
(
    -- By currency first: a map for each session would take longer than all else.
    SELECT
        if(s.started_at >= fromUnixTimestamp64Milli({from_ms:Int64}), 'now', 'before') AS span,
        ifNull(s.currency, '') AS currency,
        count() AS sessions,
        countIf(s.outcome = 'lost') AS lost,
        countIf(s.lost_stage = 'bounced') AS bounced,
        countIf(s.lost_stage = 'browsed') AS browsed,
        countIf(s.lost_stage = 'favorited') AS favorited,
        countIf(s.lost_stage = 'carted') AS carted,
        countIf(s.outcome = 'lost' AND s.recovered) AS recovered,
        sumIf(s.cart_value, s.outcome = 'lost') AS at_risk,
        sumIf(s.revenue, s.revenue > 0) AS earned
    FROM sessions AS s FINAL
    WHERE NOT s.is_bot
        AND s.started_at >= fromUnixTimestamp64Milli(2 * {from_ms:Int64} - {to_ms:Int64})
        AND s.started_at < fromUnixTimestamp64Milli({to_ms:Int64})
        AND ({shop:String} = '' OR s.shop_id = {shop:String})
    GROUP BY span, currency
) AS c
GROUP BY span
ORDER BY span DESC
