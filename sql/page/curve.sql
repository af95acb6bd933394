-- Question: how has the loss rate gone, beside what was expected of it and the band above which it is a spike?
-- Parameters: shop, one shop, or all together if empty; from_ms and to_ms, the span, ms since 1970 UTC, to_ms not in it;
--   bucket_s, the seconds that one row is about.
-- Grain: one span of bucket_s, by when sessions close. expected is of its sessions; band is the mean of its minutes', each
--   of which is judged with those before it. Both are null where nothing was known yet. out counts minutes out of the band.
SELECT
    toDateTime(toStartOfInterval(w.minute, toIntervalSecond({bucket_s:UInt32})), 'UTC') AS at,
    sum(w.closed) AS closed,
    sum(w.lost) AS lost,
    lost / nullIf(closed, 0) AS loss_rate,
    sumOrNull(w.expected_lost) / nullIf(sumIf(w.closed, isNotNull(w.expected_lost)), 0) AS expected,
    avgOrNull(w.band) AS band,
    countIf(w.verdict IN ('pending', 'firing', 'held')) AS out,
    sum(w.active_carts) AS active_carts,
    sum(w.orders) AS orders
FROM loss_windows AS w FINAL
WHERE w.scope = 'shop' AND w.shop_id = {shop:String}
    AND w.minute >= fromUnixTimestamp64Milli({from_ms:Int64}) AND w.minute < fromUnixTimestamp64Milli({to_ms:Int64})
GROUP BY at
ORDER BY at
