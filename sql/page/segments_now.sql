-- Question: how many are in each segment, and how many entered and left it in a span of time?
-- Parameters: shop, one shop, or all if empty; from_ms and to_ms, the span, ms since 1970 UTC, to_ms not in it.
-- Grain: one segment. Of who entered or left more than once in the span, the last time counts. by_silence are those of
--   who entered that did so because time had passed.
SELECT
    m.segment AS segment,
    countIf(m.is_member) AS members,
    countIf(m.is_member AND m.moved) AS entered,
    countIf(m.is_member AND m.moved AND m.cause = 'time') AS by_silence,
    countIf(NOT m.is_member AND m.moved) AS left
FROM
(
    SELECT
        segment, is_member, cause,
        at >= fromUnixTimestamp64Milli({from_ms:Int64}) AND at < fromUnixTimestamp64Milli({to_ms:Int64}) AS moved
    FROM segments FINAL
    WHERE {shop:String} = '' OR shop_id = {shop:String}
) AS m
GROUP BY segment
ORDER BY members DESC, segment
