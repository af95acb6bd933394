-- Question: at which stage were sessions lost, span by span?
-- Parameters: shop, one shop, or all together if empty; from_ms and to_ms, the span, ms since 1970 UTC, to_ms not in it;
--   bucket_s, the seconds that one row is about.
-- Grain: one span of bucket_s, by when sessions close; lost sessions, without bots.
SELECT
    toDateTime(toStartOfInterval(w.minute, toIntervalSecond({bucket_s:UInt32})), 'UTC') AS at,
    sumIf(w.lost, w.scope_value = 'bounced') AS bounced,
    sumIf(w.lost, w.scope_value = 'browsed') AS browsed,
    sumIf(w.lost, w.scope_value = 'favorited') AS favorited,
    sumIf(w.lost, w.scope_value = 'carted') AS carted
FROM loss_windows AS w FINAL
WHERE w.scope = 'stage' AND w.shop_id = {shop:String}
    AND w.minute >= fromUnixTimestamp64Milli({from_ms:Int64}) AND w.minute < fromUnixTimestamp64Milli({to_ms:Int64})
GROUP BY at
ORDER BY at
