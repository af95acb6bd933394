-- Question: how many sessions closed without an order in a span of time, and at which stage, beside the span before?
-- Parameters: shop, one shop, or all if empty; from_ms and to_ms, the span, ms since 1970 UTC, to_ms not in it.
-- Grain: the span (now), and the one of the same length before it (before), by when sessions start. Bots are left out.
SELECT
    if(c.is_now, 'now', 'before') AS span,
    sum(c.closed) AS sessions,
    sumIf(c.closed, c.outcome = 'lost') AS lost,
    lost / sessions AS loss_rate,
    sumIf(c.closed, c.lost_stage = 'bounced') AS bounced,
    sumIf(c.closed, c.lost_stage = 'browsed') AS browsed,
    sumIf(c.closed, c.lost_stage = 'favorited') AS favorited,
    sumIf(c.closed, c.lost_stage = 'carted') AS carted,
    sumIf(c.closed, c.outcome = 'lost' AND c.recovered) AS recovered,
    sumMapIf(map(ifNull(c.currency, ''), c.in_carts), c.outcome = 'lost' AND c.in_carts > 0) AS value_at_risk,
    sumMapIf(map(ifNull(c.currency, ''), c.earned), c.earned > 0) AS revenue
FROM
(
    -- By all that tells them apart first: a map for each session would take longer than all else.
    SELECT
        s.started_at >= fromUnixTimestamp64Milli({from_ms:Int64}) AS is_now,
        s.currency AS currency,
        s.outcome AS outcome,
        s.lost_stage AS lost_stage,
        s.recovered AS recovered,
        count() AS closed,
        sum(s.cart_value) AS in_carts,
        sumIf(s.revenue, s.revenue > 0) AS earned
    FROM sessions AS s FINAL
    -- What the key says comes before FINAL, which then merges less.
    PREWHERE s.started_at >= fromUnixTimestamp64Milli(2 * {from_ms:Int64} - {to_ms:Int64})
        AND s.started_at < fromUnixTimestamp64Milli({to_ms:Int64})
        AND ({shop:String} = '' OR s.shop_id = {shop:String})
    WHERE NOT s.is_bot
    GROUP BY is_now, currency, outcome, lost_stage, recovered
) AS c
GROUP BY span
ORDER BY span DESC
